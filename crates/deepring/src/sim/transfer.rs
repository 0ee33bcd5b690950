//! How the client makes a transfer: which range, with which memory, and through which entry point.

use super::buffer::{GuardedBuffer, UNREAD};
use super::model::fill;
use super::prng::{Prng, mix};
use super::request::{Delivered, Holder, Memory, Request, RequestCompletion, RequestKind, request_waker};
use super::run::{Opening, Run};
use super::split::Split;
use super::world::{self, violate};
use crate::binding::EngineBinding;
use crate::completion::Completion;
use crate::completion::RawTransfer;
use crate::digest::Checksum;
use crate::engine::Engine;
use crate::memory::forget;
use crate::op::Op;
use crate::options::{ManyOptions, ReadOptions, WriteOptions};
use crate::plan::Direction;
use crate::priority::Priority;
use crate::read_buffer::Then;
use std::future::Future;
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};

impl Run {
    /// A position on or next to a boundary of a sector, a page or a block.
    pub(super) fn near_unit(&mut self) -> u64 {
        let unit = self.rng.pick(&[512, 4096, 4096, self.profile.block_bytes]);
        let boundary = self.rng.below(self.profile.file_bytes / unit + 1) * unit;
        match self.rng.below(6) {
            0 => boundary + 1,
            1 => boundary.saturating_sub(1),
            2 => boundary + 512,
            _ => boundary,
        }
    }

    fn range(&mut self) -> (u64, u64) {
        let start = if self.rng.one_in(2) { self.near_unit() } else { self.rng.below(self.profile.file_bytes) };
        let len = match self.rng.below(16) {
            0 => 0,
            1..4 => self.rng.between(1, 64),
            4..8 => self.rng.between(1, 3) * 4096 + self.rng.pick(&[0, 0, 1, 4095, 512]),
            8..14 => self.rng.between(1, 3 * 4096),
            _ => self.rng.between(1, 6 * self.profile.block_bytes),
        };
        let room = (self.profile.file_bytes + 2 * 4096).saturating_sub(start);
        (start, start + len.min(room))
    }

    pub(super) fn transfer(&mut self) {
        if self.rng.below(100) < self.profile.path_percent {
            return self.transfer_path();
        }
        let Some(index) = self.some_open_file() else { return };
        let file = self.openings[index].file;
        let write = self.rng.one_in(2) || self.profile.copies;
        // Other requests occupy ranges. A few tries find a free one.
        for _ in 0..4 {
            let (mut start, mut end) = self.range();
            if write && self.rng.one_in(5) {
                // An append.
                (start, end) = (self.files[file].model.size_max, self.files[file].model.size_max + (end - start));
                if end > self.profile.file_bytes + 2 * 4096 {
                    continue;
                }
            }
            if self.is_free(file, start, end, write) {
                let kind = if write { RequestKind::Write } else { RequestKind::Read { exact: self.rng.one_in(2) } };
                self.submit(Some(index), self.openings[index].engine, file, kind, start, end);
                return;
            }
        }
    }

    fn transfer_path(&mut self) {
        let Some((engine, _)) = self.some_engine() else { return };
        let file = self.rng.index(self.files.len());
        let model = &self.files[file].model;
        let (size, certain) = (model.size_max, model.size_min == model.size_max);
        match self.rng.below(8) {
            0..3 => {
                let len = if certain && !self.rng.one_in(8) { size } else { self.rng.below(self.profile.file_bytes) };
                if self.is_free(file, 0, len, false) {
                    self.submit(None, engine, file, RequestKind::ReadWhole, 0, len);
                }
            }
            3..5 => {
                let len = self.range().1.min(self.profile.file_bytes);
                if !self.unsettled_on(file).any(|request| request.kind.changes()) {
                    self.submit(None, engine, file, RequestKind::WriteWhole, 0, len);
                }
            }
            draw => {
                let (start, end) = self.range();
                let write = draw < 7;
                if self.is_free(file, start, end, write) {
                    let kind = if write { RequestKind::Write } else { RequestKind::Read { exact: false } };
                    self.submit(None, engine, file, kind, start, end);
                }
            }
        }
    }

    /// Whether the client can make a request for this range now. Draws whether reads can race.
    fn is_free(&mut self, file: usize, start: u64, end: u64, write: bool) -> bool {
        let races = self.rng.one_in(2);
        !self.unsettled_on(file).any(|request| match request.kind {
            RequestKind::WriteWhole => write || !races,
            RequestKind::Truncate(size) => end > size && !races,
            RequestKind::Write => request.overlaps(start, end) && (write || !races),
            _ => false,
        })
    }

