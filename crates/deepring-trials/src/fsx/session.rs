//! [`Session`]: the engines and open files of one script, and the running of one batch on them by
//! several threads.

use super::content;
use super::many::{parts_of, reorder};
use super::model::Model;
use super::plain::Plain;
use super::planted::{self, PlantedBug};
use super::script::{Mode, Op, Patience, Range, Script};
use crate::harness::program::Memory;
use crate::harness::{READ_WRITE, Slice};
use deepring::{Buffer, Completed, Direct, Engine, File, FileStat, ManyOptions, Piece, Receipt, Result, Scattered, Task};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// How an operation ended, as its caller saw it.
pub(crate) enum End {
    Wrote {
        result: Result<Receipt>,
        memory_kept: bool,
    },
    Read {
        result: Result<Receipt>,
        found: Vec<u8>,
        memory_kept: bool,
    },
    Stat(Result<FileStat>),
    Task(Result<()>),
    Plain(std::io::Result<()>),
    /// The caller did not wait for it.
    Unknown,
}

/// What all operations of a batch can read.
pub(crate) struct BatchState<'a> {
    pub(crate) path: &'a Path,
    pub(crate) plain: &'a Plain,
    /// The file before the batch.
    pub(crate) model: &'a Model,
    pub(crate) bug: &'a OneShotBug,
}

/// The planted bug, and whether it has fired.
#[derive(Default)]
pub(crate) struct OneShotBug {
    bug: Option<PlantedBug>,
    fired: AtomicBool,
}

impl OneShotBug {
    pub(crate) fn new(bug: Option<PlantedBug>) -> Self {
        Self { bug, fired: AtomicBool::new(false) }
    }

    /// Whether the planted bug is `bug` and strikes now. It strikes once.
    pub(crate) fn fires(&self, bug: PlantedBug) -> bool {
        self.bug == Some(bug) && !self.fired.swap(true, Ordering::Relaxed)
    }
}

pub(crate) struct Session {
    engines: Vec<Engine>,
    handles: Vec<Handle>,
    writers: usize,
}

/// One handle of the script.
pub(crate) struct Handle {
    engine: Engine,
    /// `None` only after reopening failed.
    file: Option<File>,
    reopened: bool,
}

impl Session {
    pub(crate) fn build(script: &Script, path: &Path) -> Result<Self> {
        let engines = script.engines.iter().map(|spec| {
            let builder = Engine::builder().backend(spec.backend).block_bytes(spec.block_bytes);
            if spec.queue_depth == 0 { builder } else { builder.queue_depth(spec.queue_depth) }.build()
        });
        let engines: Vec<_> = engines.collect::<Result<_>>()?;
        let handles = script.handles.iter().map(|spec| {
            let engine = engines[spec.engine].clone();
            let file = Some(open(&engine, path, spec.mode, false)?);
            Ok(Handle { engine, file, reopened: false })
        });
        let handles = handles.collect::<Result<_>>()?;
        Ok(Self { engines, handles, writers: script.writers })
    }

    /// The open file of a handle.
    pub(crate) fn file(&self, handle: usize) -> Option<&File> {
        self.handles[handle % self.handles.len()].file.as_ref()
    }

    /// Runs all of `ops` at the same time and waits for them.
    pub(crate) fn run(&mut self, ops: &[(usize, Op)], state: &BatchState<'_>) -> Vec<(usize, End)> {
        let (handles, writers) = (self.handles.len(), self.writers.min(ops.len()).min(self.handles.len()).max(1));
        let mut shares: Vec<Vec<&mut Handle>> = (0..writers).map(|_| Vec::new()).collect();
        for (index, handle) in self.handles.iter_mut().enumerate() {
            shares[index % writers].push(handle);
        }
        let part_of = |op: &Op| op.handle().map_or(0, |handle| handle % handles);
        let parts = shares.into_iter().enumerate().map(|(writer, share)| {
            let mine = ops.iter().filter(move |(_, op)| part_of(op) % writers == writer);
            (share, mine.map(move |&(number, op)| (number, part_of(&op) / writers, op)).collect::<Vec<_>>())
        });
        if writers == 1 {
            return parts.flat_map(|(mut share, part)| run_part(&mut share, &part, state)).collect();
        }
        std::thread::scope(|scope| {
            let threads: Vec<_> = parts.map(|(mut share, part)| scope.spawn(move || run_part(&mut share, &part, state))).collect();
            let ended = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            ended.flatten().collect()
        })
    }

    /// Closes every handle.
    pub(crate) fn close(self) -> Result<()> {
        let closing: Vec<_> = self.handles.into_iter().filter_map(|handle| handle.file).map(File::close).collect();
        closing.into_iter().try_for_each(Task::wait)?;
        drop(self.engines);
        Ok(())
    }
}

