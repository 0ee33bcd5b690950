//! Tables of tensors: opening them, and what JavaScript looks up in them. A table stays here; its rows cross in chunks.

use crate::convert::Detail;
use crate::delivery::lock;
use crate::memory::View;
use crate::record;
use crate::session::{Session, State, unknown};
use crate::tensors_detail::{Fresh, Verified};
use crate::tensors_job::{Gauge, Job, Outcome, failed};
use crate::tensors_lists::{Columns, Texts, absolute, paths};
use crate::tensors_memory::Memories;
use crate::tensors_stream::Stream;
use deepring::Engine;
use deepring::binding::EngineBinding;
use deepring_tensors::binding::{self, Written};
use deepring_tensors::checkpoint::Checkpoint;
use deepring_tensors::{DType, Metadata, OpenOptions, Safetensors, Table, Tensors, Writer};
use napi::Env;
use napi::bindgen_prelude::*;
use napi_derive::napi;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// What an environment has open of tensors. Numbers are never reused.
#[derive(Default)]
pub struct OpenTensors {
    pub jobs: RefCell<HashMap<u64, Job>>,
    pub tables: RefCell<HashMap<u32, Arc<Model>>>,
    /// Memory that JavaScript has not taken over yet.
    pub memories: RefCell<Memories>,
    pub streams: RefCell<HashMap<u32, Stream>>,
    /// With their engines, which can be closed before they end.
    pub written: RefCell<HashMap<u32, (Written, Engine)>>,
    pub writers: RefCell<HashMap<u32, (Writer, Engine)>>,
}

impl OpenTensors {
    /// The environment is ending: cancels all jobs, whose records come.
    pub fn cancel(&self) {
        self.jobs.borrow_mut().clear();
    }

    /// All records have come.
    pub fn clear(&self) {
        self.streams.borrow_mut().clear();
        self.memories.borrow_mut().clear();
        self.written.borrow_mut().clear();
        self.writers.borrow_mut().clear();
        self.tables.borrow_mut().clear();
    }
}

/// A table. It stays when its files are closed: tensors that were loaded are looked up in it.
pub struct Model {
    pub table: Arc<Table>,
    /// Until it is closed.
    open: Mutex<Option<Tensors>>,
    /// The same, of a generation of a store: it is not removed until then.
    pub checkpoint: Mutex<Option<Checkpoint>>,
    direct: bool,
    trailing: u64,
    metadata: Metadata,
    unindexed: Vec<String>,
    missing: Vec<String>,
}

impl Model {
    /// Of any files.
    fn of_rows(tensors: Tensors) -> Self {
        Self {
            table: binding::table_of(&tensors),
            direct: tensors.direct(),
            open: Mutex::new(Some(tensors)),
            checkpoint: Mutex::default(),
            trailing: 0,
            metadata: Metadata::default(),
            unindexed: Vec::new(),
            missing: Vec::new(),
        }
    }

    /// Of a checkpoint.
    pub fn of_checkpoint(checkpoint: &Checkpoint) -> Self {
        Self { checkpoint: Mutex::new(Some(checkpoint.clone())), ..Self::of_rows(checkpoint.tensors().clone()) }
    }

    /// Of safetensors files.
    fn of_safetensors(model: &Safetensors) -> Self {
        Self {
            trailing: model.trailing(),
            metadata: model.metadata().clone(),
            unindexed: model.unindexed().to_vec(),
            missing: model.missing().to_vec(),
            ..Self::of_rows(model.tensors().clone())
        }
    }
}

/// What an open found out.
#[napi(object, object_from_js = false)]
pub struct OpenedTable {
    pub table: u32,
    pub count: u32,
    pub bytes: f64,
    pub largest: f64,
    pub files: Vec<String>,
    pub direct: bool,
    /// Names of element types, by their numbers.
    pub dtypes: Vec<String>,
    pub trailing: f64,
}

impl OpenedTable {
    pub fn of(number: u32, model: &Model) -> Self {
        let table = &model.table;
        let names = DType::ALL.iter().map(|dtype| dtype.name().to_owned());
        Self {
            table: number,
            count: table.len() as u32,
            bytes: table.bytes() as f64,
            largest: table.largest() as f64,
            files: table.paths().map(|path| path.to_string_lossy().into_owned()).collect(),
            direct: model.direct,
            dtypes: names.chain(binding::unknown_dtypes(table).iter().cloned()).collect(),
            trailing: model.trailing as f64,
        }
    }
}

/// One row of a table.
#[napi(object, object_from_js = false)]
pub struct TableRow {
    pub name: String,
    pub dtype: u32,
    pub shape: Vec<f64>,
    pub file: u32,
    pub position: f64,
    pub length: f64,
}

