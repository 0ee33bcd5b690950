//! Writers of checkpoints: a generation in progress, or a part of one. Its commit has two steps, so that JavaScript decides
//! between them: an abort counts until the second begins.

use crate::convert::Detail;
use crate::memory::{Foreign, View};
use crate::session::{Session, unknown};
use crate::tensors_detail::Fresh;
use crate::tensors_job::{Gauge, failed, nothing};
use crate::tensors_lists::{Columns, TensorColumns};
use deepring::{Engine, IoBuf};
use deepring_tensors::binding::{self, Prepared};
use deepring_tensors::checkpoint::{CheckpointWriter, PutOptions};
use deepring_tensors::{DType, Declared, Source};
use napi::Env;
use napi::bindgen_prelude::*;
use napi_derive::napi;
use std::sync::Arc;

/// A writer, and how far it has come.
pub struct OpenWriter {
    pub writer: CheckpointWriter,
    pub engine: Engine,
    pub gauge: Arc<Gauge>,
}

#[napi]
impl Session {
    // ---- writers of checkpoints ----

    /// Puts a tensor; with `within`, a piece of one: in that are first the extents of all of it, then where the piece begins.
    #[napi]
    pub fn put_tensor(
        &self,
        env: &Env,
        id: f64,
        writer: u32,
        name: String,
        dtype: String,
        shape: Float64ArraySlice<'_>,
        within: Option<Float64ArraySlice<'_>>,
        group: String,
        view: View,
    ) -> Result<()> {
        let writers = self.state.checkpoints.writers.borrow();
        let OpenWriter { writer, engine, .. } = writers.get(&writer).ok_or_else(|| unknown("writer", writer))?;
        let landing = self.landing(env, id)?;
        let extents = |numbers: &[f64]| numbers.iter().map(|&extent| extent as u64).collect::<Vec<u64>>();
        // The facade has checked the name of the type.
        let declared = Declared { name, dtype: DType::of(&dtype).unwrap_or(DType::U8), shape: extents(&shape) };
        let options = PutOptions::new().group(group);
        let options = within.iter().fold(options, |options, within| {
            let (shape, start) = within.split_at(within.len() / 2);
            options.within(extents(shape), extents(start))
        });
        let job = writer.put(Source { declared, data: Foreign::of(&view, &landing) }, options);
        self.start_plain(engine, landing, async move { nothing(job.await.map(drop)) });
        Ok(())
    }

    /// Puts many tensors, whose memory is in `views`. `watched`: from now on, the jobs of the writer report their progress.
    #[napi]
    pub fn put_tensors(
        &self,
        env: &Env,
        id: f64,
        writer: u32,
        columns: TensorColumns,
        group: String,
        views: Object<'_>,
        watched: bool,
    ) -> Result<()> {
        let writers = self.state.checkpoints.writers.borrow();
        let OpenWriter { writer, engine, gauge } = writers.get(&writer).ok_or_else(|| unknown("writer", writer))?;
        let columns = Columns::from(columns);
        let landing = self.landing(env, id)?;
        let memories = Foreign::all(&views, columns.ranks.len(), &landing)?;
        if watched {
            let gauge = Arc::clone(gauge);
            binding::report(writer, memories.iter().map(|memory| memory.len() as u64).sum(), move |done, total| gauge.set(done, total));
        }
        let sources = || columns.declared().into_iter().zip(memories).map(|(declared, data)| Source { declared, data }).collect::<Vec<_>>();
        let job = binding::put_all(writer, sources, group);
        self.start(engine, landing, Arc::clone(gauge), async move { nothing(job.await.map(drop)) });
        Ok(())
    }

    /// Takes over a tensor, or a group of them. The record's detail is a `Reused`.
    #[napi]
    pub fn take_over(&self, env: &Env, id: f64, writer: u32, name: String, is_group: bool) -> Result<()> {
        let writers = self.state.checkpoints.writers.borrow();
        let OpenWriter { writer, engine, .. } = writers.get(&writer).ok_or_else(|| unknown("writer", writer))?;
        let landing = self.landing(env, id)?;
        let job = if is_group { writer.reference_group(name) } else { writer.reference(name) };
        self.start_plain(engine, landing, async move {
            let reused = job.await.map_err(failed)?;
            Ok(Some(Detail::Reused(reused.into())))
        });
        Ok(())
    }

    /// The steps of a commit before the moment, with `meta` as JSON. The record's detail is a number for `publish_checkpoint`
    /// or `abandon_checkpoint`.
    #[napi]
    pub fn prepare_checkpoint(&self, env: &Env, id: f64, writer: u32, meta: Option<String>) -> Result<()> {
        let OpenWriter { writer, engine, gauge } = self.take_checkpoint_writer(writer)?;
        let landing = self.landing(env, id)?;
        let own = engine.clone();
        self.start(&engine, landing, gauge, async move {
            meta.map_or(Ok(()), |meta| writer.set_meta(&meta)).map_err(failed)?;
            let prepared = binding::prepare(writer).await.map_err(failed)?;
            Ok(Some(Detail::Fresh(Box::new(Fresh::Prepared(Box::new(prepared), own)))))
        });
        Ok(())
    }

    /// Makes a generation visible. The record's detail is a `Committed`.
    #[napi]
    pub fn publish_checkpoint(&self, env: &Env, id: f64, prepared: u32) -> Result<()> {
        let (prepared, engine) = self.prepared(prepared)?;
        let landing = self.landing(env, id)?;
        self.start_plain(&engine, landing, async move {
            let generation = prepared.commit().await.map_err(failed)?;
            Ok(Some(Detail::Committed(generation.into())))
        });
        Ok(())
    }

    /// Removes it.
    #[napi]
    pub fn abandon_checkpoint(&self, env: &Env, id: f64, prepared: u32) -> Result<()> {
        let (prepared, engine) = self.prepared(prepared)?;
        let landing = self.landing(env, id)?;
        self.start_plain(&engine, landing, async move { nothing(prepared.abandon().await) });
        Ok(())
    }

    /// Removes what a writer has written.
    #[napi]
    pub fn abort_checkpoint(&self, env: &Env, id: f64, writer: u32) -> Result<()> {
        let OpenWriter { writer, engine, .. } = self.take_checkpoint_writer(writer)?;
        let landing = self.landing(env, id)?;
        self.start_plain(&engine, landing, async move { nothing(writer.abort().await) });
        Ok(())
    }

    /// The same in the background, of one that was collected.
    #[napi]
    pub fn drop_checkpoint_writer(&self, writer: u32) {
        let removed = self.state.checkpoints.writers.borrow_mut().remove(&writer);
        drop(removed);
    }

    fn take_checkpoint_writer(&self, number: u32) -> Result<OpenWriter> {
        self.state.checkpoints.writers.borrow_mut().remove(&number).ok_or_else(|| unknown("writer", number))
    }

    fn prepared(&self, number: u32) -> Result<(Prepared, Engine)> {
        self.state.checkpoints.prepared.borrow_mut().remove(&number).ok_or_else(|| unknown("prepared checkpoint", number))
    }
}
