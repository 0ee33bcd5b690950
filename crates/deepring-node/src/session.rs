//! [`Session`]: what one JavaScript environment has of deepring: its files, engines, handles, and its list of completions.
//!
//! Every asynchronous call takes an id and returns nothing; its outcome arrives through [`Session::drain`]. Transfers are staged and go to the
//! drivers with [`Session::flush`].

use crate::convert::{Detail, EngineConfig, Failure, HandleLimits, Info, Opened, Stat, Stats};
use crate::delivery::{Delivery, Landing, is_cancellation};
use crate::memory::{self, View};
use crate::record::{self, RECORD, Record};
use deepring::binding::{EngineBinding, FileBinding, Handle, RawTransfer, Refill};
use deepring::{Direction, Engine, File};
use napi::Env;
use napi::bindgen_prelude::*;
use napi::sys;
use napi_derive::napi;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The process's default engine and how many environments use it: it ends, drained, with the last of them.
static DEFAULT: Mutex<Option<(Engine, usize)>> = Mutex::new(None);

#[napi]
pub struct Session {
    state: Rc<State>,
}

/// Engines and files that answers from other threads refer to are numbered; the numbers are never reused.
struct State {
    delivery: Arc<Delivery>,
    engines: RefCell<HashMap<u32, Engine>>,
    files: RefCell<HashMap<u32, File>>,
    handles: RefCell<HashMap<u32, Arc<Handle>>>,
    /// Files that were opened and whose records have not been drained.
    opened: Arc<Mutex<HashMap<u64, File>>>,
    /// Controls that can still be cancelled.
    controls: RefCell<HashMap<u64, Arc<AtomicBool>>>,
    details: RefCell<HashMap<u64, Detail>>,
    default: RefCell<Option<u32>>,
    next: RefCell<u32>,
    staged: RefCell<Vec<Engine>>,
}

impl State {
    fn number(&self) -> u32 {
        let mut next = self.next.borrow_mut();
        *next += 1;
        *next
    }

    fn engine(&self, number: u32) -> Result<Engine> {
        self.engines.borrow().get(&number).cloned().ok_or_else(|| unknown("engine", number))
    }

    fn handle(&self, number: u32) -> Option<Arc<Handle>> {
        self.handles.borrow().get(&number).cloned()
    }

    fn staged(&self, engine: &Engine) {
        let mut staged = self.staged.borrow_mut();
        if !staged.iter().any(|other| other.is_same(engine)) {
            staged.push(engine.clone());
        }
    }

    fn sweep(&self) {
        self.engines.borrow().values().for_each(Engine::sweep);
    }

