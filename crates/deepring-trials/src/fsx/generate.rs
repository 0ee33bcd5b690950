//! Generates scripts from a seed: ranges where engines make mistakes (next to sectors, pages,
//! blocks, folios, the end of the file, and each other), several writers side by side, and
//! everything that changes the file beneath them.

use super::script::{EngineSpec, HandleSpec, Mode, Op, Patience, Range, Script};
use crate::harness::Rng;
use crate::harness::program::Memory;
use deepring::BackendKind;

/// Block sizes, and distances of positions, that matter to a disk, a file system, a cache or the
/// engine.
const UNITS_BYTES: [u64; 7] = [512, 1024, 4096, 64 << 10, 256 << 10, 1 << 20, 2 << 20];

/// Most files stay small, so that many operations fit into a second. Some reach past a folio of the
/// page cache.
const FILE_MAX_BYTES: [u64; 8] = [40 << 10, 150 << 10, 150 << 10, 150 << 10, 400 << 10, 400 << 10, 1 << 20, 3 << 20];

/// The script of this seed, always the same.
pub(crate) fn script(seed: u64, backends: &[BackendKind]) -> Script {
    let mut rng = Rng::seeded(seed);
    let file_max = *rng.pick(&FILE_MAX_BYTES);
    let engines: Vec<_> = (0..=rng.below(2)).map(|_| engine(&mut rng, backends)).collect();
    let handles: Vec<_> = (0..=rng.below(5)).map(|_| handle(&mut rng, engines.len())).collect();
    let writers = *rng.pick(&[1, 1, 2, 3]);
    let count = 40 + rng.below(160) as usize;
    let mut generator = Generator { rng, file_max, handles: handles.len(), size: 0, last_end: 0, ops: Vec::new() };
    while generator.ops.len() < count {
        generator.add_operations();
    }
    generator.ops.truncate(count);
    Script { engines, handles, writers, ops: generator.ops }
}

fn engine(rng: &mut Rng, backends: &[BackendKind]) -> EngineSpec {
    let block_bytes = *rng.pick(&[4096, 12_288, 64 << 10, 1 << 20]);
    EngineSpec { backend: *rng.pick(backends), block_bytes, queue_depth: *rng.pick(&[0, 0, 1, 4]) }
}

fn handle(rng: &mut Rng, engines: usize) -> HandleSpec {
    HandleSpec { engine: rng.below(engines as u64) as usize, mode: mode(rng) }
}

fn mode(rng: &mut Rng) -> Mode {
    *rng.pick(&[Mode::Direct, Mode::Direct, Mode::Direct, Mode::Buffered])
}

struct Generator {
    rng: Rng,
    file_max: u64,
    handles: usize,
    /// The file's size if nothing is canceled.
    size: u64,
    /// Where the last range ended.
    last_end: u64,
    ops: Vec<Op>,
}

impl Generator {
    fn add_operations(&mut self) {
        match self.rng.below(100) {
            0..45 => self.burst(),
            45..58 => {
                let range = self.range();
                self.write(range);
            }
            58..73 => {
                let range = self.range();
                self.read(range);
            }
            73..79 => self.set_len(),
            79..85 => self.punch(),
            85..88 => self.sync(),
            88..90 => self.stat(),
            90..94 => self.reopen(),
            _ => self.check(),
        }
    }

    /// Several writers side by side, readers of the ranges between them, and other operations at
    /// the same time.
    fn burst(&mut self) {
        let pieces = 2 + self.rng.below(10);
        let span = (self.len() * pieces).min(self.file_max);
        let start = self.position().min(self.file_max - span);
        let mut cuts: Vec<u64> = (1..pieces).map(|_| start + self.rng.below(span + 1)).collect();
        for cut in &mut cuts {
            if self.rng.once_in(3) {
                *cut = cut.next_multiple_of(*self.rng.pick(&[512, 4096])).min(start + span);
            }
        }
        cuts.extend([start, start + span]);
        cuts.sort_unstable();
        cuts.dedup();
        let mut ranges: Vec<_> = cuts.windows(2).map(|cut| Range { position: cut[0], len: cut[1] - cut[0] }).collect();
        self.rng.shuffle(&mut ranges);
        for range in ranges {
            match self.rng.below(24) {
                0..3 => self.read(range),
                3 => self.sync(),
                4 => self.stat(),
                5 => {
                    let elsewhere = self.range();
                    self.read(elsewhere);
                }
                6 if self.rng.once_in(2) => self.punch(),
                7 if self.rng.once_in(3) => self.reopen(),
                8 if self.rng.once_in(3) => self.set_len(),
                _ => self.write(range),
            }
        }
        // Later writes would hide a mistake.
        if self.rng.once_in(3) {
            self.check();
        }
    }