/// Many of them, without their names.
#[napi(object, object_from_js = false)]
pub struct TableRows {
    pub dtypes: Uint32Array,
    pub ranks: Uint32Array,
    pub extents: Float64Array,
    pub files: Uint32Array,
    pub positions: Float64Array,
    pub lengths: Float64Array,
}

/// Some rows of a table.
#[napi(object, object_from_js = false)]
pub struct Selected {
    /// Each once.
    pub indices: Uint32Array,
    pub bytes: f64,
}

impl State {
    pub fn model(&self, number: u32) -> Result<Arc<Model>> {
        self.tensors.tables.borrow().get(&number).cloned().ok_or_else(|| unknown("table", number))
    }

    /// The tensors of a table that is not closed.
    pub fn open_tensors(&self, number: u32) -> Result<Tensors> {
        lock(&self.model(number)?.open).clone().ok_or_else(|| unknown("open table", number))
    }
}

/// The outcome of an open.
fn opened(model: deepring_tensors::Result<Model>) -> Outcome {
    model.map(|model| Some(Detail::Fresh(Box::new(Fresh::Model(model))))).map_err(failed)
}

#[napi]
impl Session {
    // ---- tables of tensors ----

    /// Opens safetensors files. With one path, it can be an index or a directory. The record's detail is an `OpenedTable`.
    #[napi]
    pub fn open_safetensors(
        &self,
        env: &Env,
        id: f64,
        engine: u32,
        path_bytes: View,
        path_lengths: Uint32ArraySlice<'_>,
        one: bool,
        direct: u32,
        strict: bool,
        max_header_bytes: f64,
    ) -> Result<()> {
        let engine = self.state.engine(engine)?;
        let mut paths = paths(path_bytes, &path_lengths);
        let options = OpenOptions::new().strict(strict).max_header_bytes(max_header_bytes as u64).direct(record::direct(direct));
        let landing = self.landing(env, id)?;
        let job = match paths.pop() {
            Some(path) if one => Safetensors::open_with(&engine, path, options),
            last => Safetensors::open_files(&engine, paths.into_iter().chain(last).collect(), options),
        };
        self.start_plain(&engine, landing, async move { opened(job.await.map(|model| Model::of_safetensors(&model))) });
        Ok(())
    }

    /// Opens a table of rows. `numbers` has the positions and then the lengths. The record's detail is an `OpenedTable`.
    #[napi]
    pub fn open_rows(
        &self,
        env: &Env,
        id: f64,
        engine: u32,
        names: String,
        name_bytes: Uint32ArraySlice<'_>,
        dtypes: Vec<String>,
        dtype_of: Uint32ArraySlice<'_>,
        ranks: Uint32ArraySlice<'_>,
        extents: Float64ArraySlice<'_>,
        path_bytes: View,
        path_lengths: Uint32ArraySlice<'_>,
        path_of: Uint32ArraySlice<'_>,
        places: Float64ArraySlice<'_>,
        direct: u32,
    ) -> Result<()> {
        let engine = self.state.engine(engine)?;
        let columns = Columns {
            names,
            name_bytes: name_bytes.to_vec(),
            dtypes,
            dtype_of: dtype_of.to_vec(),
            ranks: ranks.to_vec(),
            extents: extents.to_vec(),
        };
        let (paths, path_of, places) = (paths(path_bytes, &path_lengths), path_of.to_vec(), places.to_vec());
        let direct = record::direct(direct);
        let landing = self.landing(env, id)?;
        let own = engine.clone();
        self.start_plain(&engine, landing, async move {
            let (positions, lengths) = places.split_at(places.len() / 2);
            let rows = columns.placed(&paths, &path_of, positions, lengths);
            opened(Tensors::of_rows(&own, rows, direct).await.map(Model::of_rows))
        });
        Ok(())
    }

    /// Closes the files of a table, whose operations have ended. The table stays.
    #[napi]
    pub fn close_table(&self, env: &Env, id: f64, table: u32) -> Result<()> {
        let (tensors, model) = (self.state.open_tensors(table)?, self.state.model(table)?);
        lock(&model.open).take();
        let checkpoint = lock(&model.checkpoint).take();
        let landing = self.landing(env, id)?;
        let engine = tensors.engine().clone();
        // Closing a file can take as long as its file system does.
        engine.run_blocking_on(model.table.paths().next(), move || {
            drop((tensors, checkpoint));
            landing.end(Ok(None));
        });
        Ok(())
    }

