//! [`OptimizerSwapper`]: the state of an optimizer in a file.

use super::flush::flush;
use super::geometry::{Geometry, Slot};
use super::gradient;
use super::index::{Index, Slots};
use super::initialize;
use super::options::{Depth, OptimizerOptions};
use super::shared::{Resident, Shared, State};
use super::snapshot::snapshot;
use super::stats::OptimizerStats;
use super::step::Step;
use super::wakers::Wakers;
use crate::budget::{Budget, Permit};
use crate::checkpoint::CheckpointWriter;
use crate::error::{Error, Fault, Reason, Result, quoted};
use crate::job::Job;
use crate::swap::directory::{Entered, SwapDirectory, lengthen};
use crate::tensors::Tensors;
use deepring::{Buffer, Direct, Engine, File, IoBuf, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The most groups ahead and behind if nothing else is said: more in flight gains nothing at any drive.
const DEPTH_AUTO_MAX: usize = 4;

/// The parameters and states of an optimizer, larger than memory: in one file, each group contiguous. A step reads groups ahead
/// of the program and writes them behind it, within a budget of memory.
///
/// States that were never written are zeros, and neither read nor stored. Gradients come in pieces of any size, and are used
/// by the next lease of their group that is closed with a write; they are not kept when the swapper is opened again.
///
/// Without [`durable`](OptimizerOptions::durable), groups are written in place: a process that ends between the beginning of a
/// step and the next [flush](OptimizerSwapper::flush) leaves a swapper that is [torn](Error::Torn). With it, the next open finds
/// the last flush.
///
/// Clones are the same swapper. Calls can come from any number of threads; what is in use by a step or another call is
/// [`Error::Busy`].
///
/// ```
/// use deepring_tensors::DType;
/// use deepring_tensors::swap::{Group, OptimizerOptions, OptimizerSwapper, Write};
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path();
/// let engine = deepring::Engine::builder().build()?;
/// let groups = vec![Group::new("layer0", 1000).states(["momentum"]).gradient(DType::F32)];
/// let swapper = OptimizerSwapper::open(&engine, path, OptimizerOptions::new(groups).memory(1 << 20)).wait()?;
/// swapper.initialize("layer0", [("param", 1f32.to_le_bytes().repeat(1000))]).wait()?;
/// swapper.put_gradient("layer0", 0, 0.5f32.to_le_bytes().repeat(1000)).wait()?;
///
/// let float = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
/// let mut step = swapper.step()?;
/// while let Some(group) = step.wait_next() { // or step.next().await
///     let mut group = group?;
///     let mut parts = group.parts();
///     let gradient = parts.gradient.as_deref().unwrap();
///     for ((p, m), g) in parts.param.chunks_mut(4).zip(parts.states[0].chunks_mut(4)).zip(gradient.chunks(4)) {
///         let momentum = 0.9 * float(m) + float(g);
///         m.copy_from_slice(&momentum.to_le_bytes());
///         p.copy_from_slice(&(float(p) - 0.1 * momentum).to_le_bytes());
///     }
///     group.close(Write::All)?;
/// }
/// swapper.flush().wait()?;
///
/// let mut step = swapper.step()?;
/// let mut group = step.wait_next().unwrap()?;
/// assert_eq!(float(&group.parts().param[..4]), 0.95);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct OptimizerSwapper {
    shared: Arc<Shared>,
}

impl OptimizerSwapper {
    /// Opens a swapper in a directory, with the groups that it had before, or makes one, whose parts are all zero. Its file
    /// gets its space on the drive at once.
    ///
    /// The job fails with [`Error::Budget`] if the memory is less than the depth needs; with [`Error::Busy`] if another
    /// program, or another part of this one, has it open; with [`Error::Torn`]; with [`Error::Format`] if it has other groups,
    /// or is damaged; with [`Error::Argument`] for groups that cannot be; with [`Error::Io`].
    pub fn open(engine: &Engine, directory: impl AsRef<Path>, options: OptimizerOptions) -> Job<Result<Self>> {
        let (engine, directory) = (engine.clone(), directory.as_ref().to_owned());
        Job::new(async move { open(engine, directory, options).await.map(|shared| Self { shared }) })
    }

