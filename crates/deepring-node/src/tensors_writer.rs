//! Writers: files whose tensors are written in any order, and in parts.

use crate::convert::Detail;
use crate::memory::{Foreign, View};
use crate::session::{Session, unknown};
use crate::tensors::path_of;
use crate::tensors_detail::Fresh;
use crate::tensors_job::{failed, nothing};
use crate::tensors_lists::Columns;
use crate::tensors_save::SaveRequest;
use deepring::Engine;
use deepring_tensors::Writer;
use napi::Env;
use napi::bindgen_prelude::*;
use napi_derive::napi;

#[napi]
impl Session {
    // ---- writers ----

    /// Creates the file of a writer. The record's detail is its number.
    #[napi]
    pub fn create_writer(&self, env: &Env, id: f64, engine: u32, path: View, request: SaveRequest) -> Result<()> {
        let engine = self.state.engine(engine)?;
        let (path, options, columns) = (path_of(path), request.options(), Columns::from(request.columns));
        let landing = self.landing(env, id)?;
        let own = engine.clone();
        self.start_plain(&engine, landing, async move {
            let writer = Writer::create(&own, &path, columns.declared(), options).await.map_err(failed)?;
            Ok(Some(Detail::Fresh(Box::new(Fresh::Writer(writer, own)))))
        });
        Ok(())
    }

    /// Writes bytes of a tensor, from its byte `start` on.
    #[napi]
    pub fn write_tensor(&self, env: &Env, id: f64, writer: u32, name: String, view: View, start: f64) -> Result<()> {
        let writers = self.state.tensors.writers.borrow();
        let (writer, engine) = writers.get(&writer).ok_or_else(|| unknown("writer", writer))?;
        let landing = self.landing(env, id)?;
        let job = writer.write(&name, Foreign::of(&view, &landing), start as u64);
        self.start_plain(engine, landing, async move { nothing(job.await.map(drop)) });
        Ok(())
    }

    /// Writes the header, and gives the file its name. The record's detail is a `Saved`.
    #[napi]
    pub fn finish_writer(&self, env: &Env, id: f64, writer: u32) -> Result<()> {
        let (writer, engine) = self.writer(writer)?;
        let landing = self.landing(env, id)?;
        self.start_plain(&engine, landing, async move {
            let receipt = writer.finish().await.map_err(failed)?;
            Ok(Some(Detail::Saved(receipt.into())))
        });
        Ok(())
    }

    /// Removes the file.
    #[napi]
    pub fn abort_writer(&self, env: &Env, id: f64, writer: u32) -> Result<()> {
        let (writer, engine) = self.writer(writer)?;
        let landing = self.landing(env, id)?;
        self.start_plain(&engine, landing, async move { nothing(writer.abort().await) });
        Ok(())
    }

    /// The same in the background, of one that was collected.
    #[napi]
    pub fn drop_writer(&self, writer: u32) {
        let removed = self.state.tensors.writers.borrow_mut().remove(&writer);
        drop(removed);
    }

    fn writer(&self, number: u32) -> Result<(Writer, Engine)> {
        self.state.tensors.writers.borrow_mut().remove(&number).ok_or_else(|| unknown("writer", number))
    }
}
