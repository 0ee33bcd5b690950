//! The profile of a run: how large the engines, how busy the client, how faulty the device.
//!
//! Each run draws its own. A campaign in which every fault is always a little likely would never
//! see what happens when one fault is frequent.

use super::prng::Prng;
use crate::config::WindowMode;

/// The settings of one run. Probabilities are per million.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts about a run")]
pub(crate) struct Profile {
    // ---- the engines ----
    pub(crate) engines: usize,
    pub(crate) queue_depth: Option<u32>,
    pub(crate) block_bytes: u64,
    pub(crate) in_flight_bytes: u64,
    pub(crate) window: WindowMode,
    /// The percentage of transfers that name a class.
    pub(crate) class_percent: u64,
    pub(crate) max_queued: u64,
    /// Operations that the simulated ring holds.
    pub(crate) capacity: usize,

    // ---- the client ----
    pub(crate) operations: u64,
    /// Unsettled requests at once.
    pub(crate) outstanding: usize,
    pub(crate) files: usize,
    /// The largest end of a request, apart from two units beyond it.
    pub(crate) file_bytes: u64,
    /// The mean pause after a burst.
    pub(crate) pause_ns: u64,
    /// The most requests without a pause between them.
    pub(crate) burst: u64,
    /// The percentage of transfers that name a path, not an open file.
    pub(crate) path_percent: u64,
    /// The number of requests after which the first engine is shut down.
    pub(crate) shutdown_at: Option<u64>,

    // ---- the device ----
    pub(crate) devices: u32,
    /// The number of requests after which one of two devices gets stuck, until nothing else moves.
    pub(crate) stuck_at: Option<u64>,
    pub(crate) device_requests: u32,
    pub(crate) request_bytes: u64,
    pub(crate) offset_alignment: u32,
    pub(crate) memory_alignment: u32,
    pub(crate) latency_ns: u64,
    pub(crate) stall: u32,
    pub(crate) short: u32,
    pub(crate) interrupted: u32,
    pub(crate) again: u32,
    pub(crate) would_block: u32,
    pub(crate) io_error: u32,
    pub(crate) no_space: u32,
    pub(crate) canceled: u32,
    /// A file refuses direct transfers although it reports support for them.
    pub(crate) refuses_direct: u32,
    /// A file refuses `RWF_NOWAIT`.
    pub(crate) refuses_nowait: u32,
    /// A wait ends with the loss of the ring.
    pub(crate) lost: u32,
    /// A driver unwinds, as if it had panicked.
    pub(crate) unwinds: u32,
    /// A waker, a completion, a callback or the drop of a buffer panics.
    pub(crate) panics: u32,
    /// A wait ends without a reason.
    pub(crate) spurious: u32,

    /// Direct I/O pins its pages.
    pub(crate) pins: bool,
    /// The memory of a read was never touched.
    pub(crate) fresh: u32,
    /// The kernel does not populate memory.
    pub(crate) populate_fails: u32,
    /// A direct read past the end of a file is refused.
    pub(crate) past_end: u32,
    /// The percentage of transfers of open files, made as a Rust program does, that are in many ranges.
    pub(crate) split_percent: u64,
    /// A transfer asks for its checksum.
    pub(crate) sums: u32,
    /// A read of the device flips a bit, where a checksum will show it.
    pub(crate) flips: u32,
    // ---- the other calls ----
    pub(crate) job_delay_ns: u64,
    pub(crate) open_fails: u32,
    pub(crate) close_fails: u32,
    pub(crate) statx_fails: u32,
    pub(crate) allocate_fails: u32,
    pub(crate) allocate_unsupported: bool,
    pub(crate) truncate_fails: u32,
    pub(crate) sync_fails: u32,
    /// The files of a device have one inode number and no birth time.
    pub(crate) twins: bool,
    /// Another process truncates a file that has no unsettled request.
    pub(crate) truncate_externally: u32,
    /// Each engine is a copy of its own: no inode is shared, only the locks between copies are.
    pub(crate) copies: bool,
    /// A lock between copies is refused as if another process held it.
    pub(crate) lock_busy: u32,
    /// The client is a program of another crate: the world does not know which memory it lends.
    pub(crate) program: bool,
}

/// The probability of one kind of fault in one run: usually zero or low, sometimes high.
fn level(rng: &mut Prng) -> u32 {
    match rng.below(16) {
        0..8 => 0,
        8..12 => 2_000,
        12..15 => 30_000,
        _ => 250_000,
    }
}

