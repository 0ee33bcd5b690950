//! Optimizer states larger than memory, moved for one step of a training: through the crate `deepring-tensors`, and in the
//! predecessor's order of operations. And experts of a model, read within a budget.
//!
//! A group has a parameter and two states of the same size, each of which begins with a count of the steps. A region is one
//! step over all groups: each is read, changed, and written, and at its end everything is on the disk. All steps are verified.

use std::fs::File;
use std::hint::black_box;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use deepring::{Completed, OpenOptions};
use deepring_tensors::swap::{Depth, Group, OptimizerOptions, OptimizerSwapper, SwapStore, Write};
use deepring_tensors::{DType, Declared, Safetensors, SaveOptions, Source, save};

use crate::aio::Direction;
use crate::arena::{Arena, Pages};
use crate::arguments::Arguments;
use crate::direct;
use crate::handle::Handle;
use crate::meter::{Meter, with_extra};
use crate::predecessor::Slice;
use crate::random::next;
use crate::stream::shape;
use crate::through::{Outcome, engine, failed, ran};
use crate::tiles::PAGE_BYTES;

/// The parts of a group.
const PARTS: [&str; 3] = ["param", "exp_avg", "exp_avg_sq"];

/// An expert of a model.
const EXPERT_BYTES: usize = 4 << 20;

/// Reads of experts that are measured.
const DEMANDS: usize = 48;

/// How much there is.
#[derive(Clone, Copy)]
struct Sizes {
    groups: usize,
    part_bytes: usize,
}

impl Sizes {
    fn of(arguments: &Arguments) -> Outcome<Self> {
        let (bytes, groups) = (arguments.number("bytes")? as usize, arguments.number("groups")? as usize);
        Ok(Self { groups, part_bytes: bytes / groups / PARTS.len() / PAGE_BYTES * PAGE_BYTES })
    }

    /// What a step reads and writes.
    fn moved(self) -> u64 {
        2 * (self.groups * PARTS.len() * self.part_bytes) as u64
    }
}

/// What a part has before the first step. No two parts begin with the same bytes.
fn fill(bytes: &mut [u8], group: usize, part: usize) {
    let mut state = (group * PARTS.len() + part) as u32 + 1;
    for word in bytes.as_chunks_mut().0 {
        state = next(state);
        *word = state.to_le_bytes();
    }
    count(bytes, 0);
}

fn count(bytes: &mut [u8], steps: u32) {
    bytes[..4].copy_from_slice(&steps.to_le_bytes());
}

/// The change that a step makes.
fn change(bytes: &mut [u8]) {
    let before = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    count(bytes, before + 1);
}

/// Whether a part is what so many steps have made of it.
fn check(found: &[u8], group: usize, part: usize, steps: u32) -> Outcome<()> {
    let mut expected = vec![0; found.len()];
    fill(&mut expected, group, part);
    count(&mut expected, steps);
    if found == expected { Ok(()) } else { Err(format!("{} of group {group} is not what {steps} steps make of it", PARTS[part])) }
}

/// Looks at memory for so long, as an optimizer would.
fn compute(parts: &[&mut [u8]], duration: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < duration {
        for part in parts {
            for piece in part.chunks(1 << 16) {
                black_box(piece.iter().fold(0u64, |sum, byte| sum.wrapping_add(u64::from(*byte))));
                if begun.elapsed() >= duration {
                    return;
                }
            }
        }
    }
}

fn name(group: usize) -> String {
    format!("group{group}")
}

/// One step, until everything is on the disk.
fn advance(swapper: &OptimizerSwapper, duration: Duration) -> Outcome<()> {
    let mut step = swapper.step().map_err(failed)?;
    while let Some(group) = step.wait_next() {
        let mut group = group.map_err(failed)?;
        let parts = group.parts();
        let mut parts: Vec<&mut [u8]> = [parts.param].into_iter().chain(parts.states).collect();
        for part in &mut parts {
            change(part);
        }
        compute(&parts, duration);
        group.close(Write::All).map_err(failed)?;
    }
    drop(step);
    swapper.flush().wait().map_err(failed)
}

