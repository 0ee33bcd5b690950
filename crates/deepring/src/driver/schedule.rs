//! Which request of a device goes next. Pure: no system call, no clock, no lock.
//!
//! **Deficit round robin.** The requests of a file, or of a handle, of one class, direction and size form a flow. A
//! class and direction has one line of flows, which take turns: in each round of the line a flow may issue
//! [`QUANTUM`] more than it has issued too much before. The small requests of a round go before the large ones, and a
//! flow that is new has its quantum at once, so a small request waits for what is in flight and not for what is queued.
//! What is counted is bytes plus a price per device operation, which the driver learns.
//!
//! **Classes.** `latency` goes first, `throughput` next. What a class is owed of the time that others take, it gets
//! before them: a tenth of the time of `latency`, a fiftieth of that of `throughput`.
//!
//! The driver works in rounds of its own. It asks for the next request, tries to issue its next block, and reports:
//!
//! | result | the request | its flow |
//! |---|---|---|
//! | `More` | stays at the front of its flow; after [`REQUEST_QUANTUM`] bytes it goes behind those that have begun | pays |
//! | `Left` (its last block was issued, it parked, or it ended) | leaves its flow | pays |
//! | `Full` (the device takes no more of it) | stays at the front | keeps its turn |
//!
//! **A reservation.** The first that finds the device full waits for room, and others that fit pass it, for at most
//! [`PASS_MAX`]. Then, or once its class is owed [`OWED_ROOM`], nothing is issued before it. A line does not begin
//! another round without it either.

use super::flows::{Flow, FlowKey, Flows, Hold, Size};
use crate::planted::{PlantedBug, planted};
use crate::priority::Priority;
use crate::slots::Key;
use std::collections::VecDeque;

/// What a flow may issue in a round: a quarter of a large block, or some dozen small requests.
pub(super) const QUANTUM: i64 = 1 << 20;

/// A request keeps its turn within its flow for this many bytes: long enough for sequential transfers.
const REQUEST_QUANTUM: u64 = 16 << 20;

/// What may pass a request that waits for room.
pub(super) const PASS_MAX: u64 = 4 << 20;

/// Flows that join a round after it has begun. Those that come later join the next one.
const NEWCOMERS_MAX: u32 = 64;

/// How far one direction of a class can be ahead of the other and is made to wait for it.
const LEAD_MAX: i64 = 16 << 20;

/// Of the cost of others, a class that waits is owed one part in this many: a little more than a tenth and a fiftieth of
/// all.
const OWED_OF_LATENCY: i64 = 8;
const OWED_OF_THROUGHPUT: i64 = 45;
/// A class that waits for room and is owed so much is passed no more.
const OWED_ROOM: i64 = 64 << 10;
/// The most that it is owed, or has had too much.
const OWED_MAX: i64 = 4 << 20;

/// How many classes there are, and directions.
const LINES: usize = 6;

/// The request whose turn it is, and the place of its flow.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<F> {
    Begun(usize, Key),
    /// It begins now.
    Fresh(usize, F),
}

/// The result of an attempt to issue a request's next block, with what was issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Issued {
    /// One block; the request has more.
    More(Price),
    /// It is in no line any more: all its blocks are issued, it waits for something else, or it has ended.
    Left(Price),
    /// The device takes no more of it now.
    Full,
}

/// What a block costs its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Price {
    pub(super) bytes: u64,
    /// Bytes, and what the device's operations cost beside them.
    pub(super) total: u64,
}

impl Price {
    /// Nothing was issued.
    pub(super) const NOTHING: Self = Self { bytes: 0, total: 0 };
}

/// Who shares a device with whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Contention {
    /// One party had it alone.
    Alone,
    /// Two files or handles, two classes, or small requests and large ones.
    Shared,
    /// One of them is of the class `latency`, another is not.
    Latency,
}

/// One pass over a device: which of a line's sizes found it full.
#[derive(Debug, Default)]
pub(super) struct Round {
    full: [[bool; 2]; LINES],
}

/// The flows of one class and direction.
#[derive(Debug, Default)]
struct Line {
    round: u64,
    /// By size: those whose turn comes in this round, the next one first.
    current: [VecDeque<usize>; 2],
    /// Those that have had it.
    later: [VecDeque<usize>; 2],
    /// Flows that have joined the round since it began.
    newcomers: u32,
}

impl Line {
    fn is_empty(&self) -> bool {
        [&self.current, &self.later].iter().all(|lists| lists.iter().all(VecDeque::is_empty))
    }
}

