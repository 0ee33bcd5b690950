//! What whole files need: files that take the place of others, appends, and what a copy takes over beside the bytes.

use crate::convert::{Detail, Opened};
use crate::failure::Failure;
use crate::memory::View;
use crate::record::{self, Record};
use crate::session::{Session, State, unknown};
use crate::tensors_detail::Fresh;
use crate::turns::Line;
use deepring::binding::FileBinding;
use deepring::{Engine, File, ReplaceOptions, Replacement, Task};
use napi::Env;
use napi::bindgen_prelude::*;
use napi_derive::napi;
use std::collections::HashMap;
use std::sync::Arc;

/// Replacements by their numbers, with their engines, which can be closed before they end.
pub type Replacements = HashMap<u32, (Replacement, Engine)>;

/// How a file is replaced.
#[napi(object, object_to_js = false)]
pub struct ReplaceRequest {
    pub size: f64,
    pub durable: bool,
    pub mode: u32,
    pub direct: u32,
}

/// A file that will take the place of another one.
#[napi(object, object_from_js = false)]
pub struct Replacing {
    /// The new file.
    pub opened: Opened,
    /// For `commit_replacement` and `abandon_replacement`.
    pub replacement: u32,
}

impl State {
    /// Gives a replacement and its file their numbers.
    pub fn register_replacement(&self, replacement: Replacement, file: File, engine: Engine) -> Detail {
        let (number, of_file) = (self.number(), self.number());
        let opened = Opened::of(of_file, &file);
        self.files.borrow_mut().insert(of_file, file);
        self.replacements.borrow_mut().insert(number, (replacement, engine));
        Detail::Replacing(Box::new(Replacing { opened, replacement: number }))
    }
}

#[napi]
impl Session {
    // ---- whole files ----

    /// Begins to replace a file. The record's detail is a `Replacing`.
    #[napi]
    pub fn replace_file(&self, env: &Env, id: f64, engine: u32, path: View, request: ReplaceRequest) -> Result<()> {
        let engine = self.state.engine(engine)?;
        let options = ReplaceOptions::new().size(request.size as u64).durable(request.durable).mode(request.mode);
        let options = options.direct(record::direct(request.direct));
        let beginning = engine.replace(path.to_path(), options);
        let landing = self.landing(env, id)?;
        let own = engine.clone();
        self.start_plain(&engine, landing, async move {
            let replacement = beginning.await.map_err(of_engine)?;
            let file = replacement.file().try_clone().map_err(of_engine)?;
            Ok(Some(Detail::Fresh(Box::new(Fresh::Replacement(replacement, file, own)))))
        });
        Ok(())
    }

    /// Puts the file in its place. The files that were opened for it must be closed.
    #[napi]
    pub fn commit_replacement(&self, env: &Env, id: f64, replacement: u32) -> Result<()> {
        let (replacement, engine) = self.replacement(replacement)?;
        self.finish(env, id, &engine, replacement.commit())
    }

    /// Removes it.
    #[napi]
    pub fn abandon_replacement(&self, env: &Env, id: f64, replacement: u32) -> Result<()> {
        let (replacement, engine) = self.replacement(replacement)?;
        self.finish(env, id, &engine, replacement.abandon())
    }

    /// Appends. The record has the bytes.
    #[napi]
    pub fn append(&self, env: &Env, id: f64, number: u32, view: View) -> Result<()> {
        let files = self.state.files.borrow();
        let file = files.get(&number).ok_or_else(|| unknown("file", number))?;
        let (canceled, delivery, lease) = (self.expect_control(env, id)?, Arc::clone(&self.state.delivery), view.lease());
        let then = move |result| {
            drop(lease);
            delivery.push(Line::Of(number), Record::of_bytes(id as u64, result));
        };
        // SAFETY: engine memory is held by the lease, foreign memory by the facade, until the record has been drained; a worker
        // that is terminated waits for it in the clean-up hook.
        unsafe { file.append_then(view.address, view.len, canceled, then) };
        Ok(())
    }

    /// Gives a range of a file its space.
    #[napi]
    pub fn allocate_range(&self, env: &Env, id: f64, number: u32, position: f64, length: f64) -> Result<()> {
        let files = self.state.files.borrow();
        let file = files.get(&number).ok_or_else(|| unknown("file", number))?;
        let allocating = file.allocate(position as u64, length as u64);
        self.finish(env, id, file.engine(), allocating)
    }

    /// Lets a range of one file share the space of a range of another.
    #[napi]
    pub fn clone_range(&self, env: &Env, id: f64, to: u32, position: f64, from: u32, start: f64, end: f64) -> Result<()> {
        let files = self.state.files.borrow();
        let (to, from) = (files.get(&to).ok_or_else(|| unknown("file", to))?, files.get(&from).ok_or_else(|| unknown("file", from))?);
        let cloning = to.clone_range(position as u64, from, start as u64..end as u64);
        self.finish(env, id, to.engine(), cloning)
    }

    /// The record's detail has where each part with data begins and ends, in turn: 4096 parts at most.
    #[napi]
    pub fn data_ranges(&self, env: &Env, id: f64, number: u32, start: f64, end: f64) -> Result<()> {
        let files = self.state.files.borrow();
        let file = files.get(&number).ok_or_else(|| unknown("file", number))?;
        let finding = file.data_ranges(start as u64..end as u64);
        let landing = self.landing(env, id)?;
        self.start_plain(file.engine(), landing, async move {
            let found = finding.await.map_err(of_engine)?;
            Ok(Some(Detail::Numbers(found.iter().flat_map(|part| [part.start as f64, part.end as f64]).collect())))
        });
        Ok(())
    }

    /// Gives a file the times of another, and its mode.
    #[napi]
    pub fn take_metadata(&self, env: &Env, id: f64, to: u32, from: u32, mode: bool) -> Result<()> {
        let files = self.state.files.borrow();
        let (to, from) = (files.get(&to).ok_or_else(|| unknown("file", to))?, files.get(&from).ok_or_else(|| unknown("file", from))?);
        let taking = to.take_metadata(from, mode);
        self.finish(env, id, to.engine(), taking)
    }

    /// Reports the end of a task.
    fn finish(&self, env: &Env, id: f64, engine: &Engine, task: Task<()>) -> Result<()> {
        let landing = self.landing(env, id)?;
        self.start_plain(engine, landing, async move { task.await.map(|()| None).map_err(of_engine) });
        Ok(())
    }

    fn replacement(&self, number: u32) -> Result<(Replacement, Engine)> {
        self.state.replacements.borrow_mut().remove(&number).ok_or_else(|| unknown("replacement", number))
    }
}

fn of_engine(error: deepring::Error) -> Box<Failure> {
    Box::new(Failure::from(&error))
}