    fn write(&mut self, range: Range) {
        if range.len > 0 {
            self.size = self.size.max(range.end());
        }
        self.last_end = range.end();
        let op = Op::Write { handle: self.handle(), range, memory: self.memory(), patience: self.patience() };
        self.ops.push(op);
    }

    fn read(&mut self, range: Range) {
        self.last_end = range.end();
        let exact = self.rng.once_in(2);
        let op = Op::Read { handle: self.handle(), range, memory: self.memory(), exact, patience: self.patience() };
        self.ops.push(op);
    }

    fn set_len(&mut self) {
        self.size = self.position();
        let op = Op::SetLen { handle: self.handle(), size: self.size };
        self.ops.push(op);
    }

    fn punch(&mut self) {
        let mut range = self.range();
        if self.rng.once_in(2) {
            range = range.rounded_out(4096);
        }
        // The kernel refuses an empty range.
        range.len = range.len.max(1);
        if range.end() > self.file_max {
            return;
        }
        let op = match self.rng.below(5) {
            0 => Op::Zero { range, extend: true },
            1 => Op::Zero { range, extend: false },
            _ => Op::Punch { range },
        };
        self.size = self.size.max(op.reach());
        self.ops.push(op);
    }

    fn sync(&mut self) {
        let op = Op::Sync { handle: self.handle(), data_only: self.rng.once_in(2) };
        self.ops.push(op);
    }

    fn stat(&mut self) {
        let op = Op::Stat { handle: self.handle() };
        self.ops.push(op);
    }

    fn reopen(&mut self) {
        let truncate = self.rng.once_in(12);
        if truncate {
            self.size = 0;
        }
        let op = Op::Reopen { handle: self.handle(), mode: mode(&mut self.rng), truncate };
        self.ops.push(op);
    }

    fn check(&mut self) {
        let op = Op::Check { handle: self.handle(), plain_first: self.rng.once_in(2) };
        self.ops.push(op);
    }

    fn handle(&mut self) -> usize {
        self.rng.below(self.handles as u64) as usize
    }

    fn memory(&mut self) -> Memory {
        let any = self.rng.below(4096) as usize;
        let offset = *self.rng.pick(&[0, 0, 512, 1, any]);
        if self.rng.once_in(2) { Memory::Engine(offset) } else { Memory::Slice(offset) }
    }

    fn patience(&mut self) -> Patience {
        match self.rng.below(50) {
            0 => Patience::Cancels,
            1 => Patience::CancelsLate,
            2 => Patience::Drops,
            _ => Patience::Waits,
        }
    }

    fn range(&mut self) -> Range {
        let position = self.position();
        Range { position, len: self.len().min(self.file_max - position) }
    }

    /// A length: mostly short, sometimes next to a unit, up to a mebibyte if the file can be that
    /// large, rarely zero.
    fn len(&mut self) -> u64 {
        if self.rng.once_in(60) {
            return 0;
        }
        let longest = self.file_max.min(1 << 20);
        let len = if self.rng.once_in(3) {
            self.near_unit(longest)
        } else {
            let octave = self.rng.below(u64::from(longest.ilog2()));
            (1 << octave) + self.rng.below(1 << octave)
        };
        len.clamp(1, longest)
    }

    /// A position from 0 to the largest size the file can have.
    fn position(&mut self) -> u64 {
        let position = match self.rng.below(10) {
            0..2 => self.rng.below(self.file_max),
            2..5 => self.near_unit(self.file_max),
            5..7 => self.size.saturating_add_signed(self.delta()),
            7..9 => self.last_end.saturating_add_signed(self.delta()),
            // Beyond the end, by a little or a lot: the gap is a hole.
            _ => self.size + self.len(),
        };
        position.min(self.file_max)
    }

    fn near_unit(&mut self, max: u64) -> u64 {
        let units: Vec<_> = UNITS_BYTES.into_iter().filter(|unit| *unit <= max).collect();
        let unit = *self.rng.pick(&units);
        let times = self.rng.below(max / unit + 1);
        (unit * times).saturating_add_signed(self.delta())
    }

    /// Mostly zero, or a few bytes to either side.
    fn delta(&mut self) -> i64 {
        if self.rng.once_in(2) { 0 } else { self.rng.below(7) as i64 - 3 }
    }
}
