//! Stores of checkpoints: their generations, which are opened as tables of tensors, and what goes and stays.

use crate::checkpoints_detail::{Collected, begun, numbers_of};
use crate::checkpoints_writer::OpenWriter;
use crate::convert::Detail;
use crate::delivery::lock;
use crate::memory::View;
use crate::record;
use crate::session::{Session, State, unknown};
use crate::tensors::path_of;
use crate::tensors_detail::Fresh;
use crate::tensors_job::{Gauge, failed, nothing};
use deepring::Engine;
use deepring_tensors::binding::Prepared;
use deepring_tensors::checkpoint::{BeginOptions, Check, Checkpoints, JoinOptions, Reference, StoreOptions, Token};
use napi::Env;
use napi::bindgen_prelude::*;
use napi_derive::napi;
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// What an environment has open of checkpoints, with the engines, which can be closed before they end. Generations that are
/// open for reading are tables.
#[derive(Default)]
pub struct OpenCheckpoints {
    pub stores: RefCell<HashMap<u32, (Checkpoints, Engine)>>,
    pub writers: RefCell<HashMap<u32, OpenWriter>>,
    pub prepared: RefCell<HashMap<u32, (Prepared, Engine)>>,
}

impl OpenCheckpoints {
    /// All records have come.
    pub fn clear(&self) {
        self.prepared.borrow_mut().clear();
        self.writers.borrow_mut().clear();
        self.stores.borrow_mut().clear();
    }
}

impl State {
    fn store(&self, number: u32) -> Result<(Checkpoints, Engine)> {
        self.checkpoints.stores.borrow().get(&number).cloned().ok_or_else(|| unknown("store", number))
    }
}

/// How to begin a generation. What is absent takes the default.
#[napi(object, object_to_js = false)]
pub struct BeginRequest {
    pub step: Option<f64>,
    pub writers: u32,
    /// The generation to take over from; 0 is the newest one that is whole.
    pub reference: Option<f64>,
    pub patience_ms: Option<f64>,
    pub staging: f64,
    /// See `DIRECT` of record.ts.
    pub direct: u32,
}

impl BeginRequest {
    fn options(&self) -> BeginOptions {
        let options = BeginOptions::new().writers(self.writers).staging(self.staging as u64).direct(record::direct(self.direct));
        let options = self.step.into_iter().fold(options, |options, step| options.step(step as u64));
        let reference = |number: f64| if number == 0.0 { Reference::Latest } else { Reference::Generation(number as u64) };
        let options = self.reference.map(reference).into_iter().fold(options, BeginOptions::reference);
        let patience = self.patience_ms.map(|ms| Duration::from_secs_f64(ms / 1000.0));
        patience.into_iter().fold(options, BeginOptions::patience)
    }
}

#[napi]
impl Session {
    // ---- stores of checkpoints ----

    /// Opens a store. `keep_last` 0 keeps all generations, `keep_every` 0 none for its step. The record's detail is its number.
    #[napi]
    pub fn open_store(&self, env: &Env, id: f64, engine: u32, path: View, create: bool, keep_last: u32, keep_every: f64) -> Result<()> {
        let engine = self.state.engine(engine)?;
        let options = StoreOptions::new().create(create).keep_every(keep_every as u64);
        let options = if keep_last == 0 { options.keep_all() } else { options.keep_last(keep_last) };
        let landing = self.landing(env, id)?;
        let (job, own) = (Checkpoints::open(&engine, path_of(path), options), engine.clone());
        self.start_plain(&engine, landing, async move {
            let store = job.await.map_err(failed)?;
            Ok(Some(Detail::Fresh(Box::new(Fresh::Store(store, own)))))
        });
        Ok(())
    }

    /// Its writers and open generations stay.
    #[napi]
    pub fn close_store(&self, env: &Env, id: f64, store: u32) -> Result<()> {
        let removed = self.state.checkpoints.stores.borrow_mut().remove(&store);
        let (store, engine) = removed.ok_or_else(|| unknown("store", store))?;
        let landing = self.landing(env, id)?;
        self.start_plain(&engine, landing, async move { nothing(store.close().await) });
        Ok(())
    }

    /// The record's detail is a `BegunCheckpoint`.
    #[napi]
    pub fn begin_checkpoint(&self, env: &Env, id: f64, store: u32, request: BeginRequest) -> Result<()> {
        self.in_store(env, id, store, |store, engine| {
            let job = store.begin(request.options());
            async move { job.await.map(|writer| Some(begun(writer, engine))) }
        })
    }