    /// Gives parts of a group their bytes, by the names `param` and those of its states. The job returns their memory.
    ///
    /// The job fails with [`Error::NotFound`] for a group or part that is not there; with [`Error::Argument`] if the sizes
    /// differ; with [`Error::Busy`]; with [`Error::Io`]: then all parts of the group have to be given again.
    pub fn initialize<N, B>(&self, group: &str, parts: impl IntoIterator<Item = (N, B)>) -> Job<Result<Vec<B>>>
    where
        N: Into<String>,
        B: IoBuf,
    {
        let (shared, group) = (Arc::clone(&self.shared), self.shared.group(group));
        let parts = parts.into_iter().map(|(name, data)| (name.into(), data)).collect();
        Job::new(async move { initialize::from_memory(shared, group?, parts).await })
    }

    /// Gives parts of a group the bytes of tensors, in files of any format, a few MiB at a time: pairs of the name of a part and
    /// that of a tensor with as many elements, of any shape. With `convert`, other floating-point types are converted to that of
    /// the group, on threads of the engine.
    ///
    /// The job fails as that of [`OptimizerSwapper::initialize`]; with [`Error::Argument`] if a tensor has another type or
    /// number of elements; with [`Error::Budget`] if one index of the first dimension of a tensor does not fit in the memory.
    pub fn initialize_from<P, T>(
        &self,
        group: &str,
        source: &Tensors,
        parts: impl IntoIterator<Item = (P, T)>,
        convert: bool,
    ) -> Job<Result<()>>
    where
        P: Into<String>,
        T: Into<String>,
    {
        let (shared, group, source) = (Arc::clone(&self.shared), self.shared.group(group), source.clone());
        let parts = parts.into_iter().map(|(part, tensor)| (part.into(), tensor.into())).collect();
        Job::new(async move { initialize::from_tensors(shared, group?, source, parts, convert).await })
    }

    /// Gives a piece of a gradient, from the element `offset` on: of any size, in any order. It is copied, and written when its
    /// block of 4 MiB is complete. Waits for memory, and not for the drive otherwise. The job returns the memory of the piece.
    ///
    /// The job fails with [`Error::Overlap`] if some of its bytes have come before; with [`Error::OutOfRange`]; with
    /// [`Error::Busy`] if a step has not come past the group; with [`Error::Budget`] if leases of the program have all memory.
    pub fn put_gradient<B: IoBuf>(&self, group: &str, offset: u64, piece: B) -> Job<Result<B>> {
        let (shared, group) = (Arc::clone(&self.shared), self.shared.group(group));
        Job::new(async move { gradient::put(shared, group?, offset, piece).await })
    }

    /// Writes the pieces of gradients that are in memory, and waits until they are written. A step does so by itself.
    ///
    /// The job fails with [`Error::Io`].
    pub fn flush_gradients(&self) -> Job<Result<()>> {
        let shared = Arc::clone(&self.shared);
        Job::new(async move {
            shared.spill_all(&mut shared.lock());
            for group in 0..shared.groups.len() {
                shared.settled(group).await?;
            }
            Ok(())
        })
    }

