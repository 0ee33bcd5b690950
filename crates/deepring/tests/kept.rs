//! What an engine keeps of returned memory: bounded, usable for every size, the kernel's to take,
//! counted, and given up by `trim`. What it hands out: little more than was asked for, and zero if
//! that was asked for.

mod harness;

use deepring::{Buffer, Engine};
use harness::{Rng, within};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);
const MIB: usize = 1 << 20;
/// What an engine keeps at most, beside one mapping that is larger.
const KEPT: usize = 256 * MIB;
/// Page tables, the test itself.
const SLACK: usize = 48 * MIB;

/// The tests look at the memory of the process, so they run one after the other.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn engine() -> Engine {
    Engine::builder().build().expect("an engine")
}

/// A number of `/proc/self/smaps_rollup`, in bytes.
fn rollup(name: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").expect("smaps_rollup");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the line");
    line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse::<usize>().expect("a number") << 10
}

fn resident() -> usize {
    rollup("Rss")
}

fn pooled(engine: &Engine) -> usize {
    engine.stats().pooled_bytes as usize
}

fn filled(engine: &Engine, len: usize, count: usize) -> Vec<Buffer> {
    let buffer = |_| {
        let mut buffer = engine.pooled_buffer(len).expect("memory");
        buffer.fill(0x5a);
        buffer
    };
    (0..count).map(buffer).collect()
}

#[test]
fn after_a_peak_of_every_size_what_stays_is_bounded() {
    let _alone = alone();
    within(LIMIT, "peaks", || {
        let engine = engine();
        let before = resident();
        let total = 512 * MIB;
        for len in [MIB, 512 << 10, 64 << 10, 4096, 128 << 10, 8 * MIB, 3 * MIB + 4096, 96 * MIB] {
            let count = total / len;
            drop(filled(&engine, len, count));
            assert!(pooled(&engine) <= KEPT, "{} kept after {count} of {len}", pooled(&engine));
            assert!(resident() <= before + KEPT + SLACK, "{} resident after {count} of {len}", (resident() - before) / MIB);
        }
        assert_eq!(engine.stats().buffer_bytes, 0);
        engine.trim();
        assert_eq!(pooled(&engine), 0);
        assert!(resident() <= before + SLACK, "{} resident after trim", (resident() - before) / MIB);
    });
}

#[test]
fn the_free_parts_of_memory_that_is_partly_in_use_are_bounded_too() {
    let _alone = alone();
    within(LIMIT, "holes", || {
        let engine = engine();
        let before = resident();
        let mut all = filled(&engine, 64 << 10, 12 << 10);
        let mut index = 0;
        all.retain(|_| {
            index += 1;
            index % 32 == 0
        });
        assert!(pooled(&engine) <= KEPT);
        let in_use = all.len() * (64 << 10);
        assert!(resident() <= before + KEPT + in_use + SLACK, "{} MiB", (resident() - before) / MIB);
        engine.trim();
        assert_eq!(pooled(&engine), 0);
        assert!(resident() <= before + in_use + SLACK, "{} MiB after trim", (resident() - before) / MIB);
        assert!(all.iter().all(|buffer| buffer.iter().all(|&byte| byte == 0x5a)));
    });
}

#[test]
fn memory_of_one_size_serves_all_others() {
    let _alone = alone();
    let engine = engine();
    let large = filled(&engine, 128 * MIB, 1);
    drop(large);
    let before = resident();
    let small = filled(&engine, 64 << 10, 1600);
    assert!(pooled(&engine) <= 30 * MIB, "{}", pooled(&engine));
    assert!(resident() <= before + SLACK);
    drop(small);
    let large = filled(&engine, 96 * MIB, 1);
    assert!(resident() <= before + SLACK);
    drop(large);
}

#[test]
fn beyond_a_small_part_the_kernel_can_take_what_is_kept() {
    let _alone = alone();
    let engine = engine();
    drop(filled(&engine, MIB, 512));
    assert!(pooled(&engine) > KEPT / 2);
    let lazy = rollup("LazyFree");
    assert!(pooled(&engine) <= lazy + KEPT / 4 + SLACK, "{} MiB kept, {} MiB lazy", pooled(&engine) / MIB, lazy / MIB);
}

