//! Power cuts: boot, verify, judge, write, cut, and again.
//!
//! Verifying and the next writing share a boot. Each cut has its own number under the seed, which
//! chooses the streams, the backend, the moment and the way of losing. The moment is in the host's
//! time, so a seed repeats the choices, not the run.

use super::cut::{Damage, Loss};
use super::guest::LOOP;
use super::ledger::{Ledger, Verdict};
use super::machine::{Delays, Drive, Machine, Shape};
use super::protocol::{LeftOut, Order, Report, Stream, Writing};
use super::{Artifacts, DRIVE_BYTES, FILE_SYSTEM_BYTES, failure, say};
use crate::harness::Rng;
use deepring::BackendKind;
use std::io;
use std::time::{Duration, Instant};

/// Writing before a cut lasts at most this long. A cut hits any moment of a commit, and many
/// commits fit into this time.
const WRITING_MS_MAX: u64 = 2500;

/// One cut in this many comes at a random moment after power on: while the kernel boots, replays
/// the journal, or verifies.
const EARLY_ONE_IN: u64 = 16;

/// About as long as booting and verifying take.
const EARLY_MS_MAX: u64 = 5000;

/// How long a write takes on the drive. An emulated machine spends most of its time computing; with
/// this delay, most cuts hit it during writes.
const DELAYS: Delays = Delays { read_ms: 0, write_ms: 3 };

/// ext4 relies on blocks being written whole. It treats a journal with a torn commit record as
/// corrupt, does not mount, and asks for e2fsck.
const FILE_SYSTEM_UNIT_BYTES: u64 = 4096;

/// Name of the drive.
const DRIVE: &str = "cuts";

/// A guest that sends nothing for this long hangs: everything it does takes milliseconds, or
/// seconds on a busy host.
const SILENCE: Duration = Duration::from_secs(60);

/// Of some hundred starts of QEMU 7.2 without KVM one hangs, with an empty console. This many
/// starts are repeated; more are an error.
const HANGING_STARTS_MAX: u32 = 3;

/// A planted bug that is not caught after this many cuts never will be.
const PLANTED_CUTS_MAX: u64 = 30;

/// A step left out of a protocol, and the stream that must lose or mix generations because of it.
pub const PLANTED: [(LeftOut, Stream); 15] = [
    (LeftOut::Sync, Stream::Slot),
    (LeftOut::Sync, Stream::Raw),
    (LeftOut::DirectorySync, Stream::New),
    (LeftOut::DirectorySync, Stream::Replace),
    (LeftOut::Sync, Stream::Model),
    (LeftOut::DirectorySync, Stream::Model),
    (LeftOut::Order, Stream::Model),
    (LeftOut::Sync, Stream::Shards),
    (LeftOut::DirectorySync, Stream::Shards),
    (LeftOut::Sync, Stream::Checkpoint),
    (LeftOut::DirectorySync, Stream::Checkpoint),
    (LeftOut::Order, Stream::Checkpoint),
    (LeftOut::Sync, Stream::Joined),
    (LeftOut::Sync, Stream::Put),
    (LeftOut::Sync, Stream::Create),
];

/// What the cuts of a campaign hit.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Mostly, one of these alone.
    alone: &'static [Stream],
    /// Once in five, these at the same time.
    together: &'static [Stream],
}

impl Target {
    /// The lab's own protocols.
    pub const COMMITS: Self = Self { alone: &Stream::COMMITS, together: &Stream::COMMITS };

    /// Puts of objects. In the same company as saves.
    pub const PUTS: Self = Self { alone: &Stream::PUTS, together: &[Stream::Put, Stream::Create, Stream::New] };

    /// Saves of models. A stream of new files commits the journal between their steps.
    pub const SAVES: Self = Self { alone: &Stream::SAVES, together: &[Stream::Model, Stream::Shards, Stream::New] };

    /// Commits of checkpoints, of one writer and of two. In the same company.
    pub const CHECKPOINTS: Self = Self { alone: &Stream::CHECKPOINTS, together: &[Stream::Checkpoint, Stream::Joined, Stream::New] };
}

/// The result of a campaign.
#[derive(Debug, Default, Clone)]
pub struct CutSummary {
    /// Power cuts.
    pub cuts: u64,
    /// Generations that were acknowledged.
    pub acknowledged: u64,
    /// Files that saves left beside models, and directories that commits left beside generations.
    pub leftovers: u64,
    /// What was lost and what was mixed.
    pub verdict: Verdict,
}

