//! How the client makes a transfer: where, with which memory, and through which of the engine's doors.

use super::buffer::Parcel;
use super::model::fill;
use super::request::{Holder, Memory, Request, Ticket, What, bell};
use super::run::{Opening, Run};
use super::world;
use crate::binding::EngineBinding;
use crate::completion::Completion;
use crate::completion::RawTransfer;
use crate::engine::Engine;
use crate::plan::Direction;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};

impl Run {
    /// A position on, or next to, a boundary that matters.
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
        let Some(index) = self.some_handle() else { return };
        let file = self.openings[index].file;
        let write = self.rng.one_in(2);
        // Ranges are taken; a few tries find one that is free.
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
                let what = if write { What::Write } else { What::Read { exact: self.rng.one_in(2) } };
                self.submit(Some(index), self.openings[index].station, file, what, start, end);
                return;
            }
        }
    }

    fn transfer_path(&mut self) {
        let Some((station, _)) = self.some_engine() else { return };
        let file = self.rng.index(self.files.len());
        let model = &self.files[file].model;
        let (size, certain) = (model.size_max, model.size_min == model.size_max);
        match self.rng.below(8) {
            0..3 => {
                let len = if certain && !self.rng.one_in(8) { size } else { self.rng.below(self.profile.file_bytes) };
                if self.is_free(file, 0, len, false) {
                    self.submit(None, station, file, What::ReadWhole, 0, len);
                }
            }
            3..5 => {
                let len = self.range().1.min(self.profile.file_bytes);
                if !self.unsettled_on(file).any(|request| request.what.changes()) {
                    self.submit(None, station, file, What::WriteWhole, 0, len);
                }
            }
            kind => {
                let (start, end) = self.range();
                let write = kind < 7;
                if self.is_free(file, start, end, write) {
                    let what = if write { What::Write } else { What::Read { exact: false } };
                    self.submit(None, station, file, what, start, end);
                }
            }
        }
    }

    /// Whether a request for this range may be made now.
    fn is_free(&mut self, file: usize, start: u64, end: u64, write: bool) -> bool {
        let races = self.rng.one_in(2);
        !self.unsettled_on(file).any(|request| match request.what {
            What::WriteWhole => write || !races,
            What::Cut(size) => end > size && !races,
            What::Write => request.overlaps(start, end) && (write || !races),
            _ => false,
        })
    }

    /// Takes a request into the books, with everything that races with it.
    fn enter_request(&mut self, request: Request) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.made += 1;
        let mut request = Request { salt: id, ..request };
        let racer = request.racer();
        for other in self.requests.values_mut().filter(|other| other.file == request.file) {
            if other.what.changes() {
                request.racers.push(other.racer());
            }
            if request.what.changes() {
                other.racers.push(racer);
            }
        }
        world::with(|world| {
            world.note(|| format!("request {id}: {:?} of file {} {}..{}", request.what, request.file, request.start, request.end));
            world.digest(&[id, request.start, request.end]);
        });
        self.requests.insert(id, request);
        id
    }

    /// As [`Run::enter_request`], for controls of an open file.
    pub(super) fn enter(&mut self, opening: usize, what: What, start: u64, end: u64, holder: Holder) -> u64 {
        let Opening { file, station, .. } = self.openings[opening];
        let model = &self.files[file].model;
        let sizes = (model.size_min, model.size_max);
        let request = Request {
            what,
            file,
            station,
            opening: Some(opening),
            by_path: false,
            existed: true,
            start,
            end,
            salt: 0,
            holder,
            canceled: false,
            view: None,
            sizes,
            racers: Vec::new(),
        };
        let id = self.enter_request(request);
        world::with(|world| world.submitted(id, 0, 0));
        id
    }

    fn submit(&mut self, opening: Option<usize>, station: usize, file: usize, what: What, start: u64, end: u64) {
        let Some(engine) = self.stations[station].engine.clone() else { return };
        let model = &self.files[file].model;
        let request = Request {
            what,
            file,
            station,
            opening,
            by_path: opening.is_none(),
            existed: self.files[file].exists,
            start,
            end,
            salt: 0,
            holder: Holder::Dropped,
            canceled: false,
            view: what.reads().then(|| model.view(start, end)),
            sizes: (model.size_min, model.size_max),
            racers: Vec::new(),
        };
        let id = self.enter_request(request);
        let mut memory = self.memory(&engine, id, (end - start) as usize);
        if !what.reads() {
            fill(memory.bytes_mut(), start, id);
        }
        world::with(|world| world.submitted(id, memory.address(), end - start));
        // A partial transfer by path exists only at the seam for bindings, a handle too.
        let partial_by_path = opening.is_none() && !matches!(what, What::ReadWhole | What::WriteWhole);
        let holder = if partial_by_path || self.rng.one_in(2) {
            self.submit_raw(&engine, opening, what, start, memory, id)
        } else {
            self.submit_op(&engine, opening, what, start, memory, id)
        };
        if let Some(request) = self.requests.get_mut(&id) {
            request.holder = holder;
        }
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
        Memory::Parcel(Parcel::new(id, len, offset))
    }

    fn submit_raw(&mut self, engine: &Engine, opening: Option<usize>, what: What, start: u64, memory: Memory, id: u64) -> Holder {
        let station = opening.map_or_else(|| self.requests[&id].station, |index| self.openings[index].station);
        let handles = &self.stations[station].handles;
        let handle =
            if handles.is_empty() || self.rng.one_in(2) { None } else { Some(Arc::clone(&handles[self.rng.index(handles.len())])) };
        let transfer = RawTransfer {
            direction: if what.reads() { Direction::Read } else { Direction::Write },
            address: memory.address(),
            len: memory.bytes().len() as u64,
            position: start,
            exact: what == What::ReadWhole || what == (What::Read { exact: true }),
            handle,
        };
        let ticket = Arc::new(Ticket { id, canceled: AtomicBool::new(false) });
        let completion = Arc::clone(&ticket) as Arc<dyn Completion>;
        if let Some(file) = opening.and_then(|index| self.openings[index].open.as_ref()) {
            // SAFETY: the memory is kept in the request's holder until it has settled, and leaked if it is lost.
            unsafe { file.submit(transfer, completion) };
        } else {
            let whole = matches!(what, What::ReadWhole | What::WriteWhole);
            let path = Arc::clone(&self.files[self.requests[&id].file].path);
            // SAFETY: as above.
            unsafe { engine.submit_path(&path, whole, 0o600, transfer, completion) };
        }
        engine.wake();
        Holder::Raw(memory, ticket)
    }

    fn submit_op(&mut self, engine: &Engine, opening: Option<usize>, what: What, start: u64, memory: Memory, id: u64) -> Holder {
        let mut op = if let Some(file) = opening.and_then(|index| self.openings[index].open.as_ref()) {
            match what {
                What::Read { exact: true } => file.read_exact_at(memory, start),
                What::Read { exact: false } => file.read_at(memory, start),
                _ => file.write_at(memory, start),
            }
        } else {
            let path = Arc::clone(&self.files[self.requests[&id].file].path);
            if what.reads() { engine.read_file(&path, memory) } else { engine.write_file(&path, memory) }
        };
        // From now on the world hears of its end. If it has ended already, there is nobody to ring.
        match Pin::new(&mut op).poll(&mut Context::from_waker(&bell(id))) {
            Poll::Pending => Holder::Op(op),
            Poll::Ready(completed) => {
                self.judge_refused(id, completed);
                Holder::Dropped
            }
        }
    }
}