/// The requests of one device. `F` is a request that has not begun.
#[derive(Debug)]
pub(super) struct Schedule<F> {
    flows: Flows<F>,
    /// By class, then direction.
    lines: [Line; LINES],
    /// What a class is owed, by class. Below 0, what it has had too much.
    owed: [i64; 3],
    /// By class: what reads have issued more than writes.
    lead: [i64; 3],
    /// The line and size that found the device full first, and what has passed it since.
    waiting: Option<(usize, usize)>,
    passed: u64,
    /// The flow that was asked last and has not been reported yet.
    serving: Option<usize>,
    /// The last two that issued, if they are different parties.
    parties: [Option<FlowKey>; 2],
    contention: Contention,
}

fn line_of(key: &FlowKey) -> usize {
    key.class as usize * 2 + usize::from(key.write)
}

impl<F> Schedule<F> {
    pub(super) fn new() -> Self {
        Self {
            flows: Flows::default(),
            lines: Default::default(),
            owed: [0; 3],
            lead: [0; 3],
            waiting: None,
            passed: 0,
            serving: None,
            parties: [None; 2],
            contention: Contention::Alone,
        }
    }

    /// Changes a flow, and keeps its place in its line.
    fn change<R>(&mut self, place: usize, change: impl FnOnce(&mut Flow<F>) -> R) -> Option<R> {
        let result = change(self.flows.get_mut(place)?);
        if self.serving != Some(place) {
            self.list(place);
            self.flows.tidy(place);
        }
        Some(result)
    }

    /// Puts a flow into its line if it has something to do, and takes it out if not.
    fn list(&mut self, place: usize) {
        let Some(flow) = self.flows.get_mut(place) else { return };
        let (line, size) = (&mut self.lines[line_of(&flow.key)], flow.key.size as usize);
        match (flow.is_listed, flow.is_active()) {
            (false, true) => {
                if line.is_empty() {
                    line.round += 1;
                    line.newcomers = 0;
                }
                flow.is_listed = true;
                let missed = line.round - flow.round;
                let joins = missed == 0 && flow.deficit > 0 || missed > 0 && line.newcomers < NEWCOMERS_MAX;
                line.newcomers += u32::from(joins && missed > 0);
                if joins { line.current[size].push_back(place) } else { line.later[size].push_back(place) }
            }
            (true, false) => {
                flow.is_listed = false;
                line.current[size].retain(|other| *other != place);
                line.later[size].retain(|other| *other != place);
            }
            _ => {}
        }
    }

    /// Adds a request that has not begun.
    pub(super) fn enqueue(&mut self, key: FlowKey, fresh: F) {
        let place = self.flows.place(key);
        self.change(place, |flow| flow.fresh.push_back(fresh));
    }

    /// Adds a request that has begun and can go on.
    pub(super) fn ready(&mut self, flow: FlowKey, key: Key) {
        let place = self.flows.place(flow);
        self.change(place, |flow| flow.begun.push_back(key));
    }

    /// Takes a request that has begun out of its flow.
    pub(super) fn remove(&mut self, flow: FlowKey, key: Key) {
        let place = self.flows.place(flow);
        self.change(place, |flow| flow.begun.retain(|other| *other != key));
    }

    /// A request that has begun waits for something.
    pub(super) fn hold(&mut self, flow: FlowKey, what: Hold) {
        let place = self.flows.place(flow);
        self.change(place, |flow| flow.hold(what));
    }

    /// It does not any more.
    pub(super) fn release(&mut self, flow: FlowKey, what: Hold) {
        let place = self.flows.place(flow);
        self.change(place, |flow| flow.release(what));
    }

    /// Takes requests that have begun and match out of their flows.
    pub(super) fn sweep(&mut self, begun: impl Fn(Key) -> bool) {
        for place in self.flows.places() {
            self.change(place, |flow| flow.begun.retain(|key| !begun(*key)));
        }
    }

    /// The places of all flows, in the order in which they were made.
    pub(super) fn places(&self) -> Vec<usize> {
        self.flows.places()
    }

    /// Takes all requests that have not begun out of a flow. [`Schedule::give_back`] must follow.
    pub(super) fn lend(&mut self, place: usize) -> Option<(FlowKey, VecDeque<F>)> {
        let flow = self.flows.get_mut(place)?;
        Some((flow.key, std::mem::take(&mut flow.fresh)))
    }

    /// What is left of those that a flow has lent.
    pub(super) fn give_back(&mut self, flow: FlowKey, fresh: VecDeque<F>) {
        let place = self.flows.place(flow);
        self.change(place, |flow| {
            debug_assert!(flow.fresh.is_empty(), "none can join meanwhile");
            // What was a long line gives its memory back.
            flow.fresh = if fresh.is_empty() { VecDeque::new() } else { fresh };
        });
    }

