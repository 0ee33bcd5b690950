//! Transfers: staged here, handed to the drivers by `flush`, settled on a thread of the engine.

use crate::delivery::{Delivery, is_cancellation};
use crate::memory::{Elements, View};
use crate::record::{
    Record, STAGED, STAGED_BY_PATH, STAGED_EXACT, STAGED_EXPECT, STAGED_SUM, STAGED_WHOLE, STAGED_WRITE, priority, staged,
};
use crate::session::{Session, unknown};
use crate::turns::Line;
use deepring::binding::{Completion, EngineBinding, FileBinding, Group, Member, MemoryLease, Name, Outcome, RawTransfer};
use deepring::{Checksum, Direction, File, Priority};
use napi::Env;
use napi::bindgen_prelude::*;
use napi_derive::napi;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The completion of single transfers, whose ids are their tags: makes their records. Those that cross together and are of one
/// file, one memory and one signal share it.
struct Landing {
    delivery: Arc<Delivery>,
    /// Keeps engine memory alive until the transfers have settled.
    lease: Option<MemoryLease>,
    /// Where their records wait.
    line: Line,
    /// What cancels them together, and its number.
    cancellation: Option<Arc<AtomicBool>>,
    cancellation_number: u64,
}

impl Landing {
    /// Whether it can be that of this transfer, too.
    fn serves(&self, view: &View, line: Line, cancellation: u64) -> bool {
        let memory = || match &self.lease {
            Some(lease) => view.lies_in(lease),
            None => view.lease().is_none(),
        };
        self.line == line && self.cancellation_number == cancellation && memory()
    }

    /// Whether what cancels all of its transfers has.
    fn are_canceled_together(&self) -> bool {
        self.cancellation.as_ref().is_some_and(|canceled| canceled.load(Ordering::Acquire))
    }
}

impl Completion for Landing {
    fn settle(self: Arc<Self>, outcome: Outcome) {
        self.settle_tagged(0, outcome);
    }

    fn canceled(&self) -> bool {
        self.canceled_tagged(0)
    }

    fn settle_tagged(self: Arc<Self>, tag: u64, outcome: Outcome) {
        if outcome.memory_lost {
            // The kernel can still write there. (The JavaScript side keeps foreign memory for the
            // same reason.)
            std::mem::forget(self.lease.clone());
        }
        if outcome.result.as_ref().is_err_and(is_cancellation) && self.canceled_tagged(tag) {
            self.delivery.push_canceled(self.line, &[tag]);
        } else {
            self.delivery.push(self.line, Record::of_transfer(tag, &outcome.result));
        }
    }

    fn canceled_tagged(&self, tag: u64) -> bool {
        self.are_canceled_together() || self.delivery.is_canceled(tag)
    }

    fn drop_tagged(self: Arc<Self>, tag: u64, error: &dyn Fn() -> deepring::Error) {
        if self.canceled_tagged(tag) {
            self.delivery.push_canceled(self.line, &[tag]);
        } else {
            // The engine shuts down.
            self.settle_tagged(tag, Outcome::failed(error()));
        }
    }

    fn drop_together(&self, tags: &[u64]) -> bool {
        let together = self.are_canceled_together();
        if together {
            self.delivery.push_canceled(self.line, tags);
        }
        together
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

/// Ends a transfer that cannot be submitted.
fn refuse(completion: Arc<dyn Completion>, transfer: &RawTransfer, why: &str) {
    completion.settle_tagged(transfer.tag, Outcome::failed(transfer.invalid(why)));
}

/// A transfer as JavaScript stages it: see `STAGED` of `record.rs`.
struct Staged<'a> {
    numbers: &'a [f64],
}

impl Staged<'_> {
    fn number(&self, field: usize) -> f64 {
        self.numbers[field]
    }

    fn has(&self, flag: u32) -> bool {
        self.number(staged::FLAGS) as u32 & flag != 0
    }

    fn direction(&self) -> Direction {
        if self.has(STAGED_WRITE) { Direction::Write } else { Direction::Read }
    }

    fn checksum(&self) -> Checksum {
        if self.has(STAGED_EXPECT) {
            Checksum::Expect(self.number(staged::EXTRA) as u32)
        } else if self.has(STAGED_SUM) {
            Checksum::Sum
        } else {
            Checksum::None
        }
    }
}

