//! Simulated devices for the tests of what is pure here: one that rewards windows, and one that serves a schedule. The
//! simulation plays them too, so planted bugs of theirs are found as all others are.

use super::flows::{FlowKey, Source};
use super::probe::{Bounds, Search};
use super::schedule::{Contention, Issued, Next, Price, Round, Schedule};
use crate::plan::Direction;
use crate::priority::Priority;
use crate::slots::Slots;
use std::collections::VecDeque;
use std::time::Duration;

/// A stream of numbers that look random, the same for the same seed.
pub(super) struct Noise(u64);

impl Noise {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 0 to 1.
    pub(super) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// With mean 0 and deviation 1.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.share()).sum::<f64>() - 6.0
    }
}

/// A device whose rate grows with what is in flight, up to a knee.
pub(super) struct Rewarding {
    /// Bytes a second.
    pub(super) rate: f64,
    pub(super) knee: f64,
    /// The deviation of its rate from one moment to the next.
    pub(super) noise: f64,
    /// How often its host takes half of it away for a tenth of a second, per second.
    pub(super) pauses: f64,
    /// It answers nothing.
    pub(super) stalls: bool,
}

/// How a game went.
pub(super) struct Played {
    /// What came, and what would have come without any probe.
    pub(super) came: f64,
    pub(super) without_probes: f64,
    /// When the window of this contention changed.
    pub(super) steps: Vec<Duration>,
}

/// How long the noise of a device stays the same, and a tick, in seconds.
const MOMENT: f64 = 0.016;
const TICK: f64 = 0.002;

impl Rewarding {
    pub(super) fn new(rate: f64, knee: u64) -> Self {
        Self { rate, knee: knee as f64, noise: 0.1, pauses: 0.0, stalls: false }
    }

    /// The rate with so much in flight.
    pub(super) fn rate_with(&self, bytes: u64) -> f64 {
        self.rate * (bytes as f64 / self.knee).min(1.0)
    }

    /// A program that always has more to do uses it for so many seconds. Returns the time at the end.
    pub(super) fn play(
        &self,
        search: &mut Search,
        from: Duration,
        seconds: f64,
        contention: Contention,
        noise: &mut Noise,
    ) -> (Duration, Played) {
        let mut played = Played { came: 0.0, without_probes: 0.0, steps: Vec::new() };
        let (mut now, mut factor, mut moment, mut paused) = (from, 1.0, 0.0, 0.0);
        let mut found = search.found(contention);
        search.sample(now, 0, true, contention);
        for _ in 0..(seconds / TICK) as u64 {
            moment -= TICK;
            paused -= TICK;
            if moment <= 0.0 {
                (moment, factor) = (MOMENT, (1.0 + self.noise * noise.normal()).max(0.1));
            }
            if noise.share() < self.pauses * TICK {
                paused = 0.1;
            }
            let factor = if self.stalls { 0.0 } else { factor * if paused > 0.0 { 0.5 } else { 1.0 } };
            let came = self.rate_with(search.size()) * TICK * factor;
            played.came += came;
            played.without_probes += self.rate_with(search.found(contention)) * TICK * factor;
            now += Duration::from_secs_f64(TICK);
            search.sample(now, came as u64, true, contention);
            if search.found(contention) != found {
                found = search.found(contention);
                played.steps.push(now);
            }
        }
        (now, played)
    }
}

/// Bounds of a window in bytes, as a device has them by default.
pub(super) const BYTES: Bounds = Bounds { min: 1 << 20, max: 256 << 20, start: [64 << 20, 8 << 20] };

/// A window is searched for on a device with this knee. Returns what is wrong with the one that was found. With this
/// noise one search in some seven hundred stays where it began, so two have to fail.
pub(super) fn search_on(knee: u64, contention: Contention, stalls: bool, seed: u64) -> Result<(), String> {
    search_once(knee, contention, stalls, seed).or_else(|_| search_once(knee, contention, stalls, seed ^ 1 << 33))
}

fn search_once(knee: u64, contention: Contention, stalls: bool, seed: u64) -> Result<(), String> {
    let (mut search, mut noise) = (Search::new(BYTES), Noise::new(seed));
    let mut device = Rewarding::new(2e9, knee);
    let mut now = Duration::from_secs(1);
    if stalls {
        (now, _) = device.play(&mut search, now, 20.0, contention, &mut noise);
        device.stalls = true;
        (now, _) = device.play(&mut search, now, 20.0, contention, &mut noise);
        device.stalls = false;
    }
    device.play(&mut search, now, 1500.0, contention, &mut noise);
    let (found, least) = (search.found(contention), if contention == Contention::Alone { 0.95 } else { 0.85 });
    let share = device.rate_with(found) / device.rate;
    if share < least {
        return Err(format!("a window that never grows: {found} bytes where {knee} are rewarded, {contention:?}"));
    }
    if found > 4 * knee.next_power_of_two() {
        return Err(format!("a window that never shrinks: {found} bytes where {knee} are enough, {contention:?}"));
    }
    Ok(())
}