/// A step of the swapper. With `compute`, in microseconds a group, another one computes so long; then the first is reported
/// as `ioSeconds`, and what was computed as `computeSeconds`.
pub(crate) fn step(arguments: &Arguments) -> Outcome<String> {
    let folder = arguments.path("folder")?;
    let sizes = Sizes::of(arguments)?;
    let memory = arguments.number("memory")?;
    let each = Duration::from_micros(arguments.number("compute")?);
    arguments.finish()?;

    let engine = engine()?;
    let groups = (0..sizes.groups).map(|group| Group::new(name(group), sizes.part_bytes as u64 / 4).states(PARTS[1..].iter().copied()));
    let options = OptimizerOptions::new(groups.collect()).depth(Depth::Auto).memory(memory).create(true);
    let swapper = OptimizerSwapper::open(&engine, &folder, options).wait().map_err(failed)?;
    for group in 0..sizes.groups {
        let part = |part: usize| {
            let mut bytes = vec![0; sizes.part_bytes];
            fill(&mut bytes, group, part);
            (PARTS[part], bytes)
        };
        swapper.initialize(&name(group), (0..PARTS.len()).map(part)).wait().map_err(failed)?;
    }
    // The first step touches the memory.
    advance(&swapper, Duration::ZERO)?;

    let (mut meter, begun) = (Meter::start()?, Instant::now());
    advance(&swapper, Duration::ZERO)?;
    let (mut extra, mut steps) = (Vec::new(), 2);
    if !each.is_zero() {
        let io = begun.elapsed();
        meter = Meter::start()?;
        advance(&swapper, each)?;
        extra = vec![("ioSeconds", io.as_secs_f64()), ("computeSeconds", (each * sizes.groups as u32).as_secs_f64())];
        steps += 1;
    }
    let measured = meter.stop()?;

    let mut last = swapper.step().map_err(failed)?;
    for group in 0..sizes.groups {
        let mut lease = last.wait_next().ok_or("a group is missing")?.map_err(failed)?;
        let parts = lease.parts();
        for (part, found) in [parts.param].into_iter().chain(parts.states).enumerate() {
            check(found, group, part, steps)?;
        }
    }
    Ok(with_extra(&measured.json(sizes.moved(), 2 * sizes.groups as u64, &ran(&engine)), &extra))
}

/// When the predecessor waits.
#[derive(Clone, Copy)]
enum Order {
    /// Its default: read a group and wait, change it, write it and wait.
    Waiting,
    /// `pipeline_read` and `pipeline_write`: the next group is read, and the one before is written, meanwhile.
    Pipelined,
}

/// The files of groups, one for each part, and the memory of some groups.
struct Files<'a> {
    folder: &'a Path,
    sizes: Sizes,
    arena: Arena,
}

