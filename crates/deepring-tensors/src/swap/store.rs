//! [`SwapStore`]: tensors by name, of which a budget of memory has some.

use super::bring::{self, Fresh};
use super::extents::{PAGE_BYTES, pages};
use super::flush;
use super::forecast::Forecast;
use super::grant::{Access, Granted, Request};
use super::lease::SwapLease;
use super::open;
use super::options::{SwapOptions, SwapPutOptions};
use super::planted::Planted;
use super::read::read_into;
use super::shared::{Place, Shared};
use super::snapshot::snapshot;
use super::state::{Guess, State};
use super::stats::{SwapInfo, SwapState, SwapStats};
use crate::budget::Budget;
use crate::checkpoint::CheckpointWriter;
use crate::convert::converts;
use crate::error::{Error, Result, quoted};
use crate::job::Job;
use crate::order::Declared;
use crate::save::Source;
use crate::slice::Slice;
use crate::tensors::Tensors;
use deepring::{Buffer, Engine, IoBuf, IoBufMut, Priority};
use std::ops::DerefMut;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// More tensors than fit in memory: a file of the store's own, or the files of a model, and a budget of memory that is never
/// exceeded. What does not fit waits. Clones share the store, and threads can use it at once.
///
/// ```
/// use deepring_tensors::swap::{SwapOptions, SwapStore};
/// use deepring_tensors::{DType, Declared, Source};
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("swap");
/// let engine = deepring::Engine::builder().build()?;
/// let store = SwapStore::open(&engine, &path, SwapOptions::new(64 << 20).create(true)).wait()?; // or .await
/// let declared = Declared { name: "bias".into(), dtype: DType::F32, shape: vec![2] };
/// store.put(Source { declared, data: vec![7u8; 8] }).wait()?; // copied: the memory is the caller's again
/// let mut bias = store.get_mut("bias").wait()?;
/// bias.bytes_mut()?[0] = 9;
/// bias.close(true)?; // written behind the program
/// assert_eq!(store.get("bias").wait()?.bytes(), [9, 7, 7, 7, 7, 7, 7, 7]);
/// store.close().wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// **What is written behind the program** can fail. Its error is reported once: by the next call that brings a version of that
/// tensor, or by the next [flush](Self::flush) or [close](Self::close). The tensor stays in memory until then, and is tried
/// again by the next flush. A call that needs its memory fails with the same error.
///
/// **A job that is dropped** gives up its place, and what it would have got. A request that waits for leases which the program
/// itself holds waits for ever.
#[derive(Debug, Clone)]
pub struct SwapStore {
    pub(super) shared: Arc<Shared>,
}

impl SwapStore {
    /// Opens a store in a directory, or begins one there. The tensors are those of the last [flush](Self::flush).
    ///
    /// The job fails with [`Error::Busy`] if the store is open, here or in another process; with [`Error::Torn`]; with
    /// [`Error::Format`] if the index is damaged or the file is shorter than it says; with [`Error::Io`]: `ENOENT` if there is
    /// no directory, `ENOSPC` if there is no room for [`SwapOptions::capacity`].
    pub fn open(engine: &Engine, directory: impl AsRef<Path>, options: SwapOptions) -> Job<Result<Self>> {
        let (engine, path, planted) = (engine.clone(), directory.as_ref().to_owned(), Planted::here());
        Job::new(async move { Ok(Self { shared: open::open(engine, path, options, planted).await? }) })
    }