    /// The environment is going away.
    fn tear_down(&self) {
        self.delivery.close();
        self.controls.borrow().values().for_each(|canceled| canceled.store(true, Ordering::Release));
        for engine in self.staged.borrow_mut().drain(..) {
            engine.wake();
        }
        self.sweep();
        self.delivery.wait_until_idle();
        self.files.borrow_mut().clear();
        lock(&self.opened).clear();
        self.engines.borrow_mut().clear();
        if self.default.borrow_mut().take().is_some() {
            let mut default = lock(&DEFAULT);
            let last = default.as_mut().is_none_or(|(_, users)| {
                *users -= 1;
                *users == 0
            });
            let engine = if last { default.take() } else { None };
            // Joining the engine's threads takes as long as its device does: not under the lock.
            std::mem::drop(default);
            std::mem::drop(engine);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unknown(what: &str, number: u32) -> Error {
    Error::new(Status::InvalidArg, format!("no {what} {number} in this environment"))
}

fn path_of(bytes: &View) -> PathBuf {
    Path::new(OsStr::from_bytes(&bytes.to_vec())).to_path_buf()
}

#[napi]
impl Session {
    #[napi(constructor)]
    pub fn new(env: &Env) -> Result<Self> {
        let state = Rc::new(State {
            delivery: Arc::new(Delivery::new()),
            engines: RefCell::default(),
            files: RefCell::default(),
            handles: RefCell::default(),
            opened: Arc::default(),
            controls: RefCell::default(),
            details: RefCell::default(),
            default: RefCell::default(),
            next: RefCell::default(),
            staged: RefCell::default(),
        });
        env.add_env_cleanup_hook(Rc::clone(&state), |state| state.tear_down())?;
        Ok(Self { state })
    }

    // ---- delivery ----

    #[napi]
    pub fn attach(&self, env: &Env, wake: Function<'_, (), ()>) -> Result<()> {
        self.state.delivery.attach(env, &wake)
    }

    #[napi]
    pub fn drain(&self, env: &Env, mut records: Float64ArraySlice<'_>) -> Result<u32> {
        // SAFETY: the caller's array is written during this call only, on the thread that owns it.
        let numbers = unsafe { records.as_mut() };
        let mut details = Vec::new();
        let count = self.state.delivery.drain(env, numbers, &mut details)?;
        if !details.is_empty() {
            self.state.details.borrow_mut().extend(details);
        }
        if !self.state.controls.borrow().is_empty() {
            let mut controls = self.state.controls.borrow_mut();
            for drained in numbers.chunks_exact(RECORD).take(count) {
                controls.remove(&(drained[record::ID] as u64));
            }
        }
        Ok(count as u32)
    }

    #[napi(ts_return_type = "unknown")]
    pub fn detail(&self, id: f64) -> Option<Detail> {
        let detail = self.state.details.borrow_mut().remove(&(id as u64));
        if !matches!(detail, Some(Detail::Opened(_))) {
            return detail;
        }
        let file = lock(&self.state.opened).remove(&(id as u64))?;
        let number = self.state.number();
        let opened = Opened::of(number, &file);
        self.state.files.borrow_mut().insert(number, file);
        Some(Detail::Opened(opened))
    }

    #[napi]
    pub fn flush(&self) {
        for engine in self.state.staged.borrow_mut().drain(..) {
            engine.wake();
        }
    }

    #[napi]
    pub fn block(&self, ids: Float64ArraySlice<'_>) {
        self.flush();
        self.state.delivery.wait_for(ids.iter().map(|&id| id as u64).collect());
    }

    #[napi]
    pub fn cancel(&self, id: f64) {
        if let Some(canceled) = self.state.controls.borrow().get(&(id as u64)) {
            canceled.store(true, Ordering::Release);
        }
        self.state.delivery.cancel(id as u64);
        self.flush();
        self.state.sweep();
    }

    // ---- engines ----

    #[napi]
    pub fn default_engine(&self) -> Either<u32, Failure> {
        if let Some(number) = *self.state.default.borrow() {
            return Either::A(number);
        }
        let mut default = lock(&DEFAULT);
        if default.is_none() {
            match Engine::builder().build() {
                Ok(engine) => *default = Some((engine, 0)),
                Err(error) => return Either::B(Failure::from(&error)),
            }
        }
        let Some((engine, users)) = default.as_mut() else { return Either::A(0) };
        *users += 1;
        let number = self.state.number();
        self.state.engines.borrow_mut().insert(number, engine.clone());
        *self.state.default.borrow_mut() = Some(number);
        Either::A(number)
    }

    #[napi]
    pub fn create_engine(&self, config: EngineConfig) -> Either<u32, Failure> {
        match config.build() {
            Ok(engine) => {
                let number = self.state.number();
                self.state.engines.borrow_mut().insert(number, engine);
                Either::A(number)
            }
            Err(error) => Either::B(Failure::from(&error)),
        }
    }

    #[napi]
    pub fn close_engine(&self, env: &Env, id: f64, engine: u32) -> Result<()> {
        let engine = self.state.engines.borrow_mut().remove(&engine).ok_or_else(|| unknown("engine", engine))?;
        self.state.delivery.expect(env, 0)?;
        let delivery = Arc::clone(&self.state.delivery);
        // A thread of its own: the engine's own threads cannot wait for themselves.
        let closing = std::thread::Builder::new().name("deepring-close".into()).spawn(move || {
            drop(engine);
            delivery.push(Record::of(id as u64, Ok(None)), 0);
        });
        if let Err(error) = closing {
            self.state.delivery.push(Record::of(id as u64, Ok(None)), 0);
            return Err(Error::new(Status::GenericFailure, format!("no thread to close the engine: {error}")));
        }
        Ok(())
    }

    #[napi]
    pub fn engine_info(&self, env: &Env, id: f64, engine: u32, path: Option<View>) -> Result<()> {
        let engine = self.state.engine(engine)?;
        let path = path.as_ref().map(path_of);
        self.state.delivery.expect(env, 0)?;
        let delivery = Arc::clone(&self.state.delivery);
        engine.clone().run_blocking(move || {
            let info = Info::of(&engine, path.as_deref()).map(|info| Some(Detail::Info(Box::new(info))));
            delivery.push(Record::of(id as u64, info), 0);
        });
        Ok(())
    }

    #[napi]
    pub fn engine_stats(&self, engine: u32) -> Result<Stats> {
        Ok(self.state.engine(engine)?.stats().into())
    }

    #[napi]
    pub fn create_handle(&self, engine: u32, limits: HandleLimits) -> Result<u32> {
        let HandleLimits { queue_depth, block_size, single_submit, refill_when_empty } = limits;
        let refill = if refill_when_empty { Refill::WhenEmpty } else { Refill::Sliding };
        let limits = deepring::binding::HandleLimits { queue_depth, block_bytes: block_size as u64, single_submit, refill };
        let handle = self.state.engine(engine)?.handle(limits);
        let number = self.state.number();
        self.state.handles.borrow_mut().insert(number, Arc::new(handle));
        Ok(number)
    }

    #[napi]
    pub fn free_handle(&self, handle: u32) {
        self.state.handles.borrow_mut().remove(&handle);
    }

    // ---- files ----

    #[napi]
    pub fn open(
        &self,
        env: &Env,
        id: f64,
        engine: u32,
        path: View,
        flags: u32,
        direct: u32,
        mode: u32,
        sync_directory: bool,
    ) -> Result<()> {
        let options = record::open_options(flags, direct).mode(mode).sync_directory(sync_directory);
        let engine = self.state.engine(engine)?;
        self.state.delivery.expect(env, 0)?;
        let delivery = Arc::clone(&self.state.delivery);
        let opened = Arc::clone(&self.state.opened);
        engine.open_then(path_of(&path), options, move |result| {
            let detail = result.map(|file| {
                // The number is given when the record is drained, on the thread that keeps the table.
                let detail = Opened::of(0, &file);
                lock(&opened).insert(id as u64, file);
                Some(Detail::Opened(detail))
            });
            delivery.push(Record::of(id as u64, detail), 0);
        });
        Ok(())
    }

    #[napi]
    pub fn read(&self, env: &Env, id: f64, file: u32, handle: u32, batch: f64, view: View, position: f64, exact: bool) -> Result<()> {
        self.transfer(env, id, file, handle, batch, &view, Direction::Read, position, exact)
    }

    #[napi]
    pub fn write(&self, env: &Env, id: f64, file: u32, handle: u32, batch: f64, view: View, position: f64) -> Result<()> {
        self.transfer(env, id, file, handle, batch, &view, Direction::Write, position, true)
    }

    fn transfer(
        &self,
        env: &Env,
        id: f64,
        file: u32,
        handle: u32,
        batch: f64,
        view: &View,
        direction: Direction,
        position: f64,
        exact: bool,
    ) -> Result<()> {
        let files = self.state.files.borrow();
        let file = files.get(&file).ok_or_else(|| unknown("file", file))?;
        let transfer = self.raw(view, direction, position, exact, handle);
        let landing = self.landing(env, id, batch, view)?;
        // SAFETY: engine memory is held by the landing, foreign memory by the facade, until the record has been drained; a worker that is
        // terminated waits for its transfers in the clean-up hook.
        unsafe { file.submit(transfer, landing) };
        self.state.staged(file.engine());
        Ok(())
    }

    fn raw(&self, view: &View, direction: Direction, position: f64, exact: bool, handle: u32) -> RawTransfer {
        let handle = if handle == 0 { None } else { self.state.handle(handle) };
        RawTransfer { direction, address: view.address, len: view.len, position: position as u64, exact, handle }
    }

    fn landing(&self, env: &Env, id: f64, batch: f64, view: &View) -> Result<Arc<Landing>> {
        let batch = batch as u64;
        self.state.delivery.expect(env, batch)?;
        Ok(Arc::new(Landing { id: id as u64, batch, delivery: Arc::clone(&self.state.delivery), lease: view.lease() }))
    }

    #[napi]
    pub fn read_path(
        &self,
        env: &Env,
        id: f64,
        engine: u32,
        path: View,
        handle: u32,
        batch: f64,
        view: View,
        position: f64,
        whole: bool,
    ) -> Result<()> {
        let engine = self.state.engine(engine)?;
        let transfer = self.raw(&view, Direction::Read, position, true, handle);
        let landing = self.landing(env, id, batch, &view)?;
        // SAFETY: as in `transfer`.
        unsafe { engine.submit_path(&path_of(&path), whole, 0, transfer, landing) };
        self.state.staged(&engine);
        Ok(())
    }

    #[napi]
    pub fn write_path(
        &self,
        env: &Env,
        id: f64,
        engine: u32,
        path: View,
        handle: u32,
        batch: f64,
        view: View,
        position: f64,
        whole: bool,
        mode: u32,
    ) -> Result<()> {
        let engine = self.state.engine(engine)?;
        let transfer = self.raw(&view, Direction::Write, position, true, handle);
        let landing = self.landing(env, id, batch, &view)?;
        // SAFETY: as in `transfer`.
        unsafe { engine.submit_path(&path_of(&path), whole, mode, transfer, landing) };
        self.state.staged(&engine);
        Ok(())
    }

    /// By descriptor if `file` is not 0, else by path.
    #[napi]
    pub fn verify(&self, env: &Env, id: f64, engine: u32, path: View, file: u32, view: View, position: f64) -> Result<()> {
        let landing = self.landing(env, id, 0.0, &view)?;
        let then = move |result: deepring::Result<()>| {
            // The landing kept the memory; its record is made here, because there is no receipt.
            landing.delivery.push(Record::of(landing.id, result.map(|()| None)), 0);
        };
        let (address, len, position) = (view.address, view.len, position as u64);
        if file == 0 {
            let engine = self.state.engine(engine)?;
            // SAFETY: as in `transfer`.
            unsafe { engine.verify_path_then(&path_of(&path), address, len, position, then) };
        } else {
            let files = self.state.files.borrow();
            let file = files.get(&file).ok_or_else(|| unknown("file", file))?;
            // SAFETY: as in `transfer`.
            unsafe { file.verify_then(address, len, position, then) };
        }
        Ok(())
    }

    #[napi]
    pub fn sync(&self, env: &Env, id: f64, file: u32, data_only: bool) -> Result<()> {
        self.control(env, id, file, |file, canceled, then| file.sync_then(data_only, canceled, then))
    }

    #[napi]
    pub fn truncate(&self, env: &Env, id: f64, file: u32, size: f64) -> Result<()> {
        self.control(env, id, file, |file, canceled, then| file.set_len_then(size as u64, canceled, then))
    }

    fn control(
        &self,
        env: &Env,
        id: f64,
        file: u32,
        run: impl FnOnce(&File, Arc<AtomicBool>, Box<dyn FnOnce(deepring::Result<()>) + Send>),
    ) -> Result<()> {
        let files = self.state.files.borrow();
        let file = files.get(&file).ok_or_else(|| unknown("file", file))?;
        self.state.delivery.expect(env, 0)?;
        let canceled = Arc::new(AtomicBool::new(false));
        self.state.controls.borrow_mut().insert(id as u64, Arc::clone(&canceled));
        let delivery = Arc::clone(&self.state.delivery);
        run(file, canceled, Box::new(move |result| delivery.push(Record::of(id as u64, result.map(|()| None)), 0)));
        Ok(())
    }

    #[napi]
    pub fn stat(&self, env: &Env, id: f64, file: u32) -> Result<()> {
        let files = self.state.files.borrow();
        let file = files.get(&file).ok_or_else(|| unknown("file", file))?;
        self.state.delivery.expect(env, 0)?;
        let delivery = Arc::clone(&self.state.delivery);
        file.stat_then(move |result| delivery.push(Record::of(id as u64, result.map(|stat| Some(Detail::Stat(Stat::from(stat))))), 0));
        Ok(())
    }

    #[napi]
    pub fn close(&self, env: &Env, id: f64, file: u32) -> Result<()> {
        let file = self.state.files.borrow_mut().remove(&file).ok_or_else(|| unknown("file", file))?;
        self.state.delivery.expect(env, 0)?;
        let delivery = Arc::clone(&self.state.delivery);
        file.close_then(move |result| {
            // Only an engine that shuts down cancels a close, and then the file is closed all the same.
            let result = result.or_else(|error| if is_cancellation(&error) { Ok(()) } else { Err(error) });
            delivery.push(Record::of(id as u64, result.map(|()| None)), 0);
        });
        Ok(())
    }

    // ---- memory ----

    #[napi(ts_return_type = "Uint8Array<ArrayBuffer> | Failure")]
    pub fn allocate(&self, env: &Env, engine: u32, bytes: f64, zeroed: bool) -> Result<Either<RawValue, Failure>> {
        let engine = self.state.engine(engine)?;
        let buffer = if zeroed { engine.buffer(bytes as usize) } else { engine.pooled_buffer(bytes as usize) };
        match buffer {
            Ok(buffer) => Ok(Either::A(RawValue(memory::expose(env.raw(), buffer)?))),
            Err(error) => Ok(Either::B(Failure::from(&error))),
        }
    }

    #[napi]
    pub fn release(&self, env: &Env, view: View) -> Result<()> {
        memory::release(env.raw(), &view)
    }

    #[napi]
    pub fn is_allocated(&self, view: View) -> bool {
        view.lease().is_some()
    }

    #[napi]
    pub fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
}

/// A value that is already JavaScript's.
pub struct RawValue(sys::napi_value);

impl TypeName for RawValue {
    fn type_name() -> &'static str {
        "Uint8Array"
    }

    fn value_type() -> ValueType {
        ValueType::Object
    }
}

impl ToNapiValue for RawValue {
    unsafe fn to_napi_value(_env: sys::napi_env, value: Self) -> Result<sys::napi_value> {
        Ok(value.0)
    }
}
