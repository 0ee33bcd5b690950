//! Transfers: staged here, handed to the drivers by `flush`, settled on a thread of the engine.

use crate::delivery::Delivery;
use crate::memory::View;
use crate::record::Record;
use crate::session::{Session, unknown};
use deepring::Direction;
use deepring::binding::{Completion, EngineBinding, FileBinding, Group, Member, MemoryLease, Name, Outcome, RawTransfer};
use napi::Env;
use napi::bindgen_prelude::*;
use napi_derive::napi;
use std::sync::Arc;

/// The completion of one transfer: makes its record.
struct Landing {
    id: u64,
    delivery: Arc<Delivery>,
    /// Keeps engine memory alive until the transfer has settled.
    lease: Option<MemoryLease>,
}

impl Completion for Landing {
    fn settle(self: Arc<Self>, outcome: Outcome) {
        if outcome.memory_lost {
            // The kernel can still write there. (The JavaScript side keeps foreign memory for the
            // same reason.)
            std::mem::forget(self.lease.clone());
        }
        self.delivery.push(Record::of_transfer(self.id, &outcome.result));
    }

    fn canceled(&self) -> bool {
        self.delivery.is_canceled(self.id)
    }
}

/// The completion of a transfer in a group, which makes one record for all. Each transfer keeps
/// the process alive.
struct Joined {
    member: Member,
    delivery: Arc<Delivery>,
}

impl Completion for Joined {
    fn settle(self: Arc<Self>, outcome: Outcome) {
        self.member.settle(outcome);
        self.delivery.count_down();
    }

    fn canceled(&self) -> bool {
        self.member.canceled()
    }
}

#[napi]
impl Session {
    #[napi]
    pub fn read(&self, env: &Env, id: f64, file: u32, handle: u32, group: f64, view: View, position: f64, exact: bool) -> Result<()> {
        self.transfer(env, id, file, handle, group, &view, Direction::Read, position, exact)
    }

    #[napi]
    pub fn write(&self, env: &Env, id: f64, file: u32, handle: u32, group: f64, view: View, position: f64) -> Result<()> {
        self.transfer(env, id, file, handle, group, &view, Direction::Write, position, true)
    }

    fn transfer(
        &self,
        env: &Env,
        id: f64,
        file: u32,
        handle: u32,
        group: f64,
        view: &View,
        direction: Direction,
        position: f64,
        exact: bool,
    ) -> Result<()> {
        let files = self.state.files.borrow();
        let file = files.get(&file).ok_or_else(|| unknown("file", file))?;
        let transfer = self.raw(view, direction, position, exact, handle);
        let completion = self.completion(env, id, group, view)?;
        // SAFETY: engine memory is held by the completion, foreign memory by the facade, until
        // the record has been drained; a worker that is terminated waits for its transfers in the
        // clean-up hook.
        unsafe { file.submit(transfer, completion) };
        self.state.staged(file.engine());
        Ok(())
    }

    fn raw(&self, view: &View, direction: Direction, position: f64, exact: bool, handle: u32) -> RawTransfer {
        let handle = if handle == 0 { None } else { self.state.handle(handle) };
        RawTransfer { direction, address: view.address, len: view.len, position: position as u64, exact, handle }
    }

    /// The completion of a single transfer, or of a member of a group, in which `id` is its index.
    fn completion(&self, env: &Env, id: f64, group: f64, view: &View) -> Result<Arc<dyn Completion>> {
        let delivery = Arc::clone(&self.state.delivery);
        if group == 0.0 {
            delivery.expect(env)?;
            return Ok(Arc::new(Landing { id: id as u64, delivery, lease: view.lease() }));
        }
        let groups = self.state.groups.borrow();
        let group = groups.get(&(group as u64)).ok_or_else(|| unknown("group", group as u32))?;
        delivery.expect(env)?;
        Ok(Arc::new(Joined { member: group.join(id as u64, view.lease()), delivery }))
    }

    /// Opens a group, whose record has this id.
    #[napi]
    pub fn open_group(&self, id: f64) {
        let delivery = Arc::clone(&self.state.delivery);
        let group = Group::new(move |failures| delivery.push(Record::of_group(id as u64, &failures)));
        self.state.groups.borrow_mut().insert(id as u64, group);
    }

    /// No more transfers join the group: its record comes when all have settled.
    #[napi]
    pub fn close_group(&self, env: &Env, id: f64) -> Result<()> {
        let groups = self.state.groups.borrow();
        let group = groups.get(&(id as u64)).ok_or_else(|| unknown("group", id as u32))?;
        self.state.delivery.expect(env)?;
        group.close();
        Ok(())
    }

    #[napi]
    pub fn read_path(
        &self,
        env: &Env,
        id: f64,
        engine: u32,
        path: View,
        handle: u32,
        group: f64,
        view: View,
        position: f64,
        whole: bool,
    ) -> Result<()> {
        let engine = self.state.engine(engine)?;
        let transfer = self.raw(&view, Direction::Read, position, true, handle);
        let completion = self.completion(env, id, group, &view)?;
        // SAFETY: as in `transfer`.
        unsafe { engine.submit_path(&path.to_path(), whole, 0, transfer, completion) };
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
        group: f64,
        view: View,
        position: f64,
        whole: bool,
        mode: u32,
    ) -> Result<()> {
        let engine = self.state.engine(engine)?;
        let transfer = self.raw(&view, Direction::Write, position, true, handle);
        let completion = self.completion(env, id, group, &view)?;
        // SAFETY: as in `transfer`.
        unsafe { engine.submit_path(&path.to_path(), whole, mode, transfer, completion) };
        self.state.staged(&engine);
        Ok(())
    }

    /// Keeps what a path means now, for a later `verify`. Returns its number.
    #[napi]
    pub fn keep_name(&self, path: View) -> u32 {
        let number = self.state.number();
        self.state.names.borrow_mut().insert(number, Name::of(&path.to_path()));
        number
    }

    #[napi]
    pub fn drop_name(&self, name: u32) {
        self.state.names.borrow_mut().remove(&name);
    }

    /// By descriptor if `file` is not 0, else by name.
    #[napi]
    pub fn verify(&self, env: &Env, id: f64, engine: u32, name: u32, file: u32, view: View, position: f64) -> Result<()> {
        let (delivery, lease) = (Arc::clone(&self.state.delivery), view.lease());
        let then = move |result: deepring::Result<()>| {
            drop(lease);
            delivery.push(Record::of(id as u64, result.map(|()| None)));
        };
        let (address, len, position) = (view.address, view.len, position as u64);
        if file == 0 {
            let engine = self.state.engine(engine)?;
            let name = self.state.names.borrow_mut().remove(&name).ok_or_else(|| unknown("name", name))?;
            self.state.delivery.expect(env)?;
            // SAFETY: as in `transfer`.
            unsafe { engine.verify_name_then(name, address, len, position, then) };
        } else {
            let files = self.state.files.borrow();
            let file = files.get(&file).ok_or_else(|| unknown("file", file))?;
            self.state.delivery.expect(env)?;
            // SAFETY: as in `transfer`.
            unsafe { file.verify_then(address, len, position, then) };
        }
        Ok(())
    }
}
