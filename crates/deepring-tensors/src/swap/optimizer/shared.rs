//! [`Shared`]: what a swapper, its steps and its leases have in common: groups, the budget, and writes that nothing waits for.
//!
//! A group is **claimed** by whatever works on its parts: a step until the lease of the group has ended, an initialization, a
//! flush. So nothing else has its memory, and what was read is what is there. Writes go on after a claim has ended. They are in
//! one list, which every waiting task polls: none of them owns a write, so none cancels one when it is dropped.

use super::coverage::Coverage;
use super::geometry::{Geometry, Slot};
use super::gradient::Block;
use super::index::{Index, Slots};
use super::stats::Times;
use super::wakers::Wakers;
use crate::budget::{Budget, Permit};
use crate::error::{Error, Result, quoted};
use crate::swap::directory::{Held, SwapDirectory};
use crate::swap::task;
use deepring::{Buffer, Engine, File, Op, Receipt, ReplaceOptions};
use std::collections::{BTreeMap, HashMap};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) directory: SwapDirectory,
    pub(super) data: File,
    /// While the swapper is open.
    pub(super) lock: Held,
    pub(super) groups: Vec<Geometry>,
    pub(super) names: HashMap<String, usize>,
    pub(super) durable: bool,
    pub(super) depth: usize,
    pub(super) budget: Arc<Budget>,
    pub(super) wakers: Arc<Wakers>,
    pub(super) state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) groups: Vec<GroupState>,
    /// In the order of their beginnings.
    writes: Vec<Write>,
    /// Permits of jobs that end without the program's doing.
    loans: usize,
    pub(super) times: Times,
    pub(super) read: u64,
    pub(super) written: u64,
    pub(super) leases: u64,
    pub(super) written_down: WrittenDown,
    /// An index is on its way: the next one waits.
    is_indexing: bool,
    /// Snapshots that read what the last flush has.
    pub(super) snapshots: usize,
    pub(super) is_closed: bool,
}

/// What the index on the drive says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum WrittenDown {
    /// The last flush.
    #[default]
    Flush,
    /// That writes in place have begun since.
    Torn,
    /// Either the last flush or the next one: writing it has failed, or was not waited for.
    Unknown,
}

#[derive(Debug, Default)]
pub(super) struct GroupState {
    /// The newest version of each part that is kept.
    pub(super) now: Slots,
    /// That of the last flush.
    pub(super) flushed: Slots,
    /// Bytes of the gradient that have come.
    pub(super) come: Coverage,
    /// Of these: what is in memory, by the number of its block.
    pub(super) blocks: BTreeMap<u64, Block>,
    /// If the group stays in memory.
    pub(super) resident: Option<Resident>,
    is_claimed: bool,
    /// Writes that have not ended.
    writes: usize,
    /// Why its parts cannot be used.
    pub(super) failed: Option<Error>,
}

/// A group that stays in memory.
#[derive(Debug)]
pub(super) struct Resident {
    /// Its parts. They are copied on threads of the engine.
    pub(super) parts: Arc<Mutex<Vec<Buffer>>>,
    /// Whether the file lacks something.
    pub(super) is_dirty: bool,
    pub(super) _permit: Permit,
}

/// Memory that is being written.
#[derive(Debug)]
struct Write {
    group: usize,
    begun: Instant,
    ops: Vec<Op<Buffer>>,
    _permit: Option<Permit>,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn group(&self, name: &str) -> Result<usize> {
        self.names.get(name).copied().ok_or_else(|| Error::NotFound { tensor: name.to_owned() })
    }

    pub(super) fn name(&self, group: usize) -> &str {
        &self.groups[group].group.name
    }

