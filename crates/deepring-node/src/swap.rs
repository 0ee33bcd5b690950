//! Swap stores: tensors by name, within a budget of memory. Their leases are in `swap_leases`.

use crate::convert::Detail;
use crate::delivery::lock;
use crate::memory::{Foreign, Given, View};
use crate::record;
use crate::session::{Session, State, unknown};
use crate::swap_detail::{SwapStatistics, SwapTensor};
use crate::swap_leases::OpenLease;
use crate::swap_optimizer::{OpenStep, OpenSwapper};
use crate::tensors::path_of;
use crate::tensors_detail::Fresh;
use crate::tensors_job::{failed, nothing};
use crate::tensors_lists::{Columns, TensorColumns, Texts, texts};
use crate::tensors_load::slice_of;
use deepring::{Engine, IoBuf, IoBufMut};
use deepring_tensors::checkpoint::Checkpoint;
use deepring_tensors::swap::{SwapOptions, SwapPutOptions, SwapStore};
use deepring_tensors::{DType, Declared, Source};
use napi::Env;
use napi::bindgen_prelude::*;
use napi_derive::napi;
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

/// What an environment has open of swap stores and optimizer swappers.
#[derive(Default)]
pub struct OpenSwaps {
    pub stores: RefCell<HashMap<u32, OpenSwap>>,
    pub swappers: RefCell<HashMap<u32, OpenSwapper>>,
    pub steps: RefCell<HashMap<u32, OpenStep>>,
    pub leases: RefCell<HashMap<u32, OpenLease>>,
}

impl OpenSwaps {
    /// All records have come.
    pub fn clear(&self) {
        self.leases.borrow_mut().clear();
        self.steps.borrow_mut().clear();
        self.swappers.borrow_mut().clear();
        self.stores.borrow_mut().clear();
    }
}

/// A store, with its engine, which can be closed before it ends.
#[derive(Clone)]
pub struct OpenSwap {
    pub store: SwapStore,
    pub engine: Engine,
    /// Whose tensors it serves: it is not removed before the store is closed.
    _checkpoint: Option<Checkpoint>,
}

impl OpenSwap {
    /// A store with files of its own.
    pub fn own(store: SwapStore, engine: Engine) -> Self {
        Self { store, engine, _checkpoint: None }
    }
}

impl State {
    /// Gives a store its number.
    pub fn register_swap(&self, open: OpenSwap) -> u32 {
        let number = self.number();
        self.swaps.stores.borrow_mut().insert(number, open);
        number
    }

    fn swap(&self, number: u32) -> Result<OpenSwap> {
        self.swaps.stores.borrow().get(&number).cloned().ok_or_else(|| unknown("swap store", number))
    }
}

/// How to open a store.
#[napi(object, object_to_js = false)]
pub struct SwapRequest {
    pub memory: f64,
    pub capacity: f64,
    pub durable: bool,
    pub checksum: bool,
    pub create: bool,
    /// See `DIRECT` of record.ts.
    pub direct: u32,
}

impl SwapRequest {
    fn options(&self) -> SwapOptions {
        let options = SwapOptions::new(self.memory as u64).capacity(self.capacity as u64).direct(record::direct(self.direct));
        options.durable(self.durable).checksum(self.checksum).create(self.create)
    }
}

/// How tensors are put.
#[napi(object, object_to_js = false)]
pub struct SwapPutRequest {
    pub pin: bool,
    /// Absent: nothing is converted.
    pub convert: Option<String>,
    pub adopt: bool,
}

impl SwapPutRequest {
    fn options(&self) -> SwapPutOptions {
        let to = self.convert.as_deref().and_then(DType::of);
        to.into_iter().fold(SwapPutOptions::new().pin(self.pin), SwapPutOptions::convert)
    }
}

/// Memory that JavaScript lends to be filled as a whole.
struct Filled(Foreign);

// SAFETY: as for `Foreign`.
unsafe impl IoBuf for Filled {
    fn as_ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }
    fn len(&self) -> usize {
        self.0.len()
    }
}

// SAFETY: as for `Foreign`.
unsafe impl IoBufMut for Filled {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr()
    }
}

impl Deref for Filled {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the facade holds the memory until the record has come, and a program must not write to what it has lent.
        unsafe { self.0.part(0..self.0.len()) }
    }
}

impl DerefMut for Filled {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; a call lends one piece of memory, and its job alone has it.
        unsafe { self.0.part_mut(0..self.0.len()) }
    }
}

#[napi]
impl Session {
    // ---- swap stores ----