impl Profile {
    pub(crate) fn draw(rng: &mut Prng) -> Self {
        let block_bytes = 4096 << rng.below(5);
        let blocks = rng.between(1, 12);
        let operations = rng.pick(&[20, 60, 200, 400, 800]);
        let calm = rng.one_in(8);
        let fault = |rng: &mut Prng| if calm { 0 } else { level(rng) };
        let mut profile = Self {
            engines: if rng.one_in(3) { 2 } else { 1 },
            queue_depth: if rng.one_in(6) { None } else { Some(rng.between(1, 16) as u32) },
            block_bytes,
            in_flight_bytes: block_bytes.max(rng.between(1, blocks * block_bytes)),
            window: WindowMode::Auto,
            class_percent: 0,
            max_queued: if rng.one_in(8) { rng.between(1, 20) } else { 1 << 20 },
            capacity: rng.between(4, 64) as usize,
            operations,
            outstanding: rng.pick(&[1, 2, 4, 8, 16, 48]),
            files: rng.between(1, 4) as usize,
            file_bytes: rng.pick(&[4 << 12, 12 << 12, 40 << 12, 120 << 12]),
            pause_ns: rng.pick(&[0, 200, 2_000, 20_000]),
            burst: rng.pick(&[1, 1, 4, 30]),
            path_percent: rng.pick(&[0, 0, 5, 60]),
            shutdown_at: rng.one_in(4).then(|| rng.below(operations)),
            devices: rng.between(1, 2) as u32,
            stuck_at: None,
            device_requests: rng.pick(&[2, 7, 32, 256]),
            request_bytes: rng.pick(&[4096, 16384, 1 << 20]),
            offset_alignment: rng.pick(&[512, 512, 4096]),
            memory_alignment: rng.pick(&[4, 512, 512, 4096]),
            latency_ns: rng.pick(&[100, 2_000, 20_000, 100_000]),
            stall: fault(rng),
            short: fault(rng),
            interrupted: fault(rng),
            again: fault(rng),
            would_block: fault(rng),
            io_error: fault(rng) / 4,
            no_space: fault(rng) / 4,
            canceled: fault(rng) / 4,
            refuses_direct: fault(rng),
            refuses_nowait: fault(rng),
            lost: 0,
            unwinds: 0,
            panics: 0,
            spurious: fault(rng),
            job_delay_ns: rng.pick(&[100, 5_000, 50_000]),
            open_fails: fault(rng) / 4,
            close_fails: fault(rng) / 4,
            statx_fails: fault(rng) / 8,
            allocate_fails: fault(rng),
            allocate_unsupported: !calm && rng.one_in(8),
            truncate_fails: fault(rng) / 8,
            sync_fails: fault(rng) / 8,
            twins: false,
            truncate_externally: fault(rng),
            // Without a step of the generator, so that seeds from before find what they found.
            pins: !rng.clone().one_in(4),
            copies: false,
            lock_busy: 0,
            program: false,
            fresh: 0,
            populate_fails: 0,
            past_end: 0,
            split_percent: 0,
            sums: 0,
            flips: 0,
        };
        if !calm && rng.one_in(24) {
            profile.lost = rng.pick(&[300, 3_000, 50_000]);
        }
        if !calm && rng.one_in(16) {
            profile.unwinds = rng.pick(&[100, 1_000, 10_000]);
        }
        if !calm && rng.one_in(8) {
            profile.panics = rng.pick(&[10_000, 300_000]);
        }
        // From a copy: the runs of known seeds stay as they are.
        profile.twins = !calm && rng.clone().one_in(4);
        let mut rng = rng.clone();
        // The first number decides about twins.
        let _ = rng.below(4);
        if profile.devices > 1 && rng.one_in(3) {
            profile.stuck_at = Some(rng.below(operations));
            if rng.one_in(2) {
                // The ring is the tightest limit.
                (profile.capacity, profile.queue_depth, profile.device_requests) = (4, None, 256);
                profile.in_flight_bytes = 16 * block_bytes;
            }
        }
        profile.fresh = rng.pick(&[0, 100_000, 500_000]);
        profile.populate_fails = if calm { 0 } else { level(&mut rng) };
        // From a copy again.
        let mut rng = rng.clone();
        profile.class_percent = rng.pick(&[0, 10, 90]);
        if rng.one_in(4) {
            profile.window = WindowMode::Fixed;
        }
        // And again.
        let mut rng = rng.clone();
        let _ = rng.below(4);
        profile.past_end = if calm { 0 } else { level(&mut rng) };
        profile.split_percent = rng.pick(&[0, 0, 20, 90]);
        // Only in runs that do not find what their seeds once found in any case: sums are jobs, which change the course of a
        // run.
        if profile.past_end > 0 {
            let mut rng = rng.clone();
            profile.sums = rng.pick(&[0, 300_000, 900_000]);
            profile.flips = if profile.sums == 0 { 0 } else { rng.pick(&[0, 20_000, 200_000]) };
        }
        profile
    }

    /// The same run with two copies of the engine. What one copy promises of a file's size, the other does not know, so
    /// nothing reads, truncates or syncs, and only transfers fail.
    pub(super) fn with_copies(self) -> Self {
        Self {
            engines: 2,
            copies: true,
            lock_busy: self.interrupted,
            files: 1 + self.files / 3,
            path_percent: 0,
            shutdown_at: None,
            // A copy that waits for another one's lock never stops moving.
            stuck_at: None,
            max_queued: 1 << 20,
            lost: 0,
            open_fails: 0,
            statx_fails: 0,
            allocate_fails: 0,
            truncate_fails: 0,
            truncate_externally: 0,
            ..self
        }
    }

    /// The same run for a program of another crate. Engines that unwind are left out: that ends everything.
    pub(super) fn with_program(self) -> Self {
        Self { program: true, unwinds: 0, stuck_at: None, max_queued: 1 << 20, fresh: 0, ..self }
    }
}
