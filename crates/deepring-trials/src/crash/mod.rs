//! Crashes a real file system under a running engine: acknowledged writes must be there afterwards,
//! whole.
//!
//! In one cycle, several writers write slots of their files, in any order, at odd positions, with a
//! sync now and then. At a random moment the file system is shut down (`FS_IOC_SHUTDOWN`), as in a
//! power cut, with or without flushing its journal. All requests end in errors. The file system is
//! unmounted and mounted again, which recovers its journal, and every byte is judged ([`ledger`]):
//!
//! * a write accepted before a sync that succeeded is there, whole (a success after the crash
//!   began does not count: file systems report it while they are being shut down, and after a real
//!   crash no program would have received it);
//! * any other write is there or absent, block by block, and nothing else is there;
//! * the file exists, is at least as long as the acknowledged writes, and has only zeros between
//!   them.
//!
//! At the same time two models are saved again and again ([`saves`]): in every other cycle one in
//! one file and one in several, else one as the checkpoints of one writer and one as those of two.
//! After the crash, the last version whose save has ended is there, or the one that was being saved,
//! whole; of checkpoints, the generation before as well.
//!
//! The disk is a loop device over a file in memory, so a cycle takes some ten milliseconds. This
//! cannot show a drive that loses its own cache: every transfer that a loop device has accepted is
//! there after the crash.

mod disk;
mod ledger;
mod model;

use crate::harness::Rng;
use crate::harness::disk::{NEEDS_ROOT, in_mount_namespace, is_root};
use crate::lab::protocol::Stream;
use crate::saves;
use deepring::{BackendKind, Direct, Engine, ErrorKind, OpenOptions};
use disk::Disk;
pub use disk::Kind;
use ledger::Ledger;
use model::Model;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Campaign {
    /// Repeats what the writers do; the machine decides when the crash hits them.
    pub seed: u64,
    /// How many crashes.
    pub cycles: u64,
    /// On which file system.
    pub kind: Kind,
    /// What is saved in every cycle; without it, both in turns.
    pub only: Option<Saved>,
    /// A planted bug, which a campaign must find.
    pub bug: Option<PlantedBug>,
}

/// How models are saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// As files.
    Files,
    /// As checkpoints.
    Checkpoints,
}

impl Saved {
    /// The one with this name on the command line.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "saves" => Some(Self::Files),
            "checkpoints" => Some(Self::Checkpoints),
            _ => None,
        }
    }

    fn streams(self) -> [Stream; 2] {
        match self {
            Self::Files => Stream::SAVES,
            Self::Checkpoints => Stream::CHECKPOINTS,
        }
    }

    /// A commit of a checkpoint has more steps than a save.
    fn crash_after_us_max(self) -> u64 {
        match self {
            Self::Files => CRASH_AFTER_US_MAX,
            Self::Checkpoints => 4 * CRASH_AFTER_US_MAX,
        }
    }
}

/// A writer that acknowledges too early, or a save with its steps wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlantedBug {
    /// Takes a write as durable when it is done, without a sync.
    LeavesOutSync,
    /// Takes writes accepted after a sync as covered by it.
    CountsLateWrites,
    /// In the steps of saves, in builds with the feature `planted`.
    OfSaves(saves::PlantedBug),
}

impl PlantedBug {
    /// The bug with this name on the command line.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "sync" => Self::LeavesOutSync,
            "late" => Self::CountsLateWrites,
            "file-sync" => Self::OfSaves(saves::PlantedBug::ForgetsFileSync),
            "directory-sync" => Self::OfSaves(saves::PlantedBug::ForgetsDirectorySync),
            "order" => Self::OfSaves(saves::PlantedBug::RenamesFirst),
            "index-first" => Self::OfSaves(saves::PlantedBug::IndexFirst),
            _ => return None,
        })
    }
}

/// What a campaign has seen.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Crashes survived.
    pub cycles: u64,
    /// Acknowledged writes that were found after the crash.
    pub kept: u64,
    /// Unacknowledged writes with lost bytes.
    pub lost: u64,
    /// Versions of models whose saves had ended, and which were found, or the next ones.
    pub saved: u64,
    /// Files and directories that saves left beside models.
    pub leftovers: u64,
    /// Requests that ended in an error because of a crash.
    pub failed: u64,
    /// The first broken promise, with its cycle.
    pub violation: Option<(u64, String)>,
}