    /// A store that only reads: the tensors of a model from its own files, with so many bytes of memory. Nothing is copied to
    /// another file. They are verified as a [load](Tensors::load) of them would be.
    ///
    /// ```
    /// use deepring_tensors::swap::SwapStore;
    /// # use deepring_tensors::{DType, Declared, SaveOptions, Source, Safetensors, save};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("model.safetensors");
    /// # let engine = deepring::Engine::builder().build()?;
    /// # let declared = Declared { name: "expert.7".into(), dtype: DType::F32, shape: vec![2] };
    /// # save(&engine, &path, vec![Source { declared, data: vec![0u8; 8] }], SaveOptions::new()).wait()?;
    /// let model = Safetensors::open(&engine, &path).wait()?;
    /// let experts = SwapStore::over(&model, 64 << 20);
    /// experts.plan(["expert.7"], true);
    /// assert_eq!(experts.get("expert.7").wait()?.bytes().len(), 8);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn over(tensors: &Tensors, memory: u64) -> Self {
        let mut state = State::new(Budget::new(memory), false);
        state.table = Some(Arc::clone(&tensors.inner.table));
        Self { shared: Shared::new(tensors.engine().clone(), Place::Table(tensors.clone()), state) }
    }

    /// Accepts a new version of a tensor: copies it, and writes it behind the program. Returns its memory. Leases of the
    /// version before keep that. Waits for room, and for a lease that writes the tensor.
    ///
    /// The job fails with [`Error::Budget`] if the tensor is larger than the budget; with [`Error::Io`], `ENOSPC`, if the file
    /// has no room for it; with [`Error::Argument`] if the bytes are not as many as were declared, or the store only reads; with
    /// the error of an earlier write of this tensor, and then this version was not accepted.
    pub fn put<B: IoBuf>(&self, tensor: Source<B>) -> Job<Result<B>> {
        self.put_with(tensor, SwapPutOptions::new())
    }

    /// The same, pinned or converted on arrival.
    ///
    /// The job fails as that of [`SwapStore::put`], with [`Error::Budget`] if the tensor and what is pinned are larger than the
    /// budget, and with [`Error::Argument`] if there is [no such conversion](crate::convert::converts).
    ///
    /// ```
    /// use deepring_tensors::swap::{SwapOptions, SwapPutOptions, SwapStore};
    /// use deepring_tensors::{DType, Declared, Source};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("swap");
    /// let engine = deepring::Engine::builder().build()?;
    /// let store = SwapStore::open(&engine, &path, SwapOptions::new(1 << 20).create(true)).wait()?;
    /// let declared = Declared { name: "bias".into(), dtype: DType::F32, shape: vec![1] };
    /// let options = SwapPutOptions::new().convert(DType::BF16).pin(true);
    /// store.put_with(Source { declared, data: 1.5f32.to_le_bytes().to_vec() }, options).wait()?;
    /// assert_eq!(store.get("bias").wait()?.bytes(), [0xc0, 0x3f]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put_with<B: IoBuf>(&self, tensor: Source<B>, options: SwapPutOptions) -> Job<Result<B>> {
        let shared = Arc::clone(&self.shared);
        Job::new(async move { put(&shared, tensor, options).await })
    }

    /// Accepts a new version of a tensor with its memory, which is not copied and does not come back. Otherwise as
    /// [`SwapStore::put_with`]. The tensor must have all of the memory: what the engine has allocated for just its bytes, and
    /// nothing else has a part of.
    ///
    /// The job fails as that of [`SwapStore::put_with`]; with [`Error::Argument`] if the memory is larger than the tensor or shared,
    /// or is to be converted to another type. The memory is gone then, too.
    ///
    /// ```
    /// use deepring_tensors::swap::{SwapOptions, SwapPutOptions, SwapStore};
    /// use deepring_tensors::{DType, Declared, Source};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("swap");
    /// let engine = deepring::Engine::builder().build()?;
    /// let store = SwapStore::open(&engine, &path, SwapOptions::new(1 << 20).create(true)).wait()?;
    /// let mut data = engine.buffer(5000)?;
    /// data.fill(7);
    /// let declared = Declared { name: "layer".into(), dtype: DType::U8, shape: vec![5000] };
    /// store.adopt(Source { declared, data }, SwapPutOptions::new()).wait()?;
    /// assert_eq!(store.get("layer").wait()?.bytes(), [7; 5000]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn adopt(&self, tensor: Source<Buffer>, options: SwapPutOptions) -> Job<Result<()>> {
        let shared = Arc::clone(&self.shared);
        Job::new(async move { adopt(&shared, tensor, options).await })
    }

    /// The same for several, one after the other. After an error, those before were accepted.
    pub fn put_many<B: IoBuf>(&self, tensors: Vec<Source<B>>) -> Job<Result<Vec<B>>> {
        self.put_many_with(tensors, SwapPutOptions::new())
    }

    /// The same for several, each pinned or converted on arrival.
    pub fn put_many_with<B: IoBuf>(&self, tensors: Vec<Source<B>>, options: SwapPutOptions) -> Job<Result<Vec<B>>> {
        let shared = Arc::clone(&self.shared);
        Job::new(async move {
            let mut all = Vec::with_capacity(tensors.len());
            for tensor in tensors {
                all.push(put(&shared, tensor, options).await?);
            }
            Ok(all)
        })
    }

    /// A lease that reads a tensor. Waits for room, and for a lease that writes it.
    ///
    /// The job fails with [`Error::NotFound`]; with [`Error::Budget`] if the tensor, with what is pinned, is larger than the
    /// budget; with [`Error::Io`] and [`Error::Checksum`], which name the tensor.
    pub fn get(&self, name: &str) -> Job<Result<SwapLease>> {
        let (shared, names) = (Arc::clone(&self.shared), vec![Arc::from(name)]);
        Job::new(async move { Ok(bring::read(&shared, names).await?.swap_remove(0)) })
    }

    /// The same for several at once, in the order of the names: all fit together, or it waits.
    ///
    /// The job fails as that of [`SwapStore::get`].
    pub fn get_many<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Job<Result<Vec<SwapLease>>> {
        let (shared, names) = (Arc::clone(&self.shared), names.into_iter().map(Arc::from).collect());
        Job::new(async move { bring::read(&shared, names).await })
    }

    /// A lease that reads a slice of a tensor, in memory of its own: of the budget it takes the bytes of the slice. They alone are
    /// read from the drive, unless the whole tensor is in memory or on its way. The tensor is free meanwhile, to be changed too.
    ///
    /// A store that keeps [checksums](SwapOptions::checksum) cannot verify a part of a tensor: a slice is as it was read. Of a model,
    /// it is verified as a [load](Tensors::tensor) of it would be.
    ///
    /// The job fails as that of [`SwapStore::get`], and with [`Error::Slice`] if the tensor has no such slice.
    ///
    /// ```
    /// use deepring_tensors::swap::{SwapOptions, SwapStore};
    /// use deepring_tensors::{DType, Declared, Slice, Source};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("swap");
    /// let engine = deepring::Engine::builder().build()?;
    /// let store = SwapStore::open(&engine, &path, SwapOptions::new(1 << 20).create(true)).wait()?;
    /// let declared = Declared { name: "x".into(), dtype: DType::U8, shape: vec![3, 2] };
    /// store.put(Source { declared, data: vec![0u8, 1, 2, 3, 4, 5] }).wait()?;
    /// let column = store.get_slice("x", Slice::new([None, Some(1..2)])).wait()?;
    /// assert_eq!((column.shape(), column.bytes()), (&[3, 1][..], &[1, 3, 5][..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_slice(&self, name: &str, slice: Slice) -> Job<Result<SwapLease>> {
        let (shared, name) = (Arc::clone(&self.shared), Arc::from(name));
        Job::new(async move { bring::slice(&shared, name, slice).await })
    }

    /// A lease that can change a tensor. Waits until no other lease has it, and until the version before is on the drive: so
    /// what is changed can be forgotten.
    ///
    /// The job fails as that of [`SwapStore::get`]; with `ENOSPC` if a durable store has no room for a new version; with the error of
    /// the version before if that cannot be written, which is tried once more.
    pub fn get_mut(&self, name: &str) -> Job<Result<SwapLease>> {
        let (shared, name) = (Arc::clone(&self.shared), Arc::from(name));
        Job::new(async move { bring::change(&shared, name, Priority::Latency).await })
    }

    /// A lease of a new version, all zeros, for bytes that are made in place. It exists once it is closed with `write`.
    ///
    /// The job fails as that of [`SwapStore::put`].
    pub fn lease(&self, declared: Declared) -> Job<Result<SwapLease>> {
        let shared = Arc::clone(&self.shared);
        Job::new(async move { bring::create(&shared, &declared, Fresh::Zeroed).await })
    }

    /// Reads a tensor into memory of the caller, which has just its size. That takes nothing of the budget, and what is in
    /// memory stays there.
    ///
    /// The job fails as that of [`SwapStore::get`], and with [`Error::Argument`] if the size is another.
    pub fn get_into<B: IoBufMut + DerefMut<Target = [u8]>>(&self, name: &str, buf: B) -> Job<Result<B>> {
        let (shared, name) = (Arc::clone(&self.shared), Arc::<str>::from(name));
        Job::new(async move { into(&shared, name, buf).await })
    }

    /// Tensors that will probably be asked for. They are read while the drive has nothing better to do, and only into memory
    /// that is free, or that has nothing of a plan. One whose read has not begun after `expires` is forgotten, and so is a name
    /// that does not exist.
    pub fn prefetch<'n>(&self, names: impl IntoIterator<Item = &'n str>, expires: Duration) {
        let expires = Instant::now() + expires;
        let guesses: Vec<Guess> = names.into_iter().map(|name| Guess { name: Arc::from(name), expires }).collect();
        self.shared.change(|state| state.guesses.extend(guesses));
    }

    /// The order in which tensors will be asked for, again and again with `repeat`. It takes the place of the plan before. They
    /// are read ahead in this order, and what is used last is dropped first. A plan that is wrong costs time alone.
    pub fn plan<'n>(&self, names: impl IntoIterator<Item = &'n str>, repeat: bool) {
        let forecast = Forecast::new(names.into_iter().map(Arc::from).collect(), repeat);
        self.shared.change(|state| {
            (state.forecast, state.ahead_from) = (forecast, 0);
            let ranked: Vec<Arc<str>> = state.ranks.iter().map(|(_, _, name)| Arc::clone(name)).collect();
            for name in ranked {
                state.rank(&name);
            }
        });
    }

    /// Brings a tensor into memory, where it stays until it is [unpinned](Self::unpin) as often.
    ///
    /// The job fails as that of [`SwapStore::get`].
    pub fn pin(&self, name: &str) -> Job<Result<()>> {
        let (shared, name) = (Arc::clone(&self.shared), Arc::<str>::from(name));
        Job::new(async move {
            let lease = bring::read(&shared, vec![Arc::clone(&name)]).await?;
            shared.change(|state| state.pin(&name));
            drop(lease);
            Ok(())
        })
    }

    /// Takes a pin away. That there is none is no error.
    pub fn unpin(&self, name: &str) {
        self.shared.change(|state| {
            if let Some(entry) = state.entries.get_mut(name).filter(|entry| entry.pins > 0) {
                entry.pins -= 1;
                let is_last = entry.pins == 0;
                state.pinned_bytes -= entry.newest().filter(|_| is_last).map_or(0, |version| version.bytes());
                state.rank(name);
            }
        });
    }

    /// Drops a tensor from memory, once it is on the drive and no lease has it.
    ///
    /// The job fails with [`Error::NotFound`]; with [`Error::Argument`] if it is pinned; with the error of its write.
    pub fn evict(&self, name: &str) -> Job<Result<()>> {
        let (shared, name) = (Arc::clone(&self.shared), Arc::<str>::from(name));
        Job::new(async move { shared.until(|state| evict(state, &name)).await })
    }

    /// Removes a tensor, once no lease has it and nothing of it is on its way. The next flush makes that last.
    ///
    /// The job fails with [`Error::NotFound`]; with [`Error::Argument`] if the store only reads.
    pub fn remove(&self, name: &str) -> Job<Result<()>> {
        let (shared, name) = (Arc::clone(&self.shared), Arc::<str>::from(name));
        Job::new(async move {
            shared.disk()?;
            shared.until(|state| remove(state, &name)).await
        })
    }

    /// Brings everything that was accepted to the drive, and makes it last: from here on a store that is opened has it, after a
    /// crash too unless a store that is not [durable](SwapOptions::durable) was written to in between. Waits for no lease:
    /// what is being changed is as it was before.
    ///
    /// The job fails with the error of a write that was not reported; with [`Error::Io`]. The flush before holds then.
    pub fn flush(&self) -> Job<Result<()>> {
        let shared = Arc::clone(&self.shared);
        Job::new(async move {
            shared.lock().check_open()?;
            flush::flush(&shared).await
        })
    }

    /// Flushes, and puts all tensors into a checkpoint in progress, under their names, as of the flush. Where the file system can,
    /// tensors of whole pages share its blocks with the store, and are not written again; the receipt of the commit says how
    /// many bytes did. It takes memory for one tensor beside the budget.
    ///
    /// A [durable](SwapOptions::durable) store is written to meanwhile; of any other, all that is brought stays in memory until the
    /// job ends, and waits when that is a quarter of the budget. Other flushes wait.
    ///
    /// The job fails as that of [`SwapStore::flush`], and as that of [`CheckpointWriter::put`]; with [`Error::Argument`] if the store
    /// only reads.
    pub fn snapshot(&self, writer: &CheckpointWriter) -> Job<Result<()>> {
        let (shared, writer) = (Arc::clone(&self.shared), writer.share());
        Job::new(async move { snapshot(&shared, &writer).await })
    }

    /// Where the newest version of a tensor is. `None` if there is none.
    pub fn state(&self, name: &str) -> Option<SwapState> {
        self.info(name).map(|info| info.state)
    }

    /// What the newest version of a tensor is. `None` if there is none.
    pub fn info(&self, name: &str) -> Option<SwapInfo> {
        self.shared.lock().info(name)
    }

    /// What is in memory, and what was done so far.
    pub fn stats(&self) -> SwapStats {
        self.shared.lock().stats()
    }

    /// The names of all tensors, in their order.
    pub fn names(&self) -> Vec<String> {
        let state = self.shared.lock();
        let mut names: Vec<String> = if let Some(table) = &state.table {
            table.names().map(str::to_owned).collect()
        } else {
            let entries = state.entries.iter().filter(|(_, entry)| entry.newest().is_some());
            entries.map(|(name, _)| name.to_string()).collect()
        };
        names.sort_unstable();
        names
    }

    /// Flushes the store and ends its use, by this value and its clones: calls that follow are errors, and a lease that is
    /// closed afterwards is forgotten. Another can open it then. Without it, the store is closed with its last clone and
    /// lease, and what was not flushed is lost.
    ///
    /// The job fails as that of [`SwapStore::flush`]; then the store stays open.
    pub fn close(self) -> Job<Result<()>> {
        Job::new(async move {
            self.shared.lock().check_open()?;
            flush::flush(&self.shared).await?;
            self.shared.change(|state| state.is_closed = true);
            if let Place::Own(disk) = &self.shared.place {
                // What was put meanwhile is not flushed, but it is on its way.
                self.shared.until(|state| (state.writes == 0).then_some(())).await;
                disk.lock.give_back();
            }
            Ok(())
        })
    }
}