    /// Records a request and the concurrent changes on both sides.
    fn record_request(&mut self, request: Request) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.made += 1;
        let mut request = Request { salt: id, ..request };
        let change = request.change();
        for other in self.requests.values_mut().filter(|other| other.file == request.file) {
            if other.kind.changes() {
                request.concurrent.push(other.change());
            }
            if request.kind.changes() {
                other.concurrent.push(change);
            }
        }
        world::with(|world| {
            world.note(|| format!("request {id}: {:?} of file {} {}..{}", request.kind, request.file, request.start, request.end));
            world.digest(&[id, request.start, request.end]);
        });
        self.requests.insert(id, request);
        id
    }

    /// As [`Run::record_request`], for controls of an open file.
    pub(super) fn record_control(&mut self, opening: usize, kind: RequestKind, start: u64, end: u64, holder: Holder) -> u64 {
        let Opening { file, engine, .. } = self.openings[opening];
        let model = &self.files[file].model;
        let sizes = (model.size_min, model.size_max);
        let request = Request {
            kind,
            file,
            engine,
            opening: Some(opening),
            by_path: false,
            existed: true,
            start,
            end,
            salt: 0,
            holder,
            canceled: false,
            split: None,
            view: None,
            checksum: Checksum::None,
            sizes,
            concurrent: Vec::new(),
        };
        let id = self.record_request(request);
        world::with(|world| world.submitted(id, 0, 0));
        id
    }

    fn submit(&mut self, opening: Option<usize>, engine: usize, file: usize, kind: RequestKind, start: u64, end: u64) {
        let Some(api) = self.engines[engine].api.clone() else { return };
        let model = &self.files[file].model;
        let request = Request {
            kind,
            file,
            engine,
            opening,
            by_path: opening.is_none(),
            existed: self.files[file].exists,
            start,
            end,
            salt: 0,
            holder: Holder::Dropped,
            canceled: false,
            split: None,
            view: kind.reads().then(|| model.view(start, end)),
            checksum: Checksum::None,
            sizes: (model.size_min, model.size_max),
            concurrent: Vec::new(),
        };
        let id = self.record_request(request);
        self.draw_checksum(id);
        // From a copy: the runs of known seeds stay as they are.
        if let (Some(index), RequestKind::Read { exact: false }) = (opening, kind)
            && end > start
            && self.rng.clone().one_in(5)
        {
            self.ask_no_checksum(id);
            return self.submit_own(&api, index, start, (end - start) as usize, id);
        }
        let mut memory = self.memory(&api, id, (end - start) as usize);
        if !kind.reads() {
            fill(memory.bytes_mut(), start, id);
        }
        world::with(|world| world.submitted(id, memory.address(), end - start));
        if kind.reads() {
            self.draw_fresh(memory.bytes(), matches!(memory, Memory::Pooled(_)));
        }
        // A partial transfer by path, and handle limits, exist only at the seam for bindings.
        let partial_by_path = opening.is_none() && !matches!(kind, RequestKind::ReadWhole | RequestKind::WriteWhole);
        let holder = if partial_by_path || self.rng.one_in(2) {
            self.submit_raw(&api, opening, kind, start, memory, id)
        } else {
            self.submit_op(&api, opening, kind, start, memory, id)
        };
        if let Some(request) = self.requests.get_mut(&id) {
            request.holder = holder;
        }
    }

    /// Declares the memory of a read as never touched, now and then.
    fn draw_fresh(&self, memory: &[u8], pooled: bool) {
        if !self.rng.clone().chance(self.profile.fresh) {
            return;
        }
        let start = memory.as_ptr() as u64;
        if pooled && let Some(first) = NonNull::new(start as *mut u8) {
            forget(first, memory.len());
        }
        world::with(|world| world.pages.take(&(start..start + memory.len() as u64)));
    }

    /// A read that brings its own memory, with old bytes in it.
    fn submit_own(&mut self, engine: &Engine, opening: usize, start: u64, len: usize, id: u64) {
        let (delivered, canceled) = (Delivered::default(), Arc::<AtomicBool>::default());
        if let Some(request) = self.requests.get_mut(&id) {
            request.holder = Holder::Own(Arc::clone(&delivered), Arc::clone(&canceled));
        }
        let Some(open) = &self.openings[opening].open else { return };
        let Ok(mut buffer) = engine.core().pool.allocate(len, false) else { return violate("a pool without memory") };
        buffer.fill(UNREAD);
        world::with(|world| world.submitted(id, buffer.as_ptr() as u64, len as u64));
        self.draw_fresh(&buffer, true);
        let then = move |completed| {
            *delivered.lock().unwrap_or_else(PoisonError::into_inner) = Some(completed);
            world::with(|world| world.op_settled(id));
            world::panic_sometimes();
        };
        open.read_into(start, buffer, None, Then::new(canceled, then));
        engine.wake();
    }

    /// The class of a request. Not drawn from the run's own numbers, so that old seeds replay their runs.
    fn class_of(&self, id: u64) -> Option<Priority> {
        let drawn = mix(id ^ self.profile.operations);
        (drawn % 100 < self.profile.class_percent).then(|| Priority::ALL[(drawn >> 32) as usize % 3])
    }

    fn memory(&mut self, engine: &Engine, id: u64, len: usize) -> Memory {
        if self.rng.one_in(8)
            && let Ok(buffer) = engine.pooled_buffer(len)
        {
            return Memory::Pooled(buffer);
        }
        let offset = match self.rng.below(6) {
            0 => self.rng.below(4096) as usize,
            1 => 512 * self.rng.below(8) as usize,
            2 => 8,
            _ => 0,
        };
        Memory::Guarded(GuardedBuffer::new(id, len, offset))
    }

    fn submit_raw(&mut self, engine: &Engine, opening: Option<usize>, kind: RequestKind, start: u64, memory: Memory, id: u64) -> Holder {
        let index = opening.map_or_else(|| self.requests[&id].engine, |index| self.openings[index].engine);
        let handles = &self.engines[index].handles;
        let handle =
            if handles.is_empty() || self.rng.one_in(2) { None } else { Some(Arc::clone(&handles[self.rng.index(handles.len())])) };
        let transfer = RawTransfer {
            direction: if kind.reads() { Direction::Read } else { Direction::Write },
            address: memory.address(),
            len: memory.bytes().len() as u64,
            position: start,
            exact: kind == RequestKind::ReadWhole || kind == (RequestKind::Read { exact: true }),
            handle,
            priority: self.class_of(id),
            checksum: self.requests[&id].checksum,
            tag: 0,
        };
        let reported = Arc::new(RequestCompletion::new(id));
        let completion = Arc::clone(&reported) as Arc<dyn Completion>;
        if let Some(file) = opening.and_then(|index| self.openings[index].open.as_ref()) {
            // SAFETY: the request's holder keeps the memory until it has settled, and leaks it if
            // it is lost.
            unsafe { file.submit(transfer, completion) };
        } else {
            let whole = matches!(kind, RequestKind::ReadWhole | RequestKind::WriteWhole);
            let path = Arc::clone(&self.files[self.requests[&id].file].path);
            // SAFETY: as above.
            unsafe { engine.submit_path(&path, whole, 0o600, transfer, completion) };
        }
        engine.wake();
        Holder::Raw(memory, reported)
    }

    fn submit_op(&mut self, engine: &Engine, opening: Option<usize>, kind: RequestKind, start: u64, memory: Memory, id: u64) -> Holder {
        let class = self.class_of(id);
        // From a copy again.
        let mut rng = self.rng.clone();
        let is_split = opening.is_some() && !memory.bytes().is_empty() && rng.below(100) < self.profile.split_percent;
        if opening.is_none() || is_split {
            self.ask_no_checksum(id);
        }
        let checksum = self.requests[&id].checksum;
        let mut op = if is_split {
            self.submit_split(&mut rng, opening, kind, start, memory, id)
        } else if let Some(file) = opening.and_then(|index| self.openings[index].open.as_ref()) {
            if let RequestKind::Read { exact } = kind {
                let options = ReadOptions::new().exact(exact).checksum(checksum == Checksum::Sum);
                let options = if let Checksum::Expect(expected) = checksum { options.expect(expected) } else { options };
                file.read_with(memory, start, class.into_iter().fold(options, ReadOptions::priority))
            } else {
                let options = WriteOptions::new().checksum(checksum.is_asked());
                file.write_with(memory, start, class.into_iter().fold(options, WriteOptions::priority))
            }
        } else {
            let path = Arc::clone(&self.files[self.requests[&id].file].path);
            if kind.reads() { engine.read_file(&path, memory) } else { engine.write_file(&path, memory) }
        };
        // From now on the waker reports the outcome. A refused operation has already settled.
        match Pin::new(&mut op).poll(&mut Context::from_waker(&request_waker(id))) {
            Poll::Pending => Holder::Op(op),
            Poll::Ready(completed) => {
                self.judge_refused(id, completed);
                Holder::Dropped
            }
        }
    }

    /// A transfer in many ranges.
    fn submit_split(
        &mut self,
        rng: &mut Prng,
        opening: Option<usize>,
        kind: RequestKind,
        start: u64,
        mut memory: Memory,
        id: u64,
    ) -> Op<Memory> {
        let exact = kind == (RequestKind::Read { exact: true });
        let split = Split::draw(rng, start, memory.bytes().len(), exact);
        let direction = if kind.reads() { Direction::Read } else { Direction::Write };
        if direction == Direction::Write {
            split.scatter(memory.bytes_mut());
        }
        let (segments, ranges) = (split.segments(memory.address()), split.ranges.clone());
        let options = ManyOptions::new().exact(exact).gap(rng.pick(&[0, 0, 600]));
        let options = self.class_of(id).into_iter().fold(options, ManyOptions::priority);
        if let Some(request) = self.requests.get_mut(&id) {
            request.split = Some(split);
        }
        world::with(|world| world.scatters(id));
        match opening.and_then(|index| self.openings[index].open.as_ref()) {
            Some(file) => file.many(direction, memory, Ok(segments), options, &ranges),
            None => unreachable!("only transfers of open files are split"),
        }
    }
}