/// Writers at once, each with its own file.
const WRITERS: usize = 2;

/// The longest time a cycle runs before it is crashed: long enough for a few dozen syncs.
const CRASH_AFTER_US_MAX: u64 = 25_000;

/// A writer that meets no error ends after this many rounds.
const ROUNDS_MAX: u32 = 20_000;

impl Campaign {
    /// Runs to the end or to the first violation.
    ///
    /// # Errors
    /// It cannot run here, and why.
    ///
    /// # Panics
    /// If no loop device is free, or there is no memory for the disk.
    pub fn run(self, progress: &(dyn Fn(&Summary) + Sync)) -> Result<Summary, String> {
        if !is_root() {
            return Err(NEEDS_ROOT.to_owned());
        }
        saves::require(self.bug_of_saves())?;
        let mut summary = Err(format!("there is no mkfs for {:?}", self.kind));
        in_mount_namespace(|place| {
            if let Some(disk) = Disk::new(self.kind, place) {
                summary = Ok(self.cycles_on(&disk, progress));
            }
        });
        summary
    }

    fn bug_of_saves(self) -> Option<saves::PlantedBug> {
        if let Some(PlantedBug::OfSaves(bug)) = self.bug { Some(bug) } else { None }
    }

    fn cycles_on(self, disk: &Disk, progress: &dyn Fn(&Summary)) -> Summary {
        let mut rng = Rng::seeded(self.seed);
        let mut summary = Summary::default();
        let mut ledgers: Vec<Ledger> = (0..WRITERS).map(|writer| Ledger::new(disk.file(writer), rng.next())).collect();
        let mut models = Stream::VERSIONS.map(|stream| Model::new(self.seed, stream, disk.at()));
        disk.mount();
        while summary.cycles < self.cycles {
            if let Err(what) = self.cycle(disk, &mut ledgers, &mut models, &mut rng, &mut summary) {
                summary.violation = Some((summary.cycles, what));
                break;
            }
            summary.cycles += 1;
            progress(&summary);
        }
        disk.unmount();
        summary
    }