async fn put<B: IoBuf>(shared: &Arc<Shared>, Source { declared, data }: Source<B>, options: SwapPutOptions) -> Result<B> {
    check_given(&declared, data.len())?;
    let (from, to) = (declared.dtype, options.convert.unwrap_or(declared.dtype));
    if !converts(from, to) {
        return Err(Error::Argument(format!("{from} is not converted to {to}, tensor {}", quoted(&declared.name))));
    }
    let mut lease = bring::create(shared, &Declared { dtype: to, ..declared }, Fresh::Unset).await?;
    let (lease, data) = if from == to {
        lease.fill(&data);
        (lease, data)
    } else {
        let converting = move || lease.convert(from, &data).map(|()| (lease, data));
        shared.engine.run_blocking(converting).await??
    };
    // A write that has failed since it was granted is for the next call: this version is accepted.
    lease.accept(false, options.pin)?;
    Ok(data)
}

async fn adopt(shared: &Arc<Shared>, Source { declared, data }: Source<Buffer>, options: SwapPutOptions) -> Result<()> {
    check_given(&declared, data.len())?;
    let refused = |why: &str| Error::Argument(format!("{why}, so that it cannot be adopted, tensor {}", quoted(&declared.name)));
    if options.convert.is_some_and(|to| to != declared.dtype) {
        return Err(refused("what is converted is copied"));
    }
    let len = pages(data.len() as u64);
    let Ok(mut memory) = data.try_whole() else { return Err(refused("the memory is shared")) };
    // The engine rounds up by a sixteenth at most, and to a page.
    if memory.len() as u64 > len.max(PAGE_BYTES) + len / 8 {
        return Err(refused("the memory is larger than the tensor"));
    }
    memory.truncate(len as usize);
    let lease = bring::create(shared, &declared, Fresh::Adopted(memory)).await?;
    lease.accept(false, options.pin)?;
    shared.lock().stats.adopted += len;
    Ok(())
}

