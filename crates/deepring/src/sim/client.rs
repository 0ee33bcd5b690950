//! The client: opens, transfers, syncs, truncates, cancels, drops, closes and shuts down.
//!
//! It follows the rule of [`crate::File`]. Where an outcome depends on an order that is not
//! promised, the client either waits or keeps every outcome in the model that is allowed. Two
//! writes never overlap. A read can overlap writes; it finds each byte old or new. A truncation can
//! race with writes beyond its size. Neighboring writes share units all the time.

use super::request::{Holder, Request, RequestKind};
use super::run::{Opening, Run};
use super::world::{self, violate};
use crate::binding::EngineBinding;
use crate::engine::Engine;
use crate::file::File;
use crate::handle::{HandleLimits, Refill};
use crate::open::{self, Direct, Name, OpenOptions};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

impl Run {
    pub(super) fn make_handles(&mut self) {
        for engine in &mut self.engines {
            let Some(api) = &engine.api else { continue };
            for _ in 0..self.rng.below(3) {
                let limits = HandleLimits {
                    queue_depth: self.rng.below(5) as u32,
                    block_bytes: if self.rng.one_in(2) { 0 } else { 4096 << self.rng.below(4) },
                    single_submit: self.rng.one_in(4),
                    refill: if self.rng.one_in(3) { Refill::WhenEmpty } else { Refill::Sliding },
                    priority: None,
                };
                engine.handles.push(Arc::new(api.handle(limits)));
            }
        }
    }

    /// The client's move: one request, or a change of one.
    pub(super) fn client(&mut self) {
        if self.profile.copies {
            return self.client_of_copies();
        }
        if self.profile.shutdown_at.is_some_and(|at| at <= self.made) {
            self.profile.shutdown_at = None;
            world::with(|world| world.note(|| "the first engine is shut down".into()));
            self.shut_down(0);
            return;
        }
        match self.rng.below(100) {
            0..72 if self.requests.len() < self.profile.outstanding => self.transfer(),
            0..76 if self.requests.len() < self.profile.outstanding => self.sync(),
            0..80 if self.requests.len() < self.profile.outstanding => self.truncate(),
            80..83 => self.open(),
            83..85 => self.close(),
            85 => self.drop_file(),
            86..91 => self.cancel(),
            91..95 => self.drop_operation(),
            95 => self.truncate_externally(),
            _ => {}
        }
    }

    /// As [`Run::client`], for two copies of the engine.
    fn client_of_copies(&mut self) {
        match self.rng.below(100) {
            0..80 if self.requests.len() < self.profile.outstanding => self.transfer(),
            80..84 => self.open(),
            84..88 => self.close(),
            88 => self.drop_file(),
            89..93 => self.cancel(),
            93..96 => self.drop_operation(),
            _ => {}
        }
    }

    /// A running engine and its index.
    pub(super) fn some_engine(&mut self) -> Option<(usize, Engine)> {
        let running: Vec<_> = self.engines.iter().enumerate().filter_map(|(index, s)| Some((index, s.api.clone()?))).collect();
        (!running.is_empty()).then(|| running[self.rng.index(running.len())].clone())
    }

    /// The index of an open file; opens one if there are few.
    pub(super) fn some_open_file(&mut self) -> Option<usize> {
        let open: Vec<_> = (0..self.openings.len()).filter(|&index| self.openings[index].open.is_some()).collect();
        if open.is_empty() || (open.len() < 3 && self.rng.one_in(4)) {
            self.open();
            let newest = self.openings.len().checked_sub(1)?;
            return self.openings[newest].open.is_some().then_some(newest);
        }
        Some(open[self.rng.index(open.len())])
    }

    pub(super) fn unsettled_on(&self, file: usize) -> impl Iterator<Item = &Request> {
        self.requests.values().filter(move |request| request.file == file)
    }

    fn open(&mut self) {
        let Some((index, engine)) = self.some_engine() else { return };
        let file = self.rng.index(self.files.len());
        let direct = match self.rng.below(8) {
            0 => Direct::Never,
            1 => Direct::Require,
            _ => Direct::Prefer,
        };
        let quiet = self.unsettled_on(file).next().is_none();
        let truncate = quiet && self.rng.one_in(24) && !self.profile.copies;
        let copy = if self.profile.copies { index as u32 } else { 0 };
        world::with(|world| world.copy = copy);
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(truncate).direct(direct);
        let path = Arc::clone(&self.files[file].path);
        let opened = open::open(&Name::of(&path), &options);
        world::with(|world| world.copy = 0);
        world::with(|world| world.note(|| format!("open {} truncate {truncate}: {:?}", path.display(), opened.is_ok())));
        self.probe_file(file);
        match opened {
            Ok(opened) => {
                if truncate {
                    self.files[file].model.truncate(0, &[]);
                }
                let opened = Arc::new(opened);
                let number = world::with(|world| world.descriptor(opened.raw())).flatten().map_or(0, |descriptor| descriptor.opening);
                let watch = Arc::downgrade(&opened);
                let required = direct == Direct::Require;
                self.openings.push(Opening { file, engine: index, required, open: Some(File::new(engine, opened)), watch, number });
            }
            Err(error) => {
                let errno = error.errno().unwrap_or(0);
                let number = self.files[file].number;
                if !world::with(|world| world.was_injected(Some(number), errno)).unwrap_or(true) {
                    violate(format!("open failed without a cause: {error}"));
                }
            }
        }
    }

