//! Optimizer swappers: groups of parameters and states, a step at a time. Their leases are in `swap_leases`.

use crate::convert::Detail;
use crate::delivery::lock;
use crate::failure::Failure;
use crate::memory::{Foreign, View};
use crate::session::{Session, State, unknown};
use crate::swap_detail::SwapperStatistics;
use crate::tensors::path_of;
use crate::tensors_detail::Fresh;
use crate::tensors_job::{failed, nothing};
use deepring::Engine;
use deepring_tensors::DType;
use deepring_tensors::swap::{Depth, Group, OptimizerOptions, OptimizerSwapper, Step};
use napi::Env;
use napi::bindgen_prelude::*;
use napi_derive::napi;
use std::future::Future;
use std::sync::{Arc, Mutex};

/// A swapper, with its engine, which can be closed before it ends.
#[derive(Clone)]
pub struct OpenSwapper {
    pub swapper: OptimizerSwapper,
    pub engine: Engine,
}

/// A step of a swapper.
#[derive(Clone)]
pub struct OpenStep {
    /// Absent while a job asks for the next group.
    step: Arc<Mutex<Option<Step>>>,
    engine: Engine,
}

impl State {
    fn swapper(&self, number: u32) -> Result<OpenSwapper> {
        self.swaps.swappers.borrow().get(&number).cloned().ok_or_else(|| unknown("swapper", number))
    }

    /// Gives a swapper its number.
    pub fn register_swapper(&self, swapper: OptimizerSwapper, engine: Engine) -> u32 {
        let number = self.number();
        self.swaps.swappers.borrow_mut().insert(number, OpenSwapper { swapper, engine });
        number
    }
}

/// One group of a swapper.
#[napi(object, object_to_js = false)]
pub struct GroupRequest {
    pub name: String,
    pub numel: f64,
    pub states: Vec<String>,
    pub dtype: String,
    /// Absent: the swapper keeps no gradient.
    pub gradient: Option<String>,
    pub resident: bool,
}

impl From<GroupRequest> for Group {
    fn from(request: GroupRequest) -> Self {
        // The facade has checked the names of the types.
        let dtype = |name: &str| DType::of(name).unwrap_or(DType::F32);
        let group = Self::new(request.name, request.numel as u64).states(request.states).dtype(dtype(&request.dtype));
        request.gradient.iter().fold(group, |group, name| group.gradient(dtype(name))).resident(request.resident)
    }
}

/// How to open a swapper.
#[napi(object, object_to_js = false)]
pub struct SwapperRequest {
    pub groups: Vec<GroupRequest>,
    /// 0: what the memory allows.
    pub depth: u32,
    /// Absent: the default.
    pub memory: Option<f64>,
    pub durable: bool,
    pub create: bool,
}

impl From<SwapperRequest> for OptimizerOptions {
    fn from(request: SwapperRequest) -> Self {
        let depth = if request.depth == 0 { Depth::Auto } else { Depth::Groups(request.depth as usize) };
        let options = Self::new(request.groups.into_iter().map(Group::from).collect());
        let options = options.depth(depth).durable(request.durable).create(request.create);
        request.memory.into_iter().fold(options, |options, memory| options.memory(memory as u64))
    }
}

#[napi]
impl Session {
    // ---- optimizer swappers ----

    /// The record's detail is the number of the swapper.
    #[napi]
    pub fn open_swapper(&self, env: &Env, id: f64, engine: u32, path: View, request: SwapperRequest) -> Result<()> {
        let engine = self.state.engine(engine)?;
        let landing = self.landing(env, id)?;
        let (job, own) = (OptimizerSwapper::open(&engine, path_of(path), request.into()), engine.clone());
        self.start_plain(&engine, landing, async move {
            let swapper = job.await.map_err(failed)?;
            Ok(Some(Detail::Fresh(Box::new(Fresh::Swapper(swapper, own)))))
        });
        Ok(())
    }

    /// Flushes and closes. On failure it is still open. Its number is valid until `dropSwapper`.
    #[napi]
    pub fn close_swapper(&self, env: &Env, id: f64, swapper: u32) -> Result<()> {
        self.in_swapper(env, id, swapper, OptimizerSwapper::close)
    }

    /// Nothing uses the swapper any more.
    #[napi]
    pub fn drop_swapper(&self, swapper: u32) {
        let Some(open) = self.state.swaps.swappers.borrow_mut().remove(&swapper) else { return };
        // Closing a file can take as long as its file system does.
        drop(open.engine.clone().run_blocking(move || drop(open)));
    }

    /// Gives parts of a group the bytes of `views`.
    #[napi]
    pub fn initialize_group(&self, env: &Env, id: f64, swapper: u32, group: String, parts: Vec<String>, views: Object<'_>) -> Result<()> {
        let OpenSwapper { swapper, engine } = self.state.swapper(swapper)?;
        let landing = self.landing(env, id)?;
        let memories = Foreign::all(&views, parts.len(), &landing)?;
        let job = swapper.initialize(&group, parts.into_iter().zip(memories));
        self.start_plain(&engine, landing, async move { nothing(job.await.map(drop)) });
        Ok(())
    }