/// One run on one drive.
struct Campaign<'a> {
    artifacts: &'a Artifacts,
    seed: u64,
    sector_bytes: u32,
    target: Target,
    bug: Option<(LeftOut, Stream)>,
    ledger: Ledger,
    hanging_starts: u32,
    summary: CutSummary,
}

/// Cuts the power `cuts` times during writes to the target, on a drive with sectors of
/// `sector_bytes`.
///
/// # Errors
/// If the lab itself fails, or the guest reports something broken. A loss is not an error; it is in
/// the summary.
pub fn run(artifacts: &Artifacts, seed: u64, target: Target, sector_bytes: u32, cuts: u64) -> io::Result<CutSummary> {
    let mut campaign = Campaign::new(artifacts, seed, target, sector_bytes, None)?;
    for cut in 0..cuts {
        campaign.cut(cut)?;
        if !campaign.summary.verdict.is_good() {
            // Further cuts would destroy the evidence.
            say(&format!("the drive as it was found is {}/{DRIVE}.image", artifacts.folder.display()));
            return Ok(campaign.total());
        }
    }
    campaign.end()
}

/// Runs a planted bug until it is caught. Returns the number of cuts that took, or `None` if it was
/// not caught.
///
/// # Errors
/// As for [`run`].
pub fn run_planted(artifacts: &Artifacts, seed: u64, bug: (LeftOut, Stream)) -> io::Result<Option<u64>> {
    let mut campaign = Campaign::new(artifacts, seed, Target::COMMITS, 512, Some(bug))?;
    for cut in 0..PLANTED_CUTS_MAX {
        campaign.cut(cut)?;
        // What a cut left is judged at the next one.
        if !campaign.summary.verdict.is_good() {
            return Ok(Some(cut));
        }
    }
    let summary = campaign.end()?;
    Ok(if summary.verdict.is_good() { None } else { Some(PLANTED_CUTS_MAX) })
}

impl<'a> Campaign<'a> {
    fn new(artifacts: &'a Artifacts, seed: u64, target: Target, sector_bytes: u32, bug: Option<(LeftOut, Stream)>) -> io::Result<Self> {
        super::format(&Drive::blank(artifacts, DRIVE, DRIVE_BYTES)?, FILE_SYSTEM_BYTES)?;
        let (ledger, summary) = (Ledger::new(seed), CutSummary::default());
        Ok(Self { artifacts, seed, sector_bytes, target, bug, ledger, hanging_starts: 0, summary })
    }

