//! Transfers: staged here, handed to the drivers by `flush`, settled on a thread of the engine.

use crate::delivery::Delivery;
use crate::memory::View;
use crate::record::Record;
use crate::session::{Session, unknown};
use deepring::Direction;
use deepring::binding::{Completion, EngineBinding, FileBinding, MemoryLease, Outcome, RawTransfer};
use napi::Env;
use napi::bindgen_prelude::*;
use napi_derive::napi;
use std::sync::Arc;

/// One transfer's way back.
pub struct Landing {
    pub id: u64,
    /// The batch it belongs to, or 0.
    pub batch: u64,
    pub delivery: Arc<Delivery>,
    /// Keeps engine memory alive until the transfer has settled.
    pub lease: Option<MemoryLease>,
}

impl Completion for Landing {
    fn settle(self: Arc<Self>, outcome: Outcome) {
        if outcome.memory_lost {
            // The kernel may still write there. (The JavaScript side keeps foreign memory for the same reason.)
            std::mem::forget(self.lease.clone());
        }
        self.delivery.push(Record::of_transfer(self.id, &outcome.result), self.batch);
    }

    fn canceled(&self) -> bool {
        self.delivery.is_canceled(self.id)
    }
}

#[napi]
impl Session {
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
        unsafe { engine.submit_path(&path.to_path(), whole, 0, transfer, landing) };
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
        unsafe { engine.submit_path(&path.to_path(), whole, mode, transfer, landing) };
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
            unsafe { engine.verify_path_then(&path.to_path(), address, len, position, then) };
        } else {
            let files = self.state.files.borrow();
            let file = files.get(&file).ok_or_else(|| unknown("file", file))?;
            // SAFETY: as in `transfer`.
            unsafe { file.verify_then(address, len, position, then) };
        }
        Ok(())
    }
}