#[napi]
impl Session {
    /// Submits the first `count` transfers that are staged, in their order, and wakes the drivers for them and for what
    /// was submitted before. `views` has the memory of each, and in front of it the path of one by path.
    #[napi]
    pub fn flush(&self, env: &Env, staged: Float64ArraySlice<'_>, views: Object<'_>, count: u32) -> Result<()> {
        let mut views = Elements::of(&views);
        let mut landing = None;
        // All at once: the driver takes the same lock for every record.
        self.state.delivery.expect_all(env, count as usize)?;
        for (index, numbers) in staged.chunks_exact(STAGED).take(count as usize).enumerate() {
            let submitted = self.submit(&Staged { numbers }, &mut views, &mut landing);
            submitted.inspect_err(|_| (index as u32..count).for_each(|_| self.state.delivery.count_down()))?;
        }
        self.wake();
        Ok(())
    }

    /// `landing` is the completion of the last single transfer.
    fn submit(&self, staged: &Staged<'_>, views: &mut Elements, landing: &mut Option<Arc<Landing>>) -> Result<()> {
        let path = if staged.has(STAGED_BY_PATH) { Some(views.next()?) } else { None };
        let view = views.next()?;
        let transfer = self.raw(&view, staged);
        let target = staged.number(staged::TARGET) as u32;
        let files = self.state.files.borrow();
        let file = if path.is_some() { None } else { files.get(&target) };
        let urgent = transfer.class(file.map_or(Priority::default(), File::priority)) == Priority::Latency;
        let line = if urgent { Line::First } else { file.map_or(Line::OTHER, |_| Line::Of(target)) };
        let completion = self.completion(staged, &view, line, landing)?;
        if view.len != transfer.len {
            refuse(completion, &transfer, "its memory was detached before it was submitted");
            return Ok(());
        }
        if let Some(path) = path {
            let Ok(engine) = self.state.engine(target) else {
                refuse(completion, &transfer, "its engine does not exist in this environment");
                return Ok(());
            };
            let mode = staged.number(staged::EXTRA) as u32;
            // SAFETY: as below.
            unsafe { engine.submit_path(&path.to_path(), staged.has(STAGED_WHOLE), mode, transfer, completion) };
            self.state.staged(&engine);
            return Ok(());
        }
        let Some(file) = file else {
            refuse(completion, &transfer, "its file does not exist in this environment");
            return Ok(());
        };
        // SAFETY: engine memory is held by the completion, foreign memory by the facade, until the record has been
        // drained; a worker that is terminated waits for its transfers in the clean-up hook.
        unsafe { file.submit(transfer, completion) };
        self.state.staged(file.engine());
        Ok(())
    }

    fn raw(&self, view: &View, staged: &Staged<'_>) -> RawTransfer {
        let handle = staged.number(staged::HANDLE) as u32;
        let handle = if handle == 0 { None } else { self.state.handle(handle) };
        let (exact, priority) = (staged.has(STAGED_EXACT), priority(staged.number(staged::PRIORITY) as u32));
        let (position, len) = (staged.number(staged::POSITION) as u64, staged.number(staged::LEN) as u64);
        let raw = RawTransfer::new(staged.direction(), view.address, len, position);
        raw.exact(exact).handle(handle).priority(priority).checksum(staged.checksum()).tag(staged.number(staged::ID) as u64)
    }

    /// The completion of a single transfer, or of a member of a group.
    fn completion(&self, staged: &Staged<'_>, view: &View, line: Line, landing: &mut Option<Arc<Landing>>) -> Result<Arc<dyn Completion>> {
        let group = staged.number(staged::GROUP) as u64;
        if group != 0 {
            let groups = self.state.groups.borrow();
            let group = groups.get(&group).ok_or_else(|| unknown("group", group as u32))?;
            // The tag of a member is its index; a group has a completion for each.
            let member = group.join(staged.number(staged::ID) as u64, view.lease());
            return Ok(Arc::new(Joined { member, delivery: Arc::clone(&self.state.delivery) }));
        }
        let cancellation_number = staged.number(staged::CANCELLATION) as u64;
        let serves = landing.take().filter(|last| last.serves(view, line, cancellation_number));
        let serves = serves.unwrap_or_else(|| {
            let cancellation = self.state.cancellations.borrow_mut().join(cancellation_number);
            let delivery = Arc::clone(&self.state.delivery);
            Arc::new(Landing { delivery, lease: view.lease(), line, cancellation, cancellation_number })
        });
        *landing = Some(Arc::clone(&serves));
        Ok(serves)
    }

    /// Opens a group, whose record has this id.
    #[napi]
    pub fn open_group(&self, id: f64) {
        let delivery = Arc::clone(&self.state.delivery);
        let group = Group::new(move |failures| delivery.push(Line::OTHER, Record::of_group(id as u64, &failures)));
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
        let line = Line::Of(file);
        let then = move |result: deepring::Result<()>| {
            drop(lease);
            delivery.push(line, Record::of(id as u64, result.map(|()| None)));
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