fn open(engine: &Engine, path: &Path, mode: Mode, truncate: bool) -> Result<File> {
    let direct = match mode {
        Mode::Direct => Direct::Prefer,
        Mode::Buffered => Direct::Never,
    };
    engine.open(PathBuf::from(path), READ_WRITE.direct(direct).truncate(truncate))
}

/// One writer's part of a batch: all operations are submitted before any is waited for.
fn run_part(share: &mut [&mut Handle], part: &[(usize, usize, Op)], state: &BatchState<'_>) -> Vec<(usize, End)> {
    let begun: Vec<_> = part.iter().map(|&(number, handle, op)| (number, share[handle].begin(number, op, state))).collect();
    for (_, pending) in &begun {
        pending.cancel_late();
    }
    begun.into_iter().map(|(number, pending)| (number, pending.end())).collect()
}

/// An operation in flight.
enum Pending {
    WriteSlice { op: deepring::Op<Slice>, content: Vec<u8>, late: bool },
    WriteEngine { op: deepring::Op<Buffer>, content: Vec<u8>, late: bool },
    ReadSlice { op: deepring::Op<Slice>, late: bool },
    ReadEngine { op: deepring::Op<Buffer>, guards: [Buffer; 2], late: bool },
    ReadMany { op: deepring::Op<Scattered<Slice>>, parts: Vec<Piece> },
    Stat(Task<FileStat>),
    Task(Task<()>),
    Ended(End),
}

/// The content of the guards around engine memory, and how many guard bytes follow it.
const GUARD: u8 = 0xa5;
const GUARD_BYTES: usize = 64;

impl Handle {
    fn begin(&mut self, number: usize, op: Op, state: &BatchState<'_>) -> Pending {
        self.try_begin(number, op, state).unwrap_or_else(|error| Pending::Ended(End::Task(Err(error))))
    }

    fn try_begin(&mut self, number: usize, op: Op, state: &BatchState<'_>) -> Result<Pending> {
        let Some(file) = self.file.as_ref() else { return Ok(Pending::Ended(End::Unknown)) };
        Ok(match op {
            Op::Write { range, memory, patience, .. } => {
                let mut content = content::bytes(range.position, range.len as usize, number as u32);
                let position = self.spoil(&mut content, range, state);
                self.write(file, content, position, memory, patience)?
            }
            Op::Read { range, memory, exact, patience, .. } => self.read(file, range, memory, exact, patience)?,
            Op::SetLen { size, .. } => Pending::Task(file.set_len(size)),
            Op::Sync { data_only: true, .. } => Pending::Task(file.sync_data()),
            Op::Sync { .. } => Pending::Task(file.sync_all()),
            Op::Stat { .. } => Pending::Stat(file.stat()),
            Op::Punch { range } => Pending::Ended(End::Plain(state.plain.punch(range))),
            Op::Zero { range, extend } => Pending::Ended(End::Plain(state.plain.zero(range, extend))),
            Op::Reopen { mode, truncate, .. } => {
                let closing = self.file.take().map(File::close);
                self.file = Some(open(&self.engine, state.path, mode, truncate)?);
                self.reopened = true;
                closing.map_or(Pending::Ended(End::Unknown), Pending::Task)
            }
            // A check is not an operation of the engine: the runner makes it when the batch has
            // ended.
            Op::Check { .. } => Pending::Ended(End::Unknown),
        })
    }

    fn write(&self, file: &File, content: Vec<u8>, position: u64, memory: Memory, patience: Patience) -> Result<Pending> {
        let late = patience == Patience::CancelsLate;
        let range = Range { position, len: content.len() as u64 };
        if let (Memory::Slice(offset), Patience::Waits, Some(parts)) = (memory, patience, parts_of(range)) {
            let content = reorder(&parts, &content, true);
            let op = file.write_gather(Slice::of(&content, offset), &parts);
            return Ok(Pending::WriteSlice { op, content, late });
        }
        let pending = match memory {
            Memory::Slice(offset) => {
                let op = submitted(file.write_at(Slice::of(&content, offset), position), patience);
                op.map(|op| Pending::WriteSlice { op, content, late })
            }
            Memory::Engine(offset) => {
                let mut buf = self.engine.pooled_buffer(offset + content.len())?.split_off(offset);
                buf.copy_from_slice(&content);
                let op = submitted(file.write_at(buf, position), patience);
                op.map(|op| Pending::WriteEngine { op, content, late })
            }
        };
        Ok(pending.unwrap_or(Pending::Ended(End::Unknown)))
    }