/// One class has so many flows, which always have requests of this many bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demand {
    pub(super) class: Priority,
    pub(super) bytes: u64,
    pub(super) flows: u64,
}

/// What a request costs a simulated device beside its bytes.
pub(super) const OPERATION: u64 = 16 << 10;

/// A device serves these demands until `total` of cost is issued. It has `window` bytes in flight and completes the
/// oldest or the newest block first. Returns the cost issued of each demand, and the most that was issued of others
/// while one waited.
pub(super) fn serve(demands: &[Demand], window: u64, newest_first: bool, total: u64) -> Vec<(u64, u64)> {
    let mut schedule = Schedule::<(usize, u64)>::new();
    let mut keys = Slots::<(usize, u64)>::new();
    let mut served = vec![(0u64, 0u64); demands.len()];
    let mut waited = vec![0u64; demands.len()];
    let flow = |index: usize, number: u64| {
        let Demand { class, bytes, .. } = demands[index];
        FlowKey::new(class, Direction::Read, bytes, Source::File(number << 8 | index as u64))
    };
    for (index, demand) in demands.iter().enumerate() {
        for number in 0..demand.flows {
            (0..8).for_each(|_| schedule.enqueue(flow(index, number), (index, number)));
        }
    }
    let (mut in_flight, mut flying, mut all) = (VecDeque::new(), 0, 0);
    while all < total {
        let mut round = Round::default();
        while let Some(next) = schedule.next(&round, true) {
            let (place, key) = match next {
                Next::Begun(place, key) => (place, key),
                Next::Fresh(place, request) => (place, keys.insert(request)),
            };
            let (index, number) = keys[key];
            let bytes = demands[index].bytes;
            if flying > 0 && flying + bytes > window {
                schedule.report(&mut round, place, key, Issued::Full);
                continue;
            }
            let price = Price { bytes, total: bytes + OPERATION };
            flying += bytes;
            in_flight.push_back(bytes);
            keys.take(key);
            all += price.total;
            served[index].0 += price.total;
            for (other, waited) in waited.iter_mut().enumerate() {
                *waited = if other == index { 0 } else { *waited + price.total };
                served[other].1 = served[other].1.max(*waited);
            }
            schedule.report(&mut round, place, key, Issued::Left(price));
            schedule.enqueue(flow(index, number), (index, number));
        }
        let done = if newest_first { in_flight.pop_back() } else { in_flight.pop_front() };
        flying -= done.unwrap_or(0);
    }
    served
}

/// What is wrong with how these demands were served: the shares that classes keep.
pub(super) fn judge_shares(demands: &[Demand], window: u64, newest_first: bool) -> Result<(), String> {
    const TOTAL: u64 = 8 << 30;
    let served = serve(demands, window, newest_first, TOTAL);
    let has = |class| demands.iter().any(|demand| demand.class == class);
    for class in Priority::ALL {
        let cost: u64 = demands.iter().zip(&served).filter(|(demand, _)| demand.class == class).map(|(_, served)| served.0).sum();
        let share = cost as f64 / TOTAL as f64;
        let least = match class {
            Priority::Latency => 0.8,
            Priority::Throughput if has(Priority::Latency) => 0.09,
            Priority::Throughput => 0.9,
            Priority::Background => 0.015,
        };
        if has(class) && share < least {
            return Err(format!("{class:?} had {share:.4} of the device and is to have {least}: {demands:?}"));
        }
    }
    Ok(())
}

/// Plays one game of each kind, as the seed says.
///
/// # Errors
/// What went wrong.
#[cfg(feature = "sim")]
pub(crate) fn play(seed: u64) -> Result<(), String> {
    let mut noise = Noise::new(seed);
    let mut pick = |limit: u64| (noise.share() * limit as f64) as u64;
    let contention = [Contention::Alone, Contention::Shared, Contention::Latency][pick(3) as usize];
    search_on(1 << (20 + pick(9)), contention, pick(4) == 0, pick(1 << 32))?;
    let classes = [Priority::Latency, Priority::Throughput, Priority::Background, Priority::Throughput];
    let demands = classes.map(|class| Demand { class, bytes: 4096 << (2 * pick(6)), flows: 1 + pick(4) });
    let first = pick(3) as usize;
    judge_shares(&demands[first..first + 1 + pick(4 - first as u64) as usize], [1, 4 << 20, 64 << 20][pick(3) as usize], pick(2) == 0)
}