    /// The same.
    #[napi]
    pub fn join_checkpoint(&self, env: &Env, id: f64, store: u32, token: String, writer: u32, staging: f64, direct: u32) -> Result<()> {
        let options = JoinOptions::new().staging(staging as u64).direct(record::direct(direct));
        self.in_store(env, id, store, |store, engine| async move {
            let token: Token = token.parse()?;
            store.join(&token, writer, options).await.map(|writer| Some(begun(writer, engine)))
        })
    }

    /// How many writers the generation of a token has; 0 if it is not a token.
    #[napi]
    pub fn writers_of(&self, token: String) -> u32 {
        token.parse().map_or(0, |token: Token| token.writers())
    }

    /// The record's detail is an array of numbers.
    #[napi]
    pub fn list_generations(&self, env: &Env, id: f64, store: u32) -> Result<()> {
        self.in_store(env, id, store, |store, _| async move { store.list().await.map(|list| Some(Detail::Numbers(numbers_of(&list)))) })
    }

    /// The record's detail is an `OpenedCheckpoint`.
    #[napi]
    pub fn open_generation(&self, env: &Env, id: f64, store: u32, generation: f64) -> Result<()> {
        self.in_store(env, id, store, |store, _| async move {
            let opened = store.generation(generation as u64).await?;
            Ok(Some(Detail::Fresh(Box::new(Fresh::Checkpoint(opened)))))
        })
    }

    /// The record's detail is a `LatestCheckpoint`.
    #[napi]
    pub fn open_latest(&self, env: &Env, id: f64, store: u32, all: bool) -> Result<()> {
        self.in_store(env, id, store, |store, _| async move {
            let latest = store.latest(if all { Check::All } else { Check::Sizes }).await?;
            Ok(Some(Detail::Fresh(Box::new(Fresh::Latest(latest)))))
        })
    }

    #[napi]
    pub fn pin_generation(&self, env: &Env, id: f64, store: u32, generation: f64, pinned: bool) -> Result<()> {
        self.in_store(env, id, store, |store, _| async move {
            let generation = generation as u64;
            let job = if pinned { store.pin(generation) } else { store.unpin(generation) };
            job.await?;
            Ok(None)
        })
    }

    /// The record's detail is 1 or 0.
    #[napi]
    pub fn is_generation_pinned(&self, env: &Env, id: f64, store: u32, generation: f64) -> Result<()> {
        self.in_store(env, id, store, |store, _| async move {
            let pinned = store.is_pinned(generation as u64).await?;
            Ok(Some(Detail::Number(pinned.into())))
        })
    }

    #[napi]
    pub fn remove_generation(&self, env: &Env, id: f64, store: u32, generation: f64) -> Result<()> {
        self.in_store(env, id, store, |store, _| async move { store.remove(generation as u64).await.map(|()| None) })
    }

    /// The record's detail is a `Collected`.
    #[napi]
    pub fn collect_generations(&self, env: &Env, id: f64, store: u32) -> Result<()> {
        self.in_store(env, id, store, |store, _| async move {
            let collected = store.collect().await?;
            Ok(Some(Detail::Collected(Collected::from(collected))))
        })
    }

    /// Copies a generation, which is open as a table, to another store.
    #[napi]
    pub fn copy_generation(&self, env: &Env, id: f64, table: u32, path: View) -> Result<()> {
        let checkpoint = lock(&self.state.model(table)?.checkpoint).clone().ok_or_else(|| unknown("open generation", table))?;
        let gauge = Arc::<Gauge>::default();
        let reported = Arc::clone(&gauge);
        let job = checkpoint.copy_to(path_of(path), Some(Arc::new(move |done, total| reported.set(done, total))));
        let landing = self.landing(env, id)?;
        self.start(&checkpoint.engine().clone(), landing, gauge, async move { nothing(job.await) });
        Ok(())
    }

    /// Runs a job on a store.
    fn in_store<F: Future<Output = deepring_tensors::Result<Option<Detail>>> + Send + 'static>(
        &self,
        env: &Env,
        id: f64,
        store: u32,
        job: impl FnOnce(Checkpoints, Engine) -> F,
    ) -> Result<()> {
        let (store, engine) = self.state.store(store)?;
        let landing = self.landing(env, id)?;
        let job = job(store, engine.clone());
        self.start_plain(&engine, landing, async move { job.await.map_err(failed) });
        Ok(())
    }
}
