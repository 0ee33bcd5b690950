//! Searches on simulated devices, with 10 % of noise.

use super::*;
use crate::driver::model::{BYTES, Noise, Played, Rewarding, search_on};
use proptest::prelude::*;

const CONTENTIONS: [Contention; 2] = [Contention::Alone, Contention::Shared];

fn start() -> (Search, Duration) {
    (Search::new(BYTES), Duration::from_secs(1))
}

fn contention() -> impl Strategy<Value = Contention> {
    prop_oneof![Just(Contention::Alone), Just(Contention::Shared), Just(Contention::Latency)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Wherever the knee is, and also after a time without any answer.
    #[test]
    fn the_window_is_found(knee in 0u32..9, contention in contention(), stalls in any::<bool>(), seed in any::<u64>()) {
        prop_assert_eq!(search_on(1 << (20 + knee), contention, stalls, seed), Ok(()));
    }

    /// A rate that does not depend on the window: the smallest ones are enough.
    #[test]
    fn a_constant_rate_needs_little(contention in contention(), seed in any::<u64>()) {
        let ((mut search, now), mut noise) = (start(), Noise::new(seed));
        Rewarding::new(1e9, 1).play(&mut search, now, 900.0, contention, &mut noise);
        prop_assert!(search.found(contention) <= 4 << 20, "{}", search.found(contention));
    }

    /// The device changes under way: its rate, its knee, or both. A knee that is farther away than this takes more time.
    #[test]
    fn a_device_that_changes_is_followed(before in 0u32..9, after in 0u32..9, rate in 1u32..8, contention in contention(), seed in any::<u64>()) {
        prop_assume!(before.abs_diff(after) <= 4);
        let ((mut search, now), mut noise) = (start(), Noise::new(seed));
        let (now, _) = Rewarding::new(2e9, 1 << (20 + before)).play(&mut search, now, 300.0, contention, &mut noise);
        let device = Rewarding::new(f64::from(rate) * 5e8, 1 << (20 + after));
        device.play(&mut search, now, 900.0, contention, &mut noise);
        let (found, share) = (search.found(contention), device.rate_with(search.found(contention)) / device.rate);
        prop_assert!(share >= 0.85, "{found} bytes have {share} of the rate");
        prop_assert!(found <= 4 << (20 + after).max(20), "{found} bytes where {} are enough", 1u64 << (20 + after));
    }

    /// A host that takes half of the device away now and then is not taken for the window.
    #[test]
    fn a_noisy_host_does_not_shrink_the_window(knee in 2u32..9, contention in contention(), seed in any::<u64>()) {
        let ((mut search, now), mut noise) = (start(), Noise::new(seed));
        let device = Rewarding { pauses: 1.0, ..Rewarding::new(2e9, 1 << (20 + knee)) };
        device.play(&mut search, now, 600.0, contention, &mut noise);
        let share = device.rate_with(search.found(contention)) / device.rate;
        prop_assert!(share >= 0.85, "{} bytes have {share} of the rate", search.found(contention));
    }

    /// Reads and writes, each with a window of its own, share one rate by what they have in flight.
    #[test]
    fn reads_and_writes_do_not_starve_each_other(knee in 2u32..7, seed in any::<u64>()) {
        let ((mut reads, mut now), mut noise) = (start(), Noise::new(seed));
        let mut writes = Search::new(BYTES);
        let device = Rewarding::new(2e9, 1 << (20 + knee));
        let mut came = [0.0; 2];
        for tick in 0..200_000u32 {
            now += Duration::from_millis(2);
            let both = reads.size() + writes.size();
            let all = device.rate_with(both) * 0.002 * (0.8 + 0.4 * noise.share());
            for (index, search) in [&mut reads, &mut writes].into_iter().enumerate() {
                let part = all * search.size() as f64 / both as f64;
                search.sample(now, part as u64, true, Contention::Shared);
                if tick > 100_000 { came[index] += part; }
            }
        }
        let rate = (came[0] + came[1]) / 198.0;
        prop_assert!(rate >= 0.8 * device.rate, "{rate} of {}", device.rate);
        prop_assert!(came[0].min(came[1]) >= 0.01 * (came[0] + came[1]), "{came:?}");
    }

    /// Once a window is found, probes cost at most 1 % of the rate, and it makes at most one step a second.
    #[test]
    fn a_found_window_is_calm(knee in 0u32..9, contention in contention(), seed in any::<u64>()) {
        let ((mut search, now), mut noise) = (start(), Noise::new(seed));
        let device = Rewarding::new(2e9, 1 << (20 + knee));
        let (now, _) = device.play(&mut search, now, 600.0, contention, &mut noise);
        let (_, Played { came, without_probes, steps }) = device.play(&mut search, now, 300.0, contention, &mut noise);
        prop_assert!(came >= 0.985 * without_probes, "{}", came / without_probes);
        prop_assert!(steps.windows(2).all(|pair| pair[1] >= pair[0] + Duration::from_secs(1)), "{steps:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Wherever a profile says that the search begins, it ends where it ends without one.
    #[test]
    fn a_profile_that_is_wrong_does_not_pin_the_window(from in 0u32..9, knee in 0u32..9, seed in any::<u64>()) {
        let ((mut search, now), mut noise) = (start(), Noise::new(seed));
        search.seed(Some(1 << (20 + from)), Some(1 << (20 + from)));
        let device = Rewarding::new(2e9, 1 << (20 + knee));
        device.play(&mut search, now, 1500.0, Contention::Alone, &mut noise);
        let found = search.found(Contention::Alone);
        let share = device.rate_with(found) / device.rate;
        prop_assert!(share >= 0.9, "{found} bytes have {share} of the rate");
        prop_assert!(found <= 4 << (20 + knee), "{found} bytes where {} are enough", 1u64 << (20 + knee));
    }
}

#[test]
fn a_search_that_has_made_a_step_takes_no_seed() {
    let ((mut search, now), mut noise) = (start(), Noise::new(5));
    let (_, played) = Rewarding { noise: 0.0, ..Rewarding::new(2e9, 8 << 20) }.play(&mut search, now, 30.0, Contention::Alone, &mut noise);
    assert!(!played.steps.is_empty());
    let found = search.found(Contention::Alone);
    search.seed(Some(256 << 20), None);
    assert_eq!(search.found(Contention::Alone), found);
}

#[test]
fn a_seed_has_the_rate_from_the_first_moment() {
    let ((mut search, now), mut noise) = (start(), Noise::new(6));
    search.seed(Some(256 << 20), Some(64 << 20));
    assert_eq!([search.found(Contention::Alone), search.found(Contention::Shared)], [256 << 20, 64 << 20]);
    let device = Rewarding { noise: 0.0, ..Rewarding::new(2e9, 256 << 20) };
    let (_, Played { came, .. }) = device.play(&mut search, now, 0.5, Contention::Alone, &mut noise);
    assert!(came >= 0.99 * device.rate * 0.5, "{came}");
}

#[test]
fn the_first_gigabyte_does_not_notice_the_search() {
    for knee in 0..=6 {
        for seed in 0..8 {
            let ((mut search, now), mut noise) = (start(), Noise::new(seed));
            let device = Rewarding { noise: 0.0, ..Rewarding::new(2e9, 1 << (20 + knee)) };
            let (_, Played { came, .. }) = device.play(&mut search, now, 0.5, Contention::Alone, &mut noise);
            let fixed = device.rate_with(64 << 20) * 0.5;
            assert!(came >= 0.99 * fixed, "knee {} MiB: {}", 1 << knee, came / fixed);
        }
    }
}

#[test]
fn a_probe_that_is_never_filled_is_given_up() {
    for contention in CONTENTIONS {
        let ((mut search, now), mut noise) = (start(), Noise::new(1));
        let device = Rewarding::new(2e9, 4 << 20);
        let mut now = now;
        // Until a probe is in force.
        while search.size() == search.found(contention) {
            (now, _) = device.play(&mut search, now, 0.002, contention, &mut noise);
        }
        for _ in 0..1200 {
            now += Duration::from_millis(1);
            search.sample(now, 0, false, contention);
        }
        assert_eq!(search.size(), search.found(contention));
    }
}

#[test]
fn urgent_requests_seldom_meet_a_larger_window() {
    for seed in 0..8 {
        let ((mut search, now), mut noise) = (start(), Noise::new(seed));
        let device = Rewarding::new(2e9, 4 << 20);
        let (mut now, _) = device.play(&mut search, now, 60.0, Contention::Latency, &mut noise);
        let found = search.found(Contention::Latency);
        let mut larger = 0;
        for _ in 0..30_000 {
            larger += u32::from(search.size() > found);
            (now, _) = device.play(&mut search, now, 0.002, Contention::Latency, &mut noise);
        }
        assert!(larger < 600, "seed {seed}: {} % of the time", f64::from(larger) / 300.0);
    }
}

#[test]
fn those_that_share_have_no_more_than_one_that_is_alone() {
    let ((mut search, now), mut noise) = (start(), Noise::new(3));
    let device = Rewarding::new(2e9, 256 << 20);
    device.play(&mut search, now, 300.0, Contention::Latency, &mut noise);
    let found = [Contention::Latency, Contention::Shared, Contention::Alone].map(|contention| search.found(contention));
    assert!(found.is_sorted(), "{found:?}");
    assert!(found[0] >= 128 << 20, "{found:?}");
}

#[test]
fn a_ladder_has_its_bounds() {
    for (min, max) in [(1, 1), (16, 128), (16, 15), (1 << 20, 3 << 20)] {
        let search = Search::new(Bounds { min, max, start: [max, max / 2] });
        assert!(search.size() <= max && search.size() > 0, "{min} to {max}: {}", search.size());
        assert_eq!(search.sizes.last(), Some(&max));
        assert!(search.sizes.is_sorted());
    }
}
