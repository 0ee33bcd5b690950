//! Saves: what JavaScript declares and lends is written first, and becomes visible in a second step, once the facade has
//! looked whether all memory is still there.

use crate::convert::Detail;
use crate::memory::{Foreign, View};
use crate::session::{Session, unknown};
use crate::tensors::path_of;
use crate::tensors_detail::Fresh;
use crate::tensors_job::{Gauge, failed, nothing};
use crate::tensors_lists::{Columns, TensorColumns};
use deepring::Engine;
use deepring_tensors::binding::{self, Written};
use deepring_tensors::{Order, SaveOptions, Source};
use napi::Env;
use napi::bindgen_prelude::*;
use napi_derive::napi;
use std::sync::Arc;

/// What a save and a writer have in common: columns of tensors, and options as numbers (`SAVE` of record.ts).
#[napi(object, object_to_js = false)]
pub struct SaveRequest {
    pub columns: TensorColumns,
    /// Keys and values in turn.
    pub metadata: Vec<String>,
    pub align: f64,
    #[napi(ts_type = "'blocks' | 'reference' | 'given'")]
    pub order: String,
    pub durable: bool,
    /// Absent: the default.
    pub mode: Option<u32>,
    pub checksums: bool,
    /// Of one file: 0.
    pub shard_bytes: f64,
}

impl SaveRequest {
    pub fn options(&self) -> SaveOptions {
        let order = match self.order.as_str() {
            "reference" => Order::Reference,
            "given" => Order::Given,
            _ => Order::Blocks,
        };
        let pairs = self.metadata.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone()));
        let options = SaveOptions::new().metadata(pairs).align(self.align as u64).order(order);
        let options = options.checksums(self.checksums).durable(self.durable);
        self.mode.into_iter().fold(options, SaveOptions::mode)
    }
}

#[napi]
impl Session {
    // ---- saves ----

    /// Writes tensors, whose memory is in `views`. The record's detail is a number for `commit_save` or `abandon_save`.
    #[napi]
    pub fn save_tensors(&self, env: &Env, id: f64, engine: u32, path: View, request: SaveRequest, views: Object<'_>) -> Result<()> {
        let engine = self.state.engine(engine)?;
        let path = path_of(path);
        let landing = self.landing(env, id)?;
        let memories = Foreign::all(&views, request.columns.ranks.len(), &landing)?;
        let gauge = Arc::<Gauge>::default();
        let reported = Arc::clone(&gauge);
        let options = request.options().on_progress(move |done, total| reported.set(done, total));
        let shard_bytes = (request.shard_bytes > 0.0).then_some(request.shard_bytes as u64);
        let columns = Columns::from(request.columns);
        let own = engine.clone();
        self.start(&engine, landing, gauge, async move {
            let sources = columns.declared().into_iter().zip(memories).map(|(declared, data)| Source { declared, data }).collect();
            let written = binding::write(&own, path, sources, shard_bytes, options).await.map_err(failed)?;
            Ok(Some(Detail::Fresh(Box::new(Fresh::Written(written, own)))))
        });
        Ok(())
    }

    /// Makes it visible. The record's detail is a `Saved`.
    #[napi]
    pub fn commit_save(&self, env: &Env, id: f64, written: u32) -> Result<()> {
        let (written, engine) = self.written(written)?;
        let landing = self.landing(env, id)?;
        self.start_plain(&engine, landing, async move {
            let receipt = written.commit().await.map_err(failed)?;
            Ok(Some(Detail::Saved(receipt.into())))
        });
        Ok(())
    }

    /// Removes it.
    #[napi]
    pub fn abandon_save(&self, env: &Env, id: f64, written: u32) -> Result<()> {
        let (written, engine) = self.written(written)?;
        let landing = self.landing(env, id)?;
        self.start_plain(&engine, landing, async move { nothing(written.abandon().await) });
        Ok(())
    }

    fn written(&self, number: u32) -> Result<(Written, Engine)> {
        self.state.tensors.written.borrow_mut().remove(&number).ok_or_else(|| unknown("save", number))
    }
}