    /// The record's detail is the number of the store.
    #[napi]
    pub fn open_swap(&self, env: &Env, id: f64, engine: u32, path: View, request: SwapRequest) -> Result<()> {
        let engine = self.state.engine(engine)?;
        let landing = self.landing(env, id)?;
        let (job, own) = (SwapStore::open(&engine, path_of(path), request.options()), engine.clone());
        self.start_plain(&engine, landing, async move {
            let store = job.await.map_err(failed)?;
            Ok(Some(Detail::Fresh(Box::new(Fresh::Swap(store, own)))))
        });
        Ok(())
    }

    /// A store that reads the tensors of a table that is open.
    #[napi]
    pub fn swap_over(&self, table: u32, memory: f64) -> Result<u32> {
        let tensors = self.state.open_tensors(table)?;
        let checkpoint = lock(&self.state.model(table)?.checkpoint).clone();
        let (store, engine) = (SwapStore::over(&tensors, memory as u64), tensors.engine().clone());
        let number = self.state.register_swap(OpenSwap { store, engine, _checkpoint: checkpoint });
        Ok(number)
    }

    /// Flushes and closes. On failure it is still open. Its number is valid until `dropSwap`.
    #[napi]
    pub fn close_swap(&self, env: &Env, id: f64, store: u32) -> Result<()> {
        self.in_swap(env, id, store, |store| {
            let job = store.close();
            async move { job.await.map(|()| None) }
        })
    }

    /// Nothing uses the store any more.
    #[napi]
    pub fn drop_swap(&self, store: u32) {
        let Some(open) = self.state.swaps.stores.borrow_mut().remove(&store) else { return };
        // Closing a file can take as long as its file system does.
        drop(open.engine.clone().run_blocking(move || drop(open)));
    }

    /// Puts tensors, whose memory is in `views`, one after the other. With `adopt`, these are detached now.
    #[napi]
    pub fn put_swap(
        &self,
        env: &Env,
        id: f64,
        store: u32,
        columns: TensorColumns,
        views: Object<'_>,
        request: SwapPutRequest,
    ) -> Result<()> {
        let OpenSwap { store, engine, .. } = self.state.swap(store)?;
        let (columns, options) = (Columns::from(columns), request.options());
        let landing = self.landing(env, id)?;
        if request.adopt {
            let memories = Given::all(env.raw(), &views, columns.ranks.len(), &landing)?;
            self.start_plain(&engine, landing, async move { nothing(adopt(&store, columns, memories, options).await) });
            return Ok(());
        }
        let memories = Foreign::all(&views, columns.ranks.len(), &landing)?;
        self.start_plain(&engine, landing, async move {
            let sources = columns.declared().into_iter().zip(memories).map(|(declared, data)| Source { declared, data });
            nothing(store.put_many_with(sources.collect(), options).await.map(drop))
        });
        Ok(())
    }

    /// The record's detail is an array of `SwapLeased`, in the order of the names.
    #[napi]
    pub fn get_swap(&self, env: &Env, id: f64, store: u32, names: String, name_bytes: Uint32ArraySlice<'_>) -> Result<()> {
        let names = texts(&names, &name_bytes);
        self.in_swap(env, id, store, |store| async move {
            let leases = store.get_many(names.iter().map(String::as_str)).await?;
            Ok(Some(Detail::Fresh(Box::new(Fresh::SwapLeases(leases)))))
        })
    }

    /// The same of a slice of one. In the numbers are, of each dimension, where it begins and ends, or -1 twice for all of it.
    #[napi]
    pub fn get_swap_slice(&self, env: &Env, id: f64, store: u32, name: String, slice: Float64ArraySlice<'_>) -> Result<()> {
        let slice = slice_of(&slice);
        self.in_swap(env, id, store, |store| async move {
            let lease = store.get_slice(&name, slice).await?;
            Ok(Some(Detail::Fresh(Box::new(Fresh::SwapLeases(vec![lease])))))
        })
    }

    /// The same of one tensor, to be changed.
    #[napi]
    pub fn get_swap_mut(&self, env: &Env, id: f64, store: u32, name: String) -> Result<()> {
        self.in_swap(env, id, store, |store| async move {
            let lease = store.get_mut(&name).await?;
            Ok(Some(Detail::Fresh(Box::new(Fresh::SwapLeases(vec![lease])))))
        })
    }

    /// The same of a new one.
    #[napi]
    pub fn lease_swap(&self, env: &Env, id: f64, store: u32, name: String, dtype: String, shape: Float64ArraySlice<'_>) -> Result<()> {
        // The facade has checked the name of the type.
        let dtype = DType::of(&dtype).unwrap_or(DType::U8);
        let declared = Declared { name, dtype, shape: shape.iter().map(|&extent| extent as u64).collect() };
        self.in_swap(env, id, store, |store| async move {
            let lease = store.lease(declared).await?;
            Ok(Some(Detail::Fresh(Box::new(Fresh::SwapLeases(vec![lease])))))
        })
    }