fn check_given(declared: &Declared, given: usize) -> Result<()> {
    let len = declared.bytes()?;
    if len != given as u64 {
        return Err(Error::Argument(format!("{given} bytes were given for the {len} of tensor {:?}", declared.name)));
    }
    Ok(())
}

async fn into<B: IoBufMut + DerefMut<Target = [u8]>>(shared: &Arc<Shared>, name: Arc<str>, mut buf: B) -> Result<B> {
    let Place::Own(disk) = &shared.place else {
        let lease = bring::read(shared, vec![name]).await?.swap_remove(0);
        check_len(lease.name(), lease.bytes().len(), buf.len())?;
        buf.copy_from_slice(lease.bytes());
        return Ok(buf);
    };
    let Granted { mut holds, .. } = Request::new(shared, vec![Arc::clone(&name)], Access::Drive, Priority::Latency).granted().await?;
    let hold = holds.swap_remove(0);
    let Some(version) = hold.version.clone() else { return Err(Error::NotFound { tensor: name.to_string() }) };
    check_len(&name, version.len as usize, buf.len())?;
    if !hold.is_drive() {
        let lease = bring::lease(hold).await?;
        buf.copy_from_slice(lease.bytes());
        return Ok(buf);
    }
    let read = read_into(disk, &name, &version, buf).await;
    drop(hold);
    read
}