    /// Makes parts of a group all zeros: states, or `param`. Nothing is read or written.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Busy`].
    pub fn reset<'n>(&self, group: &str, parts: impl IntoIterator<Item = &'n str>) -> Result<()> {
        let (shared, group) = (&self.shared, self.shared.group(group)?);
        let geometry = &shared.groups[group];
        let parts = initialize::kept(shared, group, parts.into_iter())?;
        let _claim = shared.claim(vec![group])?;
        let mut state = shared.lock();
        let own = &mut state.groups[group];
        for part in &parts {
            own.now[*part] = None;
        }
        if let Some(resident) = &mut own.resident {
            let mut memory = resident.parts.lock().unwrap_or_else(PoisonError::into_inner);
            for part in &parts {
                memory[*part].fill(0);
            }
            resident.is_dirty |= parts.len() < geometry.kept();
        }
        Ok(())
    }

    /// Begins a step over all groups, in their order.
    ///
    /// # Errors
    /// [`Error::Busy`] if another step, or another call that needs a group, has not ended.
    pub fn step(&self) -> Result<Step> {
        self.begin_step((0..self.shared.groups.len()).collect())
    }

    /// Begins a step over these groups, in this order.
    ///
    /// # Errors
    /// As [`OptimizerSwapper::step`]; [`Error::NotFound`]; [`Error::Argument`] if a group is there twice.
    pub fn step_over<'n>(&self, order: impl IntoIterator<Item = &'n str>) -> Result<Step> {
        let order = order.into_iter().map(|name| self.shared.group(name)).collect::<Result<Vec<_>>>()?;
        let mut seen = vec![false; self.shared.groups.len()];
        if let Some(twice) = order.iter().find(|group| std::mem::replace(&mut seen[**group], true)) {
            return Err(Error::Argument(format!("group {} is there twice", quoted(self.shared.name(*twice)))));
        }
        self.begin_step(order)
    }

    fn begin_step(&self, order: Vec<usize>) -> Result<Step> {
        // Two steps at once could take each other's memory for ever.
        let mut all = self.shared.claim_all()?;
        all.keep(&order);
        Ok(Step::new(all, order))
    }

    /// Waits for all writes, and makes what they wrote durable: the next open finds it. Gradients are not part of it.
    ///
    /// The job fails with [`Error::Busy`] in a step, or if a durable swapper is read by a snapshot; with [`Error::Io`], which
    /// names the group that could not be written.
    pub fn flush(&self) -> Job<Result<()>> {
        let shared = Arc::clone(&self.shared);
        Job::new(async move {
            let _claim = shared.claim_all()?;
            flush(&shared).await
        })
    }

    /// Flushes, and puts all groups into a checkpoint in progress, part by part: tensors of the names `GROUP.param` and
    /// `GROUP.STATE`, of one dimension. It takes memory for two parts beside the budget. A durable swapper can be used
    /// meanwhile, but not flushed; of any other, groups are in use until the job ends.
    ///
    /// The job fails as that of [`OptimizerSwapper::flush`], and as that of [`CheckpointWriter::put`].
    pub fn snapshot(&self, writer: &CheckpointWriter) -> Job<Result<()>> {
        let (shared, writer) = (Arc::clone(&self.shared), writer.share());
        Job::new(async move { snapshot(shared, writer).await })
    }

    /// Initializes all groups from the tensors of a [snapshot](OptimizerSwapper::snapshot).
    ///
    /// The job fails as that of [`OptimizerSwapper::initialize_from`].
    pub fn restore(&self, source: &Tensors) -> Job<Result<()>> {
        let (shared, source) = (Arc::clone(&self.shared), source.clone());
        Job::new(async move {
            for (group, geometry) in shared.groups.iter().enumerate() {
                let name = shared.name(group);
                let parts = geometry.kept_names().map(|part| (part.to_owned(), part_name(name, part))).collect();
                initialize::from_tensors(Arc::clone(&shared), group, source.clone(), parts, false).await?;
            }
            Ok(())
        })
    }

    /// What it has done so far.
    pub fn stats(&self) -> OptimizerStats {
        let mut state = self.shared.lock();
        while self.shared.reap(&mut state) {}
        let budget = &self.shared.budget;
        OptimizerStats {
            memory: budget.limit(),
            used: budget.limit() - budget.left(),
            used_max: budget.used_max(),
            depth: self.shared.depth,
            read: state.read,
            written: state.written,
            leases: state.leases,
            read_time: state.times.read.total,
            write_time: state.times.write.total,
            io_time: state.times.io.total,
            compute_time: state.times.compute.total,
            stall_time: state.times.stall,
        }
    }

    /// Flushes, and ends the use of the swapper, by this value and its clones. Another can open it then.
    ///
    /// The job fails as that of [`OptimizerSwapper::flush`], and with [`Error::Busy`] during a snapshot; then it is still open.
    pub fn close(self) -> Job<Result<()>> {
        Job::new(async move {
            let _claim = self.shared.claim_all()?;
            flush(&self.shared).await?;
            {
                let mut state = self.shared.lock();
                self.shared.check_unread(&state)?;
                state.is_closed = true;
            }
            // A gradient that came meanwhile is on its way.
            self.shared.all_written().await;
            self.shared.lock.give_back();
            Ok(())
        })
    }
}

/// The name of a part, among those of all groups.
pub(super) fn part_name(group: &str, part: &str) -> String {
    format!("{group}.{part}")
}