impl Files<'_> {
    fn path(&self, group: usize, part: usize) -> PathBuf {
        self.folder.join(format!("{group}.{}.tensor.swp", PARTS[part]))
    }

    /// Memory of a group, in the place of a part.
    fn part(&mut self, set: usize, part: usize) -> &mut [u8] {
        let bytes = self.sizes.part_bytes;
        &mut self.arena.bytes_mut()[(set * PARTS.len() + part) * bytes..][..bytes]
    }

    /// Queues the parts of a group. Its files are open until they were waited for.
    fn queue(&self, handle: &Handle, direction: Direction, group: usize, set: usize) -> Outcome<Vec<File>> {
        let bytes = self.sizes.part_bytes;
        let queue = |part: usize| {
            let file = direct::open(&self.path(group, part), direction)?;
            let address = self.arena.address() + (set * PARTS.len() + part) * bytes;
            // SAFETY: the arena lives as long as the handles, and nothing uses this part of it until `wait` has returned.
            unsafe { handle.queue(Slice { direction, file: file.as_raw_fd(), address, bytes, position: 0 })? };
            Ok(file)
        };
        (0..PARTS.len()).map(queue).collect()
    }

    /// Changes a group, and computes so long.
    fn change(&mut self, set: usize, duration: Duration) {
        let bytes = PARTS.len() * self.sizes.part_bytes;
        let group = &mut self.arena.bytes_mut()[set * bytes..][..bytes];
        let mut parts: Vec<&mut [u8]> = group.chunks_mut(self.sizes.part_bytes).collect();
        for part in &mut parts {
            change(part);
        }
        compute(&parts, duration);
    }

    fn advance(&mut self, reading: &Handle, writing: &Handle, order: Order, each: Duration) -> Outcome<()> {
        let mut last = match order {
            Order::Waiting => self.waiting(reading, each)?,
            Order::Pipelined => self.pipelined(reading, writing, each)?,
        };
        // It flushes nothing itself. One call empties the cache of the drive.
        last.pop().map_or(Ok(()), |file| file.sync_data().map_err(failed))
    }

    fn waiting(&mut self, handle: &Handle, each: Duration) -> Outcome<Vec<File>> {
        let mut last = Vec::new();
        for group in 0..self.sizes.groups {
            wait(handle, self.queue(handle, Direction::Read, group, 0)?)?;
            self.change(0, each);
            last = wait(handle, self.queue(handle, Direction::Write, group, 0)?)?;
        }
        Ok(last)
    }

    fn pipelined(&mut self, reading: &Handle, writing: &Handle, each: Duration) -> Outcome<Vec<File>> {
        const SETS: usize = 3;
        let (groups, mut writes) = (self.sizes.groups, Vec::new());
        let mut reads = self.queue(reading, Direction::Read, 0, 0)?;
        for group in 0..groups {
            wait(reading, std::mem::take(&mut reads))?;
            if group + 1 < groups {
                reads = self.queue(reading, Direction::Read, group + 1, (group + 1) % SETS)?;
            }
            self.change(group % SETS, each);
            wait(writing, std::mem::take(&mut writes))?;
            writes = self.queue(writing, Direction::Write, group, group % SETS)?;
        }
        wait(writing, writes)
    }
}

/// Waits for operations of these files.
fn wait(handle: &Handle, files: Vec<File>) -> Outcome<Vec<File>> {
    files.iter().try_for_each(|_| handle.wait())?;
    Ok(files)
}

/// A step in the predecessor's order, by its loop; with `compute`, in microseconds a group, one that computes so long.
pub(crate) fn predecessor(arguments: &Arguments) -> Outcome<String> {
    let folder = arguments.path("folder")?;
    let sizes = Sizes::of(arguments)?;
    let shape = shape(arguments)?;
    let order = arguments.choice("order", &[("waiting", Order::Waiting), ("pipelined", Order::Pipelined)])?;
    let each = Duration::from_micros(arguments.number("compute")?);
    arguments.finish()?;

    let arena = Arena::new(3 * PARTS.len() * sizes.part_bytes, Pages::Huge)?;
    let mut files = Files { folder: &folder, sizes, arena };
    let (reading, writing) = (Handle::new(shape, 1)?, Handle::new(shape, 1)?);
    for group in 0..sizes.groups {
        (0..PARTS.len()).for_each(|part| fill(files.part(0, part), group, part));
        for file in wait(&writing, files.queue(&writing, Direction::Write, group, 0)?)? {
            file.sync_all().map_err(failed)?;
        }
    }
    files.advance(&reading, &writing, order, Duration::ZERO)?;

    let meter = Meter::start()?;
    files.advance(&reading, &writing, order, each)?;
    let measured = meter.stop()?;

    for group in 0..sizes.groups {
        wait(&reading, files.queue(&reading, Direction::Read, group, 0)?)?;
        (0..PARTS.len()).try_for_each(|part| check(files.part(0, part), group, part, 2))?;
    }
    Ok(measured.json(sizes.moved(), 2 * (sizes.groups * PARTS.len()) as u64, "libaio, direct"))
}

fn expert(nth: usize) -> String {
    format!("expert.{nth}")
}

