//! Engines and handles of an environment. The default engine is the process's: environments share
//! it.

use crate::convert::{Detail, EngineConfig, EngineLimits, HandleLimits, Info, Stats};
use crate::delivery::lock;
use crate::failure::Failure;
use crate::memory::View;
use crate::record::{self, Record};
use crate::session::{Session, unknown};
use crate::turns::Line;
use deepring::Engine;
use deepring::binding::{EngineBinding, Refill};
use napi::Env;
use napi::bindgen_prelude::*;
use napi_derive::napi;
use std::sync::{Arc, Mutex};

/// The process's default engine, and the number of environments that use it. It ends, drained,
/// with the last of them.
static DEFAULT: Mutex<Option<(Engine, usize)>> = Mutex::new(None);

/// An environment stops using the default engine; the last one ends it.
pub fn release_default() {
    let mut default = lock(&DEFAULT);
    let last = default.as_mut().is_none_or(|(_, users)| {
        *users -= 1;
        *users == 0
    });
    let engine = if last { default.take() } else { None };
    // Joining the engine's threads takes as long as its device does: not under the lock.
    drop(default);
    drop(engine);
}

/// Whether it is the process's default engine.
pub fn is_default(engine: &Engine) -> bool {
    lock(&DEFAULT).as_ref().is_some_and(|(default, _)| default.is_same(engine))
}

#[napi]
impl Session {
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
        self.state.delivery.expect(env)?;
        let delivery = Arc::clone(&self.state.delivery);
        // A separate thread: the engine's threads cannot wait for themselves.
        let closing = std::thread::Builder::new().name("deepring-close".into()).spawn(move || {
            drop(engine);
            delivery.push(Line::OTHER, Record::of(id as u64, Ok(None)));
        });
        if let Err(error) = closing {
            self.state.delivery.push(Line::OTHER, Record::of(id as u64, Ok(None)));
            return Err(Error::new(Status::GenericFailure, format!("the thread that closes the engine could not be started: {error}")));
        }
        Ok(())
    }

    #[napi]
    pub fn engine_info(&self, env: &Env, id: f64, engine: u32, path: Option<View>) -> Result<()> {
        let engine = self.state.engine(engine)?;
        let path = path.map(View::to_path).map(|path| (engine.path_info_later(&path), path));
        self.state.delivery.expect(env)?;
        let delivery = Arc::clone(&self.state.delivery);
        let line = path.as_ref().map(|(_, path)| path.clone());
        engine.clone().run_blocking_on(line.as_deref(), move || {
            let found = path.map(|(find, path)| find().map(|found| (path, found))).transpose();
            let info = found.map(|found| Info::of(&engine, found)).map(|info| Some(Detail::Info(Box::new(info))));
            delivery.push(Line::OTHER, Record::of(id as u64, info));
        });
        Ok(())
    }

    #[napi]
    pub fn engine_stats(&self, engine: u32) -> Result<Stats> {
        Ok(self.state.engine(engine)?.stats().into())
    }

    #[napi]
    pub fn engine_trim(&self, engine: u32) -> Result<()> {
        self.state.engine(engine)?.trim();
        Ok(())
    }

    #[napi]
    pub fn engine_limits(&self, engine: u32) -> Result<EngineLimits> {
        let engine = self.state.engine(engine)?;
        let queue_depth = engine.queue_depth().unwrap_or(deepring::QUEUE_DEPTH_DEFAULT);
        Ok(EngineLimits { queue_depth, block_size: engine.block_bytes() as f64 })
    }

    #[napi]
    pub fn create_handle(&self, engine: u32, limits: HandleLimits) -> Result<u32> {
        let HandleLimits { queue_depth, block_size, single_submit, refill_when_empty, priority } = limits;
        let priority = record::priority(priority);
        let refill = if refill_when_empty { Refill::WhenEmpty } else { Refill::Sliding };
        let limits = deepring::binding::HandleLimits::new();
        let limits = limits.queue_depth(queue_depth).block_bytes(block_size as u64).single_submit(single_submit);
        let limits = limits.refill(refill).priority(priority);
        let handle = self.state.engine(engine)?.handle(limits);
        let number = self.state.number();
        self.state.handles.borrow_mut().insert(number, Arc::new(handle));
        Ok(number)
    }

    #[napi]
    pub fn free_handle(&self, handle: u32) {
        self.state.handles.borrow_mut().remove(&handle);
    }
}