    /// From power on to the next power cut.
    fn cut(&mut self, number: u64) -> io::Result<()> {
        let started = Instant::now();
        let mut rng = Rng::seeded(self.seed.wrapping_mul(0x0001_0001) ^ number);
        let (loss, seed) = (self.loss(&mut rng), rng.next());
        let drive = Drive::serve(self.artifacts, DRIVE, DELAYS)?;
        let is_early = self.bug.is_none() && number > 0 && rng.once_in(EARLY_ONE_IN);
        let what = if is_early {
            let moment = Duration::from_millis(rng.below(EARLY_MS_MAX));
            let machine = self.power_on(&drive)?;
            std::thread::sleep(moment);
            // Nothing was being written, and anything it had reported will be reported again.
            machine.cut()?;
            format!("{} ms after power on", moment.as_millis())
        } else {
            let (mut machine, kernel) = self.start(&drive)?;
            self.verify(&mut machine)?;
            if !self.summary.verdict.is_good() {
                return machine.cut().map(drop);
            }
            if number == 0 {
                say(&kernel);
            }
            let writing = self.writing(&mut rng);
            let what = format!("{:?} {:?}", writing.backend, writing.first.keys().map(ToString::to_string).collect::<Vec<_>>());
            let before = self.ledger.acknowledged();
            self.write(machine, writing, Duration::from_millis(rng.below(WRITING_MS_MAX)))?;
            format!("{what}, {} acknowledged", self.ledger.acknowledged() - before)
        };
        let Damage { unflushed, unflushed_bytes, kept, torn } = drive.cut(loss, seed, |offset| self.unit_bytes(offset))?;
        self.summary.cuts += 1;
        say(&format!(
            "cut {number}: {what}; of {unflushed} unflushed writes ({} KiB) {kept} survived{}; loses {loss}; {:.1} s",
            unflushed_bytes >> 10,
            if torn { ", one torn" } else { "" },
            started.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    fn power_on(&self, drive: &Drive) -> io::Result<Machine> {
        let shape = Shape { drives: &[drive], sector_bytes: self.sector_bytes, parameters: LOOP, ..Shape::default() };
        Machine::power_on(self.artifacts, &shape)
    }

    /// What the drive writes whole or not at all: its sectors under raw generations, its blocks
    /// under the file system.
    fn unit_bytes(&self, offset: u64) -> u64 {
        if offset < FILE_SYSTEM_BYTES { FILE_SYSTEM_UNIT_BYTES } else { self.sector_bytes.into() }
    }

    /// A last verification, and the total.
    fn end(mut self) -> io::Result<CutSummary> {
        let drive = Drive::serve(self.artifacts, DRIVE, DELAYS)?;
        let (mut machine, _) = self.start(&drive)?;
        self.verify(&mut machine)?;
        machine.cut()?;
        Ok(self.total())
    }

    fn total(self) -> CutSummary {
        CutSummary { acknowledged: self.ledger.acknowledged(), leftovers: self.ledger.leftovers(), ..self.summary }
    }

    /// Starts a machine and waits until its guest is ready. Also returns the guest's description of
    /// kernel and drive.
    fn start(&mut self, drive: &Drive) -> io::Result<(Machine, String)> {
        loop {
            let mut machine = self.power_on(drive)?;
            match machine.next_within(SILENCE)? {
                Some(Report::Ready(kernel)) => return Ok((machine, kernel)),
                None if machine.is_console_empty() && self.hanging_starts < HANGING_STARTS_MAX => {
                    self.hanging_starts += 1;
                    say(&format!("the machine hangs: no report for {SILENCE:?}; starting it again"));
                    machine.cut()?;
                }
                other => return Err(machine.error(&format!("the guest did not start: {other:?}"))),
            }
        }
    }

    /// Lets the guest verify, and judges what it found.
    fn verify(&mut self, machine: &mut Machine) -> io::Result<()> {
        machine.order(&Order::Verify(self.seed))?;
        let (mut found, mut seen) = (Vec::new(), Vec::new());
        loop {
            match machine.next(SILENCE)? {
                Report::Found(one) => found.push(one),
                Report::Seen(one) => seen.push(one),
                Report::Verified => break,
                other => return Err(machine.error(&format!("while verifying: {other:?}"))),
            }
        }
        let verdict = self.ledger.judge(&found, &seen);
        for (kind, list) in [("LOST", &verdict.lost), ("MIXED", &verdict.mixed)] {
            for what in list {
                say(&format!("{kind}: {what}"));
            }
        }
        self.summary.verdict.lost.extend(verdict.lost);
        self.summary.verdict.mixed.extend(verdict.mixed);
        Ok(())
    }

    fn loss(&self, rng: &mut Rng) -> Loss {
        if self.bug.is_some() { Loss::Everything } else { *rng.pick(&Loss::ALL) }
    }

    /// What is written before this cut: mostly one stream alone, so that the flush of another one
    /// cannot hide a missing flush.
    fn writing(&mut self, rng: &mut Rng) -> Writing {
        let streams = match self.bug {
            Some((_, stream)) => vec![stream],
            None if rng.once_in(5) => self.target.together.to_vec(),
            None => vec![*rng.pick(self.target.alone)],
        };
        let backend = *rng.pick(&[BackendKind::Uring, BackendKind::Uring, BackendKind::Threads]);
        let left_out = self.bug.map_or(LeftOut::Nothing, |(left_out, _)| left_out);
        let first = streams.into_iter().map(|stream| (stream, self.ledger.first_of_next(stream))).collect();
        Writing { seed: self.seed, backend, left_out, first }
    }

    /// Lets the guest write for a while, cuts the power, and records every acknowledgment that
    /// arrived.
    fn write(&mut self, mut machine: Machine, writing: Writing, lasting: Duration) -> io::Result<()> {
        machine.order(&Order::Write(writing))?;
        match machine.next(SILENCE)? {
            Report::Writing => {}
            other => return Err(machine.error(&format!("the guest does not write: {other:?}"))),
        }
        std::thread::sleep(lasting);
        for report in machine.cut()? {
            match report {
                Report::Acknowledged(stream, generation) => self.ledger.acknowledge(stream, generation),
                other => return Err(failure(format!("while writing: {other:?}"))),
            }
        }
        Ok(())
    }
}