async fn open(engine: Engine, directory: PathBuf, options: OptimizerOptions) -> Result<Arc<Shared>> {
    let (groups, bytes) = Geometry::all(&options.groups, options.durable)?;
    let depth = depth(&options, &groups)?;
    let create = options.create;
    let Entered { directory, lock, index, .. } = engine.run_blocking(move || SwapDirectory::enter(&directory, create)).await??;
    let opening = OpenOptions::new().read(true).write(true).create(true).direct(Direct::Prefer);
    let data = engine.open_async(directory.data(), opening).await?;
    let (slots, is_new) = found(&directory, index, &groups, &options)?;
    if is_new {
        data.set_len(0).await?;
        lengthen(&data, 0, bytes).await?;
    } else {
        check_length(&data, bytes).await?;
    }
    let budget = Budget::new(options.memory);
    let names = groups.iter().enumerate().map(|(index, geometry)| (geometry.group.name.clone(), index)).collect();
    let OptimizerOptions { durable, .. } = options;
    let (wakers, state) = (Arc::new(Wakers::default()), Mutex::new(State::new(slots)));
    let shared = Arc::new(Shared { engine, directory, data, lock, groups, names, durable, depth, budget, wakers, state });
    if is_new {
        shared.commit().await?;
    }
    for group in 0..shared.groups.len() {
        if shared.groups[group].group.resident {
            let resident = load(&shared, group).await?;
            shared.lock().groups[group].resident = Some(resident);
        }
    }
    Ok(shared)
}

/// What a directory has: where the parts are, and whether it is a new one.
fn found(directory: &SwapDirectory, index: Option<Vec<u8>>, groups: &[Geometry], options: &OptimizerOptions) -> Result<(Vec<Slots>, bool)> {
    if let Some(bytes) = index {
        let index = Index::parse(&bytes, groups, options.durable).map_err(|fault| fault.at(&directory.index()))?;
        if !index.is_torn {
            return Ok((index.slots, false));
        }
        if !options.create {
            return Err(directory.torn());
        }
    }
    let zeros = |geometry: &Geometry| vec![None::<Slot>; geometry.kept()];
    Ok((groups.iter().map(zeros).collect(), true))
}

/// Checks that the file has not become shorter.
async fn check_length(data: &File, bytes: u64) -> Result<()> {
    let size = data.stat().await?.size;
    if size < bytes {
        let detail = format!("it has {size} bytes, and its groups {bytes}");
        return Err(Fault::new(Reason::Truncated, detail).at(data.path()));
    }
    Ok(())
}

/// How deep the memory allows to work.
fn depth(options: &OptimizerOptions, groups: &[Geometry]) -> Result<usize> {
    let largest = groups.iter().max_by_key(|geometry| geometry.bytes());
    let resident: u64 = groups.iter().filter(|geometry| geometry.group.resident).map(Geometry::bytes).sum();
    let needed = |depth: usize| {
        let at_once = depth.saturating_mul(2).saturating_add(1).min(groups.len());
        resident.saturating_add(largest.map_or(0, Geometry::bytes).saturating_mul(at_once as u64))
    };
    let depth = match options.depth {
        Depth::Auto => (1..=DEPTH_AUTO_MAX).rev().find(|depth| needed(*depth) <= options.memory).unwrap_or(1),
        Depth::Groups(0) => return Err(Error::Argument("the depth is 0".into())),
        Depth::Groups(depth) => depth,
    };
    if needed(depth) > options.memory {
        let tensor = largest.map(|geometry| geometry.group.name.clone());
        return Err(Error::Budget { needed: needed(depth), budget: options.memory, tensor });
    }
    Ok(depth)
}

/// Reads a group that stays in memory.
async fn load(shared: &Arc<Shared>, group: usize) -> Result<Resident> {
    let bytes = shared.groups[group].bytes();
    let budget = || Error::Budget { needed: bytes, budget: shared.budget.limit(), tensor: Some(shared.name(group).to_owned()) };
    let permit: Permit = shared.budget.take(bytes).ok_or_else(budget)?;
    let mut reading = super::memory::Reading::begin(shared, &shared.lock(), group)?;
    let parts: Vec<Buffer> = reading.end(shared).await?;
    Ok(Resident { parts: Arc::new(Mutex::new(parts)), is_dirty: false, _permit: permit })
}