    /// Reads a tensor into memory of exactly its size.
    #[napi]
    pub fn get_swap_into(&self, env: &Env, id: f64, store: u32, name: String, view: View) -> Result<()> {
        let OpenSwap { store, engine, .. } = self.state.swap(store)?;
        let landing = self.landing(env, id)?;
        let memory = Filled(Foreign::of(&view, &landing));
        self.start_plain(&engine, landing, async move { nothing(store.get_into(&name, memory).await.map(drop)) });
        Ok(())
    }

    #[napi]
    pub fn prefetch_swap(&self, store: u32, names: String, name_bytes: Uint32ArraySlice<'_>, expires_ms: f64) -> Result<()> {
        let names = texts(&names, &name_bytes);
        let expires = Duration::from_secs_f64(expires_ms / 1000.0);
        self.state.swap(store)?.store.prefetch(names.iter().map(String::as_str), expires);
        Ok(())
    }

    #[napi]
    pub fn plan_swap(&self, store: u32, names: String, name_bytes: Uint32ArraySlice<'_>, repeat: bool) -> Result<()> {
        let names = texts(&names, &name_bytes);
        self.state.swap(store)?.store.plan(names.iter().map(String::as_str), repeat);
        Ok(())
    }

    #[napi]
    pub fn pin_swap(&self, env: &Env, id: f64, store: u32, name: String) -> Result<()> {
        self.in_swap(env, id, store, |store| async move { store.pin(&name).await.map(|()| None) })
    }

    #[napi]
    pub fn unpin_swap(&self, store: u32, name: String) -> Result<()> {
        self.state.swap(store)?.store.unpin(&name);
        Ok(())
    }

    #[napi]
    pub fn evict_swap(&self, env: &Env, id: f64, store: u32, name: String) -> Result<()> {
        self.in_swap(env, id, store, |store| async move { store.evict(&name).await.map(|()| None) })
    }

    #[napi]
    pub fn remove_swap(&self, env: &Env, id: f64, store: u32, name: String) -> Result<()> {
        self.in_swap(env, id, store, |store| async move { store.remove(&name).await.map(|()| None) })
    }

    #[napi]
    pub fn flush_swap(&self, env: &Env, id: f64, store: u32) -> Result<()> {
        self.in_swap(env, id, store, |store| async move { store.flush().await.map(|()| None) })
    }

    /// Puts all tensors into a checkpoint in progress.
    #[napi]
    pub fn snapshot_swap(&self, env: &Env, id: f64, store: u32, writer: u32) -> Result<()> {
        let writers = self.state.checkpoints.writers.borrow();
        let open = writers.get(&writer).ok_or_else(|| unknown("writer", writer))?;
        self.in_swap(env, id, store, |store| {
            let job = store.snapshot(&open.writer);
            async move { job.await.map(|()| None) }
        })
    }

    /// Nothing if there is no such tensor.
    #[napi]
    pub fn swap_info(&self, store: u32, name: String) -> Result<Option<SwapTensor>> {
        Ok(self.state.swap(store)?.store.info(&name).map(SwapTensor::from))
    }

    #[napi]
    pub fn swap_names(&self, store: u32) -> Result<Texts> {
        Ok(Texts::of(self.state.swap(store)?.store.names().iter().map(String::as_str)))
    }

    #[napi]
    pub fn swap_stats(&self, store: u32) -> Result<SwapStatistics> {
        Ok(self.state.swap(store)?.store.stats().into())
    }

    /// Runs a job on a store.
    fn in_swap<F: Future<Output = deepring_tensors::Result<Option<Detail>>> + Send + 'static>(
        &self,
        env: &Env,
        id: f64,
        store: u32,
        job: impl FnOnce(SwapStore) -> F,
    ) -> Result<()> {
        let OpenSwap { store, engine, .. } = self.state.swap(store)?;
        let landing = self.landing(env, id)?;
        let job = job(store);
        self.start_plain(&engine, landing, async move { job.await.map_err(failed) });
        Ok(())
    }
}

/// Puts tensors whose memory was given up: without a copy, where nothing else has it.
async fn adopt(store: &SwapStore, columns: Columns, memories: Vec<Given>, options: SwapPutOptions) -> deepring_tensors::Result<()> {
    for (declared, memory) in columns.declared().into_iter().zip(memories) {
        match memory {
            Given::Whole(data) => store.adopt(Source { declared, data }, options).await?,
            Given::Held(data) => drop(store.put_with(Source { declared, data }, options).await?),
        }
    }
    Ok(())
}