    /// The request that goes next in this round; `None` ends the round. It is out of its flow until [`Schedule::report`].
    pub(super) fn next(&mut self, round: &Round, can_begin: bool) -> Option<Next<F>> {
        let place = self.choose(round, can_begin)?;
        let flow = self.flows.get_mut(place)?;
        let next = match flow.begun.pop_front() {
            Some(key) => Next::Begun(place, key),
            None => Next::Fresh(place, flow.fresh.pop_front()?),
        };
        self.serving = Some(place);
        Some(next)
    }

    fn choose(&mut self, round: &Round, can_begin: bool) -> Option<usize> {
        let mut reserved = self.waiting.filter(|(line, _)| self.passed >= PASS_MAX || self.owed[line / 2] >= OWED_ROOM);
        if let Some((line, size)) = reserved {
            // It can have been canceled, or wait for something else by now.
            let lists = [&self.lines[line].current[size], &self.lines[line].later[size]];
            if lists.iter().all(|list| list.is_empty()) {
                (self.waiting, self.passed, reserved) = (None, 0, None);
            }
        }
        let (order, owed) = self.class_order();
        for (index, class) in order.into_iter().enumerate() {
            // What is kept from a more urgent class is not for this one, but for what it is owed.
            let passes_class = |other: &usize| *other < class && round.full[other * 2..other * 2 + 2].as_flattened().contains(&true);
            if index >= owed && (0..class).any(|other| passes_class(&other)) {
                continue;
            }
            let reads_first = self.lead[class] <= 0;
            for line in if reads_first { [class * 2, class * 2 + 1] } else { [class * 2 + 1, class * 2] } {
                if let Some(place) = self.choose_of(line, round, reserved, can_begin) {
                    return Some(place);
                }
            }
        }
        None
    }

    /// Classes in the order in which they are served, and how many of them come first because they are owed something.
    fn class_order(&self) -> ([usize; 3], usize) {
        let [latency, throughput, background] = [0, 1, 2];
        let is_owed = |class: usize| self.owed[class] > 0 && self.has_work(class) && !planted(PlantedBug::StarvesClass);
        match (is_owed(throughput), is_owed(background)) {
            (true, true) => ([background, throughput, latency], 2),
            (false, true) => ([background, latency, throughput], 1),
            (true, false) => ([throughput, latency, background], 1),
            (false, false) => ([latency, throughput, background], 0),
        }
    }

    fn has_work(&self, class: usize) -> bool {
        !self.lines[class * 2].is_empty() || !self.lines[class * 2 + 1].is_empty()
    }

    /// The flow of a line whose turn it is.
    fn choose_of(&mut self, index: usize, round: &Round, reserved: Option<(usize, usize)>, can_begin: bool) -> Option<usize> {
        let line = &mut self.lines[index];
        let is_shut = |size: usize| round.full[index][size] || reserved.is_some_and(|reserved| reserved != (index, size));
        // Begun requests go on where no further one can begin; a second pass over the line finds none.
        let mut passes = 0;
        loop {
            for size in [Size::Small as usize, Size::Large as usize] {
                if is_shut(size) {
                    continue;
                }
                while let Some(&place) = line.current[size].front() {
                    let Some(flow) = self.flows.get_mut(place) else {
                        line.current[size].pop_front();
                        continue;
                    };
                    if flow.round != line.round {
                        let missed = i64::try_from(line.round - flow.round).unwrap_or(i64::MAX);
                        flow.deficit = flow.deficit.saturating_add(QUANTUM.saturating_mul(missed)).min(QUANTUM);
                        flow.round = line.round;
                    }
                    let can_go = !flow.begun.is_empty() || can_begin;
                    if flow.deficit > 0 && can_go {
                        return Some(place);
                    }
                    line.current[size].pop_front();
                    line.later[size].push_back(place);
                }
            }
            // Who found no room keeps its turn, and so the round. Who is kept out for another's sake does not: that one's turn
            // can be in the next round.
            let keeps_turn = |size: usize| round.full[index][size] && !line.current[size].is_empty();
            let mut left = [0, 1].into_iter().filter(|&size| !is_shut(size)).flat_map(|size| &line.later[size]).peekable();
            if keeps_turn(0) || keeps_turn(1) || left.peek().is_none() {
                return None;
            }
            passes += 1;
            if !can_begin && passes > 1 && !left.any(|&place| self.flows.get(place).is_some_and(|flow| !flow.begun.is_empty())) {
                return None;
            }
            for size in 0..2 {
                if line.current[size].is_empty() {
                    std::mem::swap(&mut line.current[size], &mut line.later[size]);
                }
            }
            line.round += 1;
            line.newcomers = 0;
        }
    }