#[test]
fn a_large_buffer_comes_from_the_pool_and_one_such_is_kept() {
    let _alone = alone();
    let engine = engine();
    for mib in [64, 256, 257, 700] {
        let mut buffer = engine.pooled_buffer(mib * MIB).expect("memory");
        let address = buffer.as_ptr();
        buffer[0] = 77;
        buffer[mib * MIB - 1] = 78;
        drop(buffer);
        let buffer = engine.pooled_buffer(mib * MIB).expect("memory");
        assert_eq!((buffer.as_ptr(), buffer[0], buffer[mib * MIB - 1]), (address, 77, 78), "{mib} MiB");
        drop(buffer);
    }
    drop(filled(&engine, 400 * MIB, 2));
    assert!(pooled(&engine) <= KEPT + 700 * MIB);
    engine.trim();
    assert_eq!(pooled(&engine), 0);
}

#[test]
fn no_buffer_takes_more_than_one_step_above_its_size() {
    let _alone = alone();
    let engine = engine();
    for (len, count) in [(MIB + 4096, 200), (520 << 10, 400), (2 * MIB + 4096, 100), (33 * MIB + 1, 6), (68 << 10, 2000)] {
        engine.trim();
        let before = resident();
        let all = filled(&engine, len, count);
        let (asked, counted) = (len * count, engine.stats().buffer_bytes as usize);
        assert!(counted - asked <= count * (len / 16).clamp(4096, 64 << 10), "{counted} for {asked}");
        let grown = resident() - before;
        assert!(grown <= asked + asked / 16 + SLACK, "{count} of {len}: {grown} for {asked}");
        drop(all);
    }
}

#[test]
fn buffers_start_on_pages_and_large_ones_on_huge_pages() {
    let engine = engine();
    let all: Vec<Buffer> =
        [1, 4097, 70_000, MIB + 1, 5 * MIB, 32 * MIB + 1, 64 * MIB].map(|len| engine.buffer(len).expect("memory")).into();
    assert!(all.iter().all(|buffer| (buffer.as_ptr() as usize).is_multiple_of(4096)));
    let large = all.iter().filter(|buffer| buffer.len() >= 32 * MIB);
    assert!(large.map(|buffer| buffer.as_ptr() as usize).all(|address| address % (2 * MIB) == 0));
}

/// Buffers at random: none changes what another holds, and zeroed ones are zero.
#[test]
fn memory_is_never_in_two_buffers_and_zeroed_memory_is_zero() {
    let _alone = alone();
    within(LIMIT, "buffers at random", || {
        let engine = engine();
        let mut numbers = Rng::new();
        let mut rng = move || numbers.next();
        let mut all: Vec<(u64, Buffer)> = Vec::new();
        let mut held = 0;
        for round in 1..3000u64 {
            if rng() % 2 == 0 && held < 300 * MIB {
                let limit = [5 << 10, 70 << 10, 3 * MIB, 40 * MIB][(rng() % 4) as usize];
                let len = 1 + rng() as usize % limit;
                let zeroed = rng() % 2 == 0;
                let mut buffer = if zeroed { engine.buffer(len) } else { engine.pooled_buffer(len) }.expect("memory");
                if zeroed {
                    // SAFETY: any bytes are valid words.
                    let (front, words, end) = unsafe { buffer.align_to::<u64>() };
                    assert!(front.iter().chain(end).all(|&byte| byte == 0) && words.iter().all(|&word| word == 0), "round {round}");
                }
                held += len;
                buffer.fill(round as u8 | 1);
                all.push((round, buffer));
            } else if !all.is_empty() {
                let (round, buffer) = all.swap_remove(rng() as usize % all.len());
                assert!(buffer.iter().step_by(509).all(|&byte| byte == round as u8 | 1));
                held -= buffer.len();
            }
            if rng() % 200 == 0 {
                engine.trim();
            }
            let largest = 40 * MIB;
            assert!(pooled(&engine) <= KEPT + largest);
        }
    });
}