    /// Nothing looks into the table any more.
    #[napi]
    pub fn drop_table(&self, table: u32) {
        let removed = self.state.tensors.tables.borrow_mut().remove(&table);
        drop(removed);
    }

    /// Names, in the order of the table; with `indices`, of these.
    #[napi]
    pub fn table_names(&self, table: u32, from: u32, count: u32, indices: Option<Uint32ArraySlice<'_>>) -> Result<Texts> {
        let model = self.state.model(table)?;
        let table = &model.table;
        Ok(match indices {
            None => Texts::of((from as usize..(from + count) as usize).map(|index| binding::name_of(table, index))),
            Some(indices) => Texts::of(indices.iter().copied().map(|index| binding::name_of(table, index as usize))),
        })
    }

    #[napi]
    pub fn table_row(&self, table: u32, index: u32) -> Result<TableRow> {
        let model = self.state.model(table)?;
        let (table, index) = (&model.table, index as usize);
        let (position, length) = binding::extent_of(table, index);
        Ok(TableRow {
            name: binding::name_of(table, index).to_owned(),
            dtype: binding::dtype_number(table, index),
            shape: binding::shape_of(table, index).map(|extent| extent as f64).collect(),
            file: binding::file_of(table, index) as u32,
            position: position as f64,
            length: length as f64,
        })
    }

    #[napi]
    pub fn table_rows(&self, table: u32, from: u32, count: u32) -> Result<TableRows> {
        let model = self.state.model(table)?;
        let table = &model.table;
        let indices = || from as usize..(from + count) as usize;
        let (mut ranks, mut extents) = (Vec::with_capacity(count as usize), Vec::new());
        for index in indices() {
            let before = extents.len();
            extents.extend(binding::shape_of(table, index).map(|extent| extent as f64));
            ranks.push((extents.len() - before) as u32);
        }
        let list = |of: &dyn Fn(usize) -> f64| Float64Array::new(indices().map(of).collect());
        Ok(TableRows {
            dtypes: Uint32Array::new(indices().map(|index| binding::dtype_number(table, index)).collect()),
            ranks: Uint32Array::new(ranks),
            extents: Float64Array::new(extents),
            files: Uint32Array::new(indices().map(|index| binding::file_of(table, index) as u32).collect()),
            positions: list(&|index| binding::extent_of(table, index).0 as f64),
            lengths: list(&|index| binding::extent_of(table, index).1 as f64),
        })
    }

    /// The index of a name; -1 if there is none.
    #[napi]
    pub fn table_find(&self, table: u32, name: String) -> Result<i32> {
        Ok(self.state.model(table)?.table.find(&name).map_or(-1, |index| index as i32))
    }

    /// These rows, each once, and their bytes.
    #[napi]
    pub fn table_select(&self, table: u32, indices: Uint32ArraySlice<'_>) -> Result<Selected> {
        let model = self.state.model(table)?;
        let selection = model.table.selection(indices.iter().copied().map(|index| index as usize).collect());
        let bytes = selection.bytes() as f64;
        Ok(Selected { indices: Uint32Array::new(selection.indices().map(|index| index as u32).collect()), bytes })
    }

    /// Keys and values in turn.
    #[napi]
    pub fn table_metadata(&self, table: u32) -> Result<Texts> {
        let model = self.state.model(table)?;
        Ok(Texts::of(model.metadata.iter().flat_map(|(key, value)| [key, value])))
    }

    /// Names that an index does not give to their files; or that their files do not have.
    #[napi]
    pub fn table_strays(&self, table: u32, missing: bool) -> Result<Texts> {
        let model = self.state.model(table)?;
        let list = if missing { &model.missing } else { &model.unindexed };
        Ok(Texts::of(list.iter().map(String::as_str)))
    }

    /// Reads what has a checksum, and compares. The record's detail is a `Verification`.
    #[napi]
    pub fn verify_table(&self, env: &Env, id: f64, table: u32) -> Result<()> {
        let tensors = self.state.open_tensors(table)?;
        let landing = self.landing(env, id)?;
        let gauge = Arc::<Gauge>::default();
        let (reported, measured) = (Arc::clone(&gauge), Arc::clone(&gauge));
        let job = tensors.verify(Some(Arc::new(move |done, total| reported.set(done, total))));
        self.start(tensors.engine(), landing, gauge, async move {
            let found = job.await.map_err(failed)?;
            Ok(Some(Detail::Verified(Box::new(Verified::of(&found, measured.total())))))
        });
        Ok(())
    }
}

/// The absolute path of a view.
pub fn path_of(view: View) -> std::path::PathBuf {
    absolute(view.to_path())
}