    /// One crash, and what is left after it.
    fn cycle(self, disk: &Disk, ledgers: &mut [Ledger], models: &mut [Model], rng: &mut Rng, summary: &mut Summary) -> Result<(), String> {
        let healthy = |error| format!("a healthy disk fails: {error}");
        let backend = *rng.pick(&[BackendKind::Uring, BackendKind::Threads]);
        let block_bytes = *rng.pick(&[4096, 16 << 10, 1 << 20]);
        let engine = Engine::builder().backend(backend).block_bytes(block_bytes).build().map_err(|error| error.to_string())?;
        for ledger in ledgers.iter_mut() {
            ledger.replace_distrusted().map_err(healthy)?;
        }
        let in_turn = if summary.cycles.is_multiple_of(2) { Saved::Files } else { Saved::Checkpoints };
        let saved = self.only.unwrap_or(in_turn);
        let mut models: Vec<&mut Model> = models.iter_mut().filter(|model| saved.streams().contains(&model.stream())).collect();
        for model in &models {
            model.prepare(&engine).map_err(healthy)?;
        }
        let mut failed = Vec::new();
        let crashing = AtomicBool::new(false);
        let mut crash_rng = Rng::seeded(rng.next());
        std::thread::scope(|scope| {
            let writers: Vec<_> = ledgers
                .iter_mut()
                .map(|ledger| {
                    let (engine, crashing, rng) = (&engine, &crashing, Rng::seeded(rng.next()));
                    scope.spawn(move || self.write(engine, ledger, rng, crashing))
                })
                .collect();
            let savers: Vec<_> = models
                .iter_mut()
                .map(|model| {
                    let (engine, crashing, rng) = (&engine, &crashing, Rng::seeded(rng.next()));
                    scope.spawn(move || model.save(engine, rng, self.bug_of_saves(), crashing))
                })
                .collect();
            std::thread::sleep(Duration::from_micros(crash_rng.below(saved.crash_after_us_max())));
            crashing.store(true, Ordering::SeqCst);
            disk.crash(&mut crash_rng);
            for writer in writers.into_iter().chain(savers) {
                failed.push(writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
        });
        drop(engine);
        for failed in failed {
            summary.failed += failed?;
        }
        disk.unmount();
        disk.mount();
        for ledger in ledgers {
            let (kept, lost) = ledger.judge()?;
            summary.kept += kept;
            summary.lost += lost;
        }
        let engine = Engine::builder().backend(backend).build().map_err(|error| error.to_string())?;
        for model in models {
            let (saved, leftovers) = model.judge(&engine)?;
            summary.saved += saved;
            summary.leftovers += leftovers;
        }
        Ok(())
    }

    /// Writes until the crash. Returns how many requests ended in an error.
    fn write(self, engine: &Engine, ledger: &mut Ledger, mut rng: Rng, crashing: &AtomicBool) -> Result<u64, String> {
        let direct = *rng.pick(&[Direct::Prefer, Direct::Prefer, Direct::Never]);
        if rng.once_in(8) {
            ledger.remove_file(crashing);
        }
        let options = OpenOptions::new().read(true).write(true).create(true).sync_directory(true).direct(direct);
        let file = match engine.open(ledger.path(), options) {
            Ok(file) => file,
            // The crash came before the file.
            Err(error) => return explained(&error).map(|()| 1),
        };
        if !crashing.load(Ordering::SeqCst) {
            ledger.opened();
        }
        for _ in 0..ROUNDS_MAX {
            let mut slots = Ledger::some_slots(&mut rng);
            let late = slots.split_off(rng.below(slots.len() as u64 + 1) as usize);
            let submit = |slots: Vec<usize>, ledger: &mut Ledger| -> Vec<_> {
                let next = |slot| (slot, ledger.issue(slot));
                let pieces: Vec<_> = slots.into_iter().map(next).collect();
                pieces.into_iter().map(|(slot, (position, content))| (slot, file.write_at(content, position))).collect()
            };
            let early = submit(slots, ledger);
            let sync = match self.bug {
                Some(PlantedBug::LeavesOutSync) => None,
                _ if rng.once_in(3) => None,
                _ => Some(if rng.once_in(2) { file.sync_data() } else { file.sync_all() }),
            };
            let late = submit(late, ledger);
            let mut failures = 0;
            let mut settle = |ops: Vec<(usize, deepring::Op<_>)>| -> Result<Vec<usize>, String> {
                let mut done = Vec::new();
                for (slot, op) in ops {
                    match op.wait().result {
                        Ok(_) => done.push(slot),
                        Err(error) => {
                            explained(&error)?;
                            failures += 1;
                        }
                    }
                }
                Ok(done)
            };
            let mut covered = settle(early)?;
            let late = settle(late)?;
            if self.bug.is_some() && self.bug_of_saves().is_none() {
                covered.extend(late);
            }
            let synced = match sync.map(deepring::Task::wait) {
                None => self.bug == Some(PlantedBug::LeavesOutSync),
                Some(Ok(())) => true,
                Some(Err(error)) => {
                    explained(&error)?;
                    ledger.distrust();
                    failures += 1;
                    false
                }
            };
            if synced && !crashing.load(Ordering::SeqCst) {
                ledger.acknowledge(&covered);
            }
            if failures > 0 {
                return Ok(failures);
            }
        }
        Ok(0)
    }
}

/// Whether a crash explains the error.
fn explained(error: &deepring::Error) -> Result<(), String> {
    match error.kind() {
        ErrorKind::Os(errno) | ErrorKind::SyncFailed(errno) | ErrorKind::Uncertain(errno)
            if matches!(errno, libc::EIO | libc::EROFS | libc::ESHUTDOWN) =>
        {
            Ok(())
        }
        _ => Err(format!("an error that a crash does not explain: {error}")),
    }
}

/// Whether there is something at this path at all.
fn length_of(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|metadata| metadata.len())
}