    fn close(&mut self) {
        let Some(index) = self.some_open_file() else { return };
        let Some(file) = self.openings[index].open.take() else { return };
        let before: Vec<u64> = self.requests.iter().filter(|(_, request)| request.opening == Some(index)).map(|(&id, _)| id).collect();
        let id = self.record_control(index, RequestKind::Close, 0, 0, Holder::Control(Arc::default()));
        file.close_then(move |result| {
            world::with(|world| world.control_settled(id, result, &before));
            world::panic_sometimes();
        });
    }

    fn drop_file(&mut self) {
        if let Some(index) = self.some_open_file() {
            self.openings[index].open = None;
        }
    }

    fn sync(&mut self) {
        let Some(index) = self.some_open_file() else { return };
        let file = self.openings[index].file;
        // A write by path is accepted when its file has been opened. That moment is not visible
        // here.
        let counts = |request: &Request| request.file == file && request.kind == RequestKind::Write && !request.by_path;
        let before: Vec<u64> = self.requests.iter().filter(|(_, request)| counts(request)).map(|(&id, _)| id).collect();
        let flag: Arc<AtomicBool> = Arc::default();
        let id = self.record_control(index, RequestKind::Sync, 0, 0, Holder::Control(Arc::clone(&flag)));
        let data_only = self.rng.one_in(2);
        if let Some(file) = &self.openings[index].open {
            file.sync_then(data_only, flag, move |result| {
                world::with(|world| world.control_settled(id, result, &before));
                world::panic_sometimes();
            });
        }
    }

    fn truncate(&mut self) {
        let Some(index) = self.some_open_file() else { return };
        let file = self.openings[index].file;
        let size = if self.rng.one_in(3) { self.near_unit() } else { self.rng.below(self.profile.file_bytes) };
        let raced = self.rng.one_in(2);
        let blocked = self.unsettled_on(file).any(|request| match request.kind {
            RequestKind::Truncate(_) | RequestKind::WriteWhole => true,
            RequestKind::Write => !raced && request.end > size,
            _ => false,
        });
        if blocked {
            return;
        }
        let flag: Arc<AtomicBool> = Arc::default();
        let id = self.record_control(index, RequestKind::Truncate(size), size, size, Holder::Control(Arc::clone(&flag)));
        let number = self.files[file].number;
        if let Some(open) = &self.openings[index].open {
            open.set_len_then(size, flag, move |result| {
                world::with(|world| {
                    if result.is_ok() && world.devices.writes_to(number) {
                        world.violate("a truncation ran while a write was at the device");
                    }
                    world.control_settled(id, result, &[]);
                });
                world::panic_sometimes();
            });
        }
    }

    /// Another process truncates a file that has no unsettled request.
    fn truncate_externally(&mut self) {
        let index = self.rng.index(self.files.len());
        let chance = self.profile.truncate_externally;
        if !self.rng.chance(chance) || self.unsettled_on(index).next().is_some() || !self.files[index].exists {
            return;
        }
        self.check_file(index);
        let file = &mut self.files[index];
        let number = file.number;
        let untrimmed = world::with(|world| world.facts(number).untrimmed).unwrap_or(true);
        if untrimmed || file.was_untrimmed || file.size_outdated || file.model.size_max == 0 {
            return;
        }
        let size = self.rng.below(file.model.size_max);
        if std::fs::OpenOptions::new().write(true).open(&file.path).and_then(|file| file.set_len(size)).is_ok() {
            world::with(|world| world.facts(number).cut = true);
            world::with(|world| world.note(|| format!("another process truncates {} to {size}", file.path.display())));
            file.model.truncate(size, &[]);
            file.size_outdated = true;
        }
    }

    fn cancel(&mut self) {
        let candidates: Vec<u64> =
            self.requests.iter().filter(|(_, request)| request.kind != RequestKind::Close).map(|(&id, _)| id).collect();
        if candidates.is_empty() {
            return;
        }
        let id = candidates[self.rng.index(candidates.len())];
        world::with(|world| world.note(|| format!("cancel {id}")));
        let Some(request) = self.requests.get_mut(&id) else { return };
        request.cancel();
        if let Some(engine) = &self.engines[request.engine].api {
            engine.sweep();
        }
    }

    fn drop_operation(&mut self) {
        let is_op = |request: &Request| matches!(request.holder, Holder::Op(_));
        let candidates: Vec<u64> = self.requests.iter().filter(|(_, request)| is_op(request)).map(|(&id, _)| id).collect();
        if candidates.is_empty() {
            return;
        }
        let id = candidates[self.rng.index(candidates.len())];
        world::with(|world| world.note(|| format!("drop {id}")));
        if let Some(request) = self.requests.get_mut(&id) {
            request.canceled = true;
            request.holder = Holder::Dropped;
        }
    }
}