    /// Gives parts of a group the bytes of tensors of a table that is open.
    #[napi]
    pub fn initialize_group_from(
        &self,
        env: &Env,
        id: f64,
        swapper: u32,
        group: String,
        table: u32,
        parts: Vec<String>,
        tensors: Vec<String>,
        convert: bool,
    ) -> Result<()> {
        let source = self.state.open_tensors(table)?;
        self.in_swapper(env, id, swapper, |swapper| swapper.initialize_from(&group, &source, parts.into_iter().zip(tensors), convert))
    }

    /// Gives a piece of a gradient.
    #[napi]
    pub fn put_gradient(&self, env: &Env, id: f64, swapper: u32, group: String, offset: f64, view: View) -> Result<()> {
        let OpenSwapper { swapper, engine } = self.state.swapper(swapper)?;
        let landing = self.landing(env, id)?;
        let job = swapper.put_gradient(&group, offset as u64, Foreign::of(&view, &landing));
        self.start_plain(&engine, landing, async move { nothing(job.await.map(drop)) });
        Ok(())
    }

    #[napi]
    pub fn flush_gradients(&self, env: &Env, id: f64, swapper: u32) -> Result<()> {
        self.in_swapper(env, id, swapper, |swapper| swapper.flush_gradients())
    }

    #[napi]
    pub fn flush_swapper(&self, env: &Env, id: f64, swapper: u32) -> Result<()> {
        self.in_swapper(env, id, swapper, |swapper| swapper.flush())
    }

    /// Puts all groups into a checkpoint in progress.
    #[napi]
    pub fn snapshot_swapper(&self, env: &Env, id: f64, swapper: u32, writer: u32) -> Result<()> {
        let writers = self.state.checkpoints.writers.borrow();
        let open = writers.get(&writer).ok_or_else(|| unknown("writer", writer))?;
        self.in_swapper(env, id, swapper, |swapper| swapper.snapshot(&open.writer))
    }

    /// Initializes all groups from the tensors of a snapshot, of which the table is open.
    #[napi]
    pub fn restore_swapper(&self, env: &Env, id: f64, swapper: u32, table: u32) -> Result<()> {
        let source = self.state.open_tensors(table)?;
        self.in_swapper(env, id, swapper, |swapper| swapper.restore(&source))
    }

    /// Makes parts of a group zeros. Returns what has failed.
    #[napi]
    pub fn reset_group(&self, swapper: u32, group: String, parts: Vec<String>) -> Result<Option<Failure>> {
        let reset = self.state.swapper(swapper)?.swapper.reset(&group, parts.iter().map(String::as_str));
        Ok(reset.err().map(|error| Failure::from(&error)))
    }

    /// Begins a step over all groups, or over these: its number.
    #[napi]
    pub fn begin_step(&self, swapper: u32, order: Option<Vec<String>>) -> Result<Either<u32, Failure>> {
        let OpenSwapper { swapper, engine } = self.state.swapper(swapper)?;
        let begun = match order {
            None => swapper.step(),
            Some(order) => swapper.step_over(order.iter().map(String::as_str)),
        };
        let step = match begun {
            Ok(step) => Arc::new(Mutex::new(Some(step))),
            Err(error) => return Ok(Either::B(Failure::from(&error))),
        };
        let number = self.state.number();
        self.state.swaps.steps.borrow_mut().insert(number, OpenStep { step, engine });
        Ok(Either::A(number))
    }

    /// The next group of a step. The record's detail is a `GroupLeased`; there is none at the end.
    #[napi]
    pub fn next_group_lease(&self, env: &Env, id: f64, step: u32) -> Result<()> {
        let found = self.state.swaps.steps.borrow().get(&step).cloned();
        let OpenStep { step, engine } = found.ok_or_else(|| unknown("step", step))?;
        let landing = self.landing(env, id)?;
        self.start_plain(&engine, landing, async move {
            // The facade asks for one group at a time, and for none after an error.
            let Some(mut own) = lock(&step).take() else { return Ok(None) };
            let next = own.next().await.transpose().map_err(failed)?;
            *lock(&step) = Some(own);
            Ok(next.map(|lease| Detail::Fresh(Box::new(Fresh::GroupLease(lease)))))
        });
        Ok(())
    }

    /// Cancels what is being read. Groups that were closed are written.
    #[napi]
    pub fn end_step(&self, step: u32) {
        let removed = self.state.swaps.steps.borrow_mut().remove(&step);
        drop(removed);
    }

    #[napi]
    pub fn swapper_stats(&self, swapper: u32) -> Result<SwapperStatistics> {
        Ok(self.state.swapper(swapper)?.swapper.stats().into())
    }

    /// Runs a job on a swapper.
    fn in_swapper<F: Future<Output = deepring_tensors::Result<()>> + Send + 'static>(
        &self,
        env: &Env,
        id: f64,
        swapper: u32,
        job: impl FnOnce(OptimizerSwapper) -> F,
    ) -> Result<()> {
        let OpenSwapper { swapper, engine } = self.state.swapper(swapper)?;
        let landing = self.landing(env, id)?;
        let job = job(swapper);
        self.start_plain(&engine, landing, async move { nothing(job.await) });
        Ok(())
    }
}