    /// Waits until `look` finds something. It is asked again whenever a write has ended or a permit was returned.
    pub(super) async fn until<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        poll_fn(|context| {
            self.wakers.add(context.waker());
            let mut state = self.lock();
            let mut has_ended = false;
            let found = loop {
                let found = look(&mut state);
                if found.is_some() || !self.reap(&mut state) {
                    break found;
                }
                has_ended = true;
            };
            drop(state);
            if has_ended {
                self.wakers.wake_all();
            }
            found.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Looks for writes that have ended. Whether there was one.
    pub(super) fn reap(&self, state: &mut State) -> bool {
        let waker = Waker::from(Arc::clone(&self.wakers));
        let mut context = Context::from_waker(&waker);
        let before = state.writes.len();
        for mut write in std::mem::take(&mut state.writes) {
            let (group, begun) = (write.group, write.begun);
            write.ops.retain_mut(|op| match Pin::new(op).poll(&mut context) {
                Poll::Pending => true,
                Poll::Ready(ended) => {
                    match ended.ok() {
                        Ok((_, receipt)) => state.wrote(begun, &receipt),
                        Err(error) => drop(self.fail(state, group, error)),
                    }
                    false
                }
            });
            if write.ops.is_empty() {
                state.groups[group].writes -= 1;
            } else {
                state.writes.push(write);
            }
        }
        state.writes.len() < before
    }

    /// A write of a group has failed: its parts cannot be used.
    pub(super) fn fail(&self, state: &mut State, group: usize, error: deepring::Error) -> Error {
        let error = Error::io(error, Some(self.name(group)));
        state.groups[group].failed = Some(error.clone());
        error
    }

    /// Memory within the budget. Waits for writes and other jobs, and lets blocks of gradients go; if nothing of that helps,
    /// the program has it all.
    pub(super) fn room(&self, state: &mut State, bytes: u64, group: usize) -> Option<Result<Permit>> {
        if let Some(permit) = self.budget.take(bytes) {
            return Some(Ok(permit));
        }
        if state.writes.is_empty() && !self.spill_all(state) && state.loans == 0 {
            let tensor = Some(self.name(group).to_owned());
            return Some(Err(Error::Budget { needed: bytes, budget: self.budget.limit(), tensor }));
        }
        None
    }

    /// As [`Shared::room`], for a job that ends by itself.
    pub(super) async fn loan(self: &Arc<Self>, bytes: u64, group: usize) -> Result<Loan> {
        let permit = self
            .until(|state| {
                let room = self.room(state, bytes, group);
                state.loans += usize::from(matches!(room, Some(Ok(_))));
                room
            })
            .await?;
        Ok(Loan { shared: Arc::clone(self), permit: Some(permit) })
    }

    /// Waits for all writes of a group.
    pub(super) async fn settled(&self, group: usize) -> Result<()> {
        self.until(|state| {
            let group = &state.groups[group];
            if group.writes > 0 {
                return None;
            }
            Some(group.failed.clone().map_or(Ok(()), Err))
        })
        .await
    }

    /// Where the next version of a part goes.
    pub(super) fn target(&self, state: &State, group: usize, part: usize) -> Slot {
        let flushed = state.groups[group].flushed[part];
        if self.durable { flushed.map_or(Slot::First, Slot::other) } else { Slot::First }
    }

    /// Before parts are written: says so in the index if they are written in place. Else both slots of a part can be those
    /// of a flush whose end is unknown, until that is known.
    pub(super) async fn mark(self: &Arc<Self>) -> Result<()> {
        let written_down = self.lock().written_down;
        match (self.durable, written_down) {
            (true, WrittenDown::Unknown) => self.commit().await,
            (false, WrittenDown::Flush | WrittenDown::Unknown) => {
                let slots = self.lock().groups.iter().map(|group| group.flushed.clone()).collect();
                self.write_index(Index { is_torn: true, slots }).await
            }
            _ => Ok(()),
        }
    }

    /// Makes the newest versions those of the last flush. All writes have ended.
    pub(super) async fn commit(self: &Arc<Self>) -> Result<()> {
        let slots: Vec<Slots> = {
            let mut state = self.lock();
            state.written_down = WrittenDown::Unknown;
            state.groups.iter().map(|group| group.now.clone()).collect()
        };
        self.data.sync_data().await?;
        self.write_index(Index { is_torn: false, slots }).await
    }

    /// Replaces the index. A caller that gives up changes nothing of that: an index that was begun gets its name, the swapper
    /// knows of it, and the next one comes after it.
    async fn write_index(self: &Arc<Self>, index: Index) -> Result<()> {
        self.until(|state| (!state.is_indexing).then(|| state.is_indexing = true)).await;
        self.lock().written_down = WrittenDown::Unknown;
        let written = Arc::new(Mutex::new(None));
        let (to, own) = (Arc::clone(&written), Arc::clone(self));
        task::spawn(&self.engine, async move {
            let ended = own.directory.write_index(&own.engine, index.text(&own.groups, own.durable), ReplaceOptions::new()).await;
            own.indexed(index, ended.is_ok());
            *to.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
            let wakers = Arc::clone(&own.wakers);
            // What it wakes can close the swapper.
            drop((to, own));
            wakers.wake_all();
        });
        let ended = self.until(|_| written.lock().unwrap_or_else(PoisonError::into_inner).take()).await;
        Ok(ended?)
    }

    /// An index has its name, or writing it has failed.
    fn indexed(&self, Index { is_torn, slots }: Index, is_written: bool) {
        let mut state = self.lock();
        state.is_indexing = false;
        match (is_written, is_torn) {
            (false, _) => {}
            (true, true) => state.written_down = WrittenDown::Torn,
            (true, false) => {
                state.written_down = WrittenDown::Flush;
                state.groups.iter_mut().zip(slots).for_each(|(group, slots)| group.flushed = slots);
            }
        }
    }

    /// Claims groups.
    pub(super) fn claim(self: &Arc<Self>, groups: Vec<usize>) -> Result<Claim> {
        let mut state = self.lock();
        state.check()?;
        if let Some(group) = groups.iter().find(|group| state.groups[**group].is_claimed) {
            return Err(self.directory.busy(format!("group {} is in use", quoted(self.name(*group)))));
        }
        for group in &groups {
            state.groups[*group].is_claimed = true;
        }
        Ok(Claim { shared: Arc::clone(self), groups })
    }

    /// The error of a call that a snapshot in progress keeps from going on.
    pub(super) fn check_unread(&self, state: &State) -> Result<()> {
        if state.snapshots > 0 {
            return Err(self.directory.busy("a snapshot reads what the last flush has"));
        }
        Ok(())
    }

    /// Waits until no write is under way.
    pub(super) async fn all_written(&self) {
        self.until(|state| state.writes.is_empty().then_some(())).await;
    }

    /// Claims all groups.
    pub(super) fn claim_all(self: &Arc<Self>) -> Result<Claim> {
        self.claim((0..self.groups.len()).collect())
    }
}

impl State {
    /// Of groups whose parts are in these slots.
    pub(super) fn new(slots: Vec<Slots>) -> Self {
        let of_group = |slots: Slots| GroupState { now: slots.clone(), flushed: slots, ..GroupState::default() };
        Self { groups: slots.into_iter().map(of_group).collect(), ..Self::default() }
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.is_closed {
            return Err(Error::Argument("the swapper is closed".into()));
        }
        Ok(())
    }

    /// Begins with writes that nothing waits for.
    pub(super) fn write(&mut self, group: usize, ops: Vec<Op<Buffer>>, permit: Option<Permit>) {
        self.groups[group].writes += 1;
        self.writes.push(Write { group, begun: Instant::now(), ops, _permit: permit });
    }

    pub(super) fn wrote(&mut self, begun: Instant, receipt: &Receipt) {
        let duration = receipt.queue + receipt.device;
        self.written += receipt.bytes;
        self.times.write.add(begun, duration);
        self.times.io.add(begun, duration);
    }

    pub(super) fn has_read(&mut self, begun: Instant, receipt: &Receipt) {
        let duration = receipt.queue + receipt.device;
        self.read += receipt.bytes;
        self.times.read.add(begun, duration);
        self.times.io.add(begun, duration);
    }
}

impl GroupState {
    /// Whether something works on its parts.
    pub(super) fn is_claimed(&self) -> bool {
        self.is_claimed
    }

    /// Whether all writes have ended.
    pub(super) fn is_settled(&self) -> bool {
        self.writes == 0
    }
}

/// Groups that are claimed. They are free again when it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) shared: Arc<Shared>,
    groups: Vec<usize>,
}

impl Claim {
    /// Gives up all groups but these.
    pub(super) fn keep(&mut self, groups: &[usize]) {
        let kept: std::collections::HashSet<usize> = groups.iter().copied().collect();
        let (groups, rest) = std::mem::take(&mut self.groups).into_iter().partition(|group| kept.contains(group));
        self.groups = groups;
        drop(Self { shared: Arc::clone(&self.shared), groups: rest });
    }

    /// A claim of its own for one of the groups.
    pub(super) fn split(&mut self, group: usize) -> Self {
        self.groups.retain(|other| *other != group);
        Self { shared: Arc::clone(&self.shared), groups: vec![group] }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        for group in &self.groups {
            state.groups[*group].is_claimed = false;
        }
        drop(state);
        self.shared.wakers.wake_all();
    }
}

/// A permit of a job that ends by itself.
#[derive(Debug)]
pub(super) struct Loan {
    shared: Arc<Shared>,
    permit: Option<Permit>,
}

impl Loan {
    /// The permit, for a write.
    pub(super) fn into_permit(mut self, state: &mut State) -> Option<Permit> {
        state.loans -= usize::from(self.permit.is_some());
        self.permit.take()
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if self.permit.take().is_some() {
            self.shared.lock().loans -= 1;
            self.shared.wakers.wake_all();
        }
    }
}