    fn read(&self, file: &File, range: Range, memory: Memory, exact: bool, patience: Patience) -> Result<Pending> {
        /// Neither zero nor frequent in a file, so that bytes that were not read stay recognizable.
        const UNREAD: u8 = 0xee;
        let (len, late) = (range.len as usize, patience == Patience::CancelsLate);
        if let (Memory::Slice(offset), Patience::Waits, false, Some(parts)) = (memory, patience, exact, parts_of(range)) {
            let op = file.read_scatter_with(Slice::new(len, offset, UNREAD), &parts, ManyOptions::new());
            return Ok(Pending::ReadMany { op, parts });
        }
        let pending = match memory {
            Memory::Slice(offset) => {
                let slice = Slice::new(len, offset, UNREAD);
                let op = if exact { file.read_exact_at(slice, range.position) } else { file.read_at(slice, range.position) };
                submitted(op, patience).map(|op| Pending::ReadSlice { op, late })
            }
            Memory::Engine(offset) => {
                let mut before = self.engine.pooled_buffer(offset + len + GUARD_BYTES)?;
                before.fill(GUARD);
                let mut buf = before.split_off(offset);
                let after = buf.split_off(len);
                buf.fill(UNREAD);
                let op = if exact { file.read_exact_at(buf, range.position) } else { file.read_at(buf, range.position) };
                submitted(op, patience).map(|op| Pending::ReadEngine { op, guards: [before, after], late })
            }
        };
        Ok(pending.unwrap_or(Pending::Ended(End::Unknown)))
    }

    /// Lets the planted bug change a write. Returns the position to write to.
    fn spoil(&self, content: &mut [u8], range: Range, state: &BatchState<'_>) -> u64 {
        let possible = |bug: &PlantedBug| match bug {
            PlantedBug::LosesEdgeAfterReopen => self.reopened,
            PlantedBug::TrimsByte | PlantedBug::ReadsWrong => false,
            _ => true,
        };
        let chosen = |bug: &PlantedBug| range.len >= planted::LEN_MIN && possible(bug) && state.bug.fires(*bug);
        match PlantedBug::ALL.into_iter().find(chosen) {
            Some(bug) => bug.spoil(content, range.position, state.model),
            None => range.position,
        }
    }
}

/// Cancels or drops an operation whose patience says to do so at once. `None` if it was dropped.
fn submitted<B: Send>(op: deepring::Op<B>, patience: Patience) -> Option<deepring::Op<B>> {
    match patience {
        Patience::Drops => return None,
        Patience::Cancels => op.cancel(),
        Patience::Waits | Patience::CancelsLate => {}
    }
    Some(op)
}

impl Pending {
    fn cancel_late(&self) {
        match self {
            Self::WriteSlice { op, late: true, .. } | Self::ReadSlice { op, late: true } => op.cancel(),
            Self::WriteEngine { op, late: true, .. } | Self::ReadEngine { op, late: true, .. } => op.cancel(),
            _ => {}
        }
    }

    fn end(self) -> End {
        match self {
            Self::WriteSlice { op, content, .. } => {
                let Completed { buf, result } = op.wait();
                let memory_kept = buf.is_some_and(|buf| buf.is_guarded() && buf.content() == content);
                End::Wrote { result, memory_kept }
            }
            Self::WriteEngine { op, content, .. } => {
                let Completed { buf, result } = op.wait();
                End::Wrote { result, memory_kept: buf.is_some_and(|buf| buf[..] == content[..]) }
            }
            Self::ReadSlice { op, .. } => {
                let Completed { buf, result } = op.wait();
                let memory_kept = buf.as_ref().is_some_and(Slice::is_guarded);
                End::Read { result, found: buf.map_or_else(Vec::new, |buf| buf.content().to_vec()), memory_kept }
            }
            Self::ReadMany { op, parts } => {
                let Completed { buf, result } = op.wait();
                let memory_kept = buf.as_ref().is_some_and(|read| read.buf.is_guarded());
                let found = buf.map_or_else(Vec::new, |read| reorder(&parts, read.buf.content(), false));
                End::Read { result, found, memory_kept }
            }
            Self::ReadEngine { op, guards, .. } => {
                let Completed { buf, result } = op.wait();
                let memory_kept = buf.is_some() && guards.iter().all(|guard| guard.iter().all(|&byte| byte == GUARD));
                End::Read { result, found: buf.map_or_else(Vec::new, |buf| buf.to_vec()), memory_kept }
            }
            Self::Stat(task) => End::Stat(task.wait()),
            Self::Task(task) => End::Task(task.wait()),
            Self::Ended(end) => end,
        }
    }
}