fn check_len(name: &str, len: usize, given: usize) -> Result<()> {
    if len != given {
        return Err(Error::Argument(format!("the memory has {given} bytes, and tensor {name:?} has {len}")));
    }
    Ok(())
}

fn evict(state: &mut State, name: &Arc<str>) -> Option<Result<()>> {
    let (entry, _) = match state.check_open().and_then(|()| state.find(name)) {
        Ok(found) => found,
        Err(error) => return Some(Err(error)),
    };
    if entry.pins > 0 {
        return Some(Err(Error::Argument(format!("{name:?} is pinned"))));
    }
    if entry.is_evictable() {
        state.drop_memory(name);
        return Some(Ok(()));
    }
    if entry.is_free() && matches!(entry.memory, super::entry::Memory::Absent) {
        return Some(Ok(()));
    }
    if entry.unwritten.is_some() {
        state.urgent.push(Arc::clone(name));
        if state.stuck.contains_key(name) {
            return state.faults.remove(name).or_else(|| state.stuck.get(name).cloned()).map(Err);
        }
    }
    None
}

fn remove(state: &mut State, name: &Arc<str>) -> Option<Result<()>> {
    let (entry, version) = match state.check_open().and_then(|()| state.find(name)) {
        Ok(found) => found,
        Err(error) => return Some(Err(error)),
    };
    if entry.has_writer || entry.readers > 0 || !entry.is_unread() || entry.writing.is_some() {
        return None;
    }
    if entry.pins > 0 {
        entry.pins = 0;
        state.pinned_bytes -= version.bytes();
    }
    let _ = state.forget_unwritten(name, None);
    for errors in [&mut state.stuck, &mut state.faults, &mut state.damaged] {
        errors.remove(name);
    }
    state.drop_memory(name);
    if let Some(stored) = state.entries.remove(name).and_then(|entry| entry.stored) {
        state.release(&stored, &[]);
    }
    Some(Ok(()))
}