    /// The result for the request of this flow that [`Schedule::next`] named, by the key that it has by now.
    pub(super) fn report(&mut self, round: &mut Round, place: usize, key: Key, issued: Issued) {
        self.serving = None;
        let Some(flow) = self.flows.get_mut(place) else { return };
        let of = flow.key;
        let (line, size) = (line_of(&of), of.size as usize);
        let price = match issued {
            Issued::Full => {
                flow.begun.push_front(key);
                round.full[line][size] = true;
                // One that is owed much is not kept out by one that is owed less.
                let owed = self.owed[line / 2];
                if self.waiting.is_none_or(|(other, _)| owed >= OWED_ROOM && owed > self.owed[other / 2]) {
                    (self.waiting, self.passed) = (Some((line, size)), 0);
                }
                return self.list(place);
            }
            Issued::More(price) => {
                flow.spent += price.bytes;
                if flow.spent >= REQUEST_QUANTUM {
                    flow.spent = 0;
                    flow.begun.push_back(key);
                } else {
                    flow.begun.push_front(key);
                }
                price
            }
            Issued::Left(price) => {
                flow.spent = 0;
                price
            }
        };
        flow.deficit -= i64::try_from(price.total).unwrap_or(i64::MAX);
        self.list(place);
        self.flows.tidy(place);
        if price.total > 0 {
            self.account(of, price.total);
        }
    }

    /// The request of this flow that [`Schedule::next`] named has ended before it began.
    pub(super) fn pass(&mut self, place: usize) {
        self.serving = None;
        self.list(place);
        self.flows.tidy(place);
    }

    /// Something was issued: who it makes wait is owed a part of it.
    fn account(&mut self, of: FlowKey, cost: u64) {
        let (line, class) = (line_of(&of), of.class as usize);
        if self.waiting == Some((line, of.size as usize)) {
            (self.waiting, self.passed) = (None, 0);
        } else if self.waiting.is_some() {
            self.passed += cost;
        }
        let cost = i64::try_from(cost).unwrap_or(i64::MAX);
        let [latency, throughput, background] = [0, 1, 2];
        let has_work = [latency, throughput, background].map(|class| self.has_work(class));
        for other in [throughput, background] {
            let owed = &mut self.owed[other];
            if !has_work[other] && other != class || !has_work[..other].contains(&true) && other == class {
                // None makes it wait, or it does not wait.
                *owed = 0;
            } else if other == class {
                *owed = (*owed - cost).max(-OWED_MAX);
            } else if other > class {
                let all_of_it = class == latency && (other == throughput || !has_work[throughput]);
                // At least 1, or many small ones would be owed nothing for.
                *owed = (*owed + (cost / if all_of_it { OWED_OF_LATENCY } else { OWED_OF_THROUGHPUT }).max(1)).min(OWED_MAX);
            }
        }
        if self.lines[class * 2].is_empty() || self.lines[class * 2 + 1].is_empty() {
            self.lead[class] = 0;
        } else {
            self.lead[class] = (self.lead[class] + if of.write { -cost } else { cost }).clamp(-LEAD_MAX, LEAD_MAX);
        }
        self.watch(of);
    }

    /// Notes who issues: a party that comes back after another had its turn shares the device with that. Those that
    /// follow one another do not.
    fn watch(&mut self, of: FlowKey) {
        let [last, before] = self.parties;
        if last.is_some_and(|last| last.is_same_party(&of)) {
            return;
        }
        if let (Some(last), Some(before)) = (last, before)
            && before.is_same_party(&of)
        {
            let urgent = (last.class == Priority::Latency) != (of.class == Priority::Latency);
            self.contention = self.contention.max(if urgent { Contention::Latency } else { Contention::Shared });
        }
        self.parties = [Some(of), last];
    }

    /// Who has shared the device since the last call.
    pub(super) fn take_contention(&mut self) -> Contention {
        std::mem::replace(&mut self.contention, Contention::Alone)
    }

    /// Requests of all flows that wait for a range, and for room.
    #[cfg(any(debug_assertions, feature = "sim"))]
    pub(super) fn held(&self) -> (u32, u32) {
        self.flows.held()
    }

    /// The requests in line that have begun.
    #[cfg(any(debug_assertions, feature = "sim"))]
    pub(super) fn begun(&self) -> impl Iterator<Item = Key> {
        self.flows.all().flat_map(|flow| flow.begun.iter().copied())
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