/// Makes a model of experts.
pub(crate) fn model(arguments: &Arguments) -> Outcome<String> {
    let path = arguments.path("file")?;
    let bytes = arguments.number("bytes")? as usize;
    arguments.finish()?;

    let engine = engine()?;
    let source = |nth: usize| {
        let mut data = vec![0; EXPERT_BYTES];
        fill(&mut data, nth, 0);
        Source { declared: Declared { name: expert(nth), dtype: DType::U8, shape: vec![EXPERT_BYTES as u64] }, data }
    };
    let experts = (0..bytes / EXPERT_BYTES).map(source).collect();
    let saved = save(&engine, &path, experts, SaveOptions::new()).wait().map_err(failed)?;
    Ok(format!(r#"{{"bytes":{}}}"#, saved.bytes))
}

/// How experts are read, one after the other.
#[derive(Clone, Copy)]
enum Demand {
    /// By one read of the file, into memory that was touched.
    Raw,
    /// By a store that does nothing else.
    Alone,
    /// By a store that reads others ahead, by a plan that another thread follows.
    Beside,
}

/// Reads experts that no plan has. `medianMs` is that of one.
pub(crate) fn read(arguments: &Arguments) -> Outcome<String> {
    let path = arguments.path("file")?;
    let memory_bytes = arguments.number("memory")?;
    let pace = Duration::from_micros(arguments.number("pace")?);
    let demand = arguments.choice("demand", &[("raw", Demand::Raw), ("alone", Demand::Alone), ("beside", Demand::Beside)])?;
    arguments.finish()?;

    let engine = engine()?;
    let model = Safetensors::open(&engine, &path).wait().map_err(failed)?;
    let count = model.table().len();
    // Far apart, each once, and never one of the plan: that has the even ones.
    let demands: Vec<usize> = (0..DEMANDS).map(|nth| (nth * 61 % (count / 2)) * 2 + 1).collect();
    let planned: Vec<String> = (0..count).step_by(2).map(expert).collect();
    let store = SwapStore::over(&model, memory_bytes);
    let file = engine.open(&path, OpenOptions::new().read(true)).map_err(failed)?;
    let mut touched = engine.buffer(EXPERT_BYTES).map_err(failed)?;
    touched.fill(1);
    let mut memory = Some(touched);

    // The memory is touched before, as that of the raw read.
    for name in planned.iter().take(memory_bytes as usize / EXPERT_BYTES) {
        drop(store.get(name).wait().map_err(failed)?);
    }

    let ended = AtomicBool::new(false);
    let mut times = Vec::with_capacity(DEMANDS);
    let measured = std::thread::scope(|scope| {
        let walker = matches!(demand, Demand::Beside).then(|| {
            store.plan(planned.iter().map(String::as_str), true);
            scope.spawn(|| follow(&store, &planned, pace, &ended))
        });
        let mut all = || {
            // What is read ahead first fills its share of the memory.
            std::thread::sleep(Duration::from_millis(100));
            let meter = Meter::start()?;
            for nth in &demands {
                let begun = Instant::now();
                if matches!(demand, Demand::Raw) {
                    let info = model.table().info(model.table().index_of(&expert(*nth)).map_err(failed)?);
                    let buffer = memory.take().ok_or("the ring was lost")?;
                    let Completed { buf, result } = file.read_exact_at(buffer, info.position).wait();
                    result.map_err(failed)?;
                    times.push(begun.elapsed());
                    check(buf.as_deref().ok_or("the ring was lost")?, *nth, 0, 0)?;
                    memory = buf;
                } else {
                    let lease = store.get(&expert(*nth)).wait().map_err(failed)?;
                    times.push(begun.elapsed());
                    check(lease.bytes(), *nth, 0, 0)?;
                }
            }
            meter.stop()
        };
        let measured = all();
        ended.store(true, Ordering::Relaxed);
        walker.map_or(Ok(()), |walker| walker.join().map_err(|_| "the walker has panicked".to_owned())?)?;
        measured
    })?;
    times.sort_unstable();
    let median = times[times.len() / 2].as_secs_f64() * 1e3;
    let json = measured.json((DEMANDS * EXPERT_BYTES) as u64, DEMANDS as u64, &ran(&engine));
    Ok(with_extra(&json, &[("medianMs", median)]))
}

/// Uses experts in the order of the plan, each for a while.
fn follow(store: &SwapStore, planned: &[String], pace: Duration, ended: &AtomicBool) -> Outcome<()> {
    for name in planned.iter().cycle() {
        if ended.load(Ordering::Relaxed) {
            break;
        }
        let lease = store.get(name).wait().map_err(failed)?;
        black_box(lease.bytes()[0]);
        std::thread::sleep(pace);
    }
    Ok(())
}
