//! A table from rows: [`Tensors::of_rows`].

use crate::columns::{Columns, Kind};
use crate::error::{Error, Fault, Reason, Result, quoted};
use crate::job::Job;
use crate::table::{Table, TableFile};
use crate::tensors::{Stated, Tensors};
use deepring::{Direct, Engine, OpenOptions};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where a tensor is, for [`Tensors::of_rows`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its name, which no other row has.
    pub name: String,
    /// Its element type, by its name in safetensors. Of any other name, the tensor is bytes.
    pub dtype: String,
    /// Its extents, outermost first.
    pub shape: Vec<u64>,
    /// Its file.
    pub path: PathBuf,
    /// Where its bytes begin.
    pub position: u64,
    /// How many there are.
    pub len: u64,
}

impl Tensors {
    /// Tensors of any format, whose places another parser has found: [`Row`]s, in any order. The files are opened and their
    /// sizes checked; nothing is read. Rows can share bytes.
    ///
    /// ```
    /// use deepring::{Direct, Engine};
    /// use deepring_tensors::{Row, Tensors};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("weights.bin");
    /// std::fs::write(&path, [1.5f32.to_le_bytes(), 2.5f32.to_le_bytes()].concat())?;
    /// let engine = Engine::builder().build()?;
    /// let row = Row { name: "bias".into(), dtype: "F32".into(), shape: vec![2], path, position: 0, len: 8 };
    /// let tensors = Tensors::of_rows(&engine, vec![row], Direct::Prefer).wait()?;
    /// let bias = tensors.tensor("bias", None).wait()?;
    /// assert_eq!(bias.bytes()[4..], 2.5f32.to_le_bytes());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn of_rows(engine: &Engine, rows: Vec<Row>, direct: Direct) -> Job<Result<Self>> {
        let engine = engine.clone();
        Job::new(async move { open(&engine, rows, direct).await })
    }
}

async fn open(engine: &Engine, mut rows: Vec<Row>, direct: Direct) -> Result<Tensors> {
    rows.sort_by(|a, b| (&a.path, a.position, a.len).cmp(&(&b.path, b.position, b.len)));
    let mut columns = Columns::default();
    let mut paths: BTreeMap<PathBuf, TableFile> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        add(&mut columns, row).map_err(|fault| fault.at(&row.path))?;
        let file = paths.entry(row.path.clone()).or_insert_with(|| TableFile { path: row.path.clone(), tensors: index..index });
        file.tensors.end = index + 1;
    }
    let files: Vec<TableFile> = paths.into_values().collect();
    let opening: Vec<_> = files.iter().map(|file| engine.open_async(&file.path, OpenOptions::new().read(true).direct(direct))).collect();
    let mut opened = Vec::with_capacity(files.len());
    for (file, task) in files.iter().zip(opening) {
        let first = columns.names.get(file.tensors.start);
        let handle = task.await.map_err(|error| Error::io(error, Some(first)))?;
        let size = handle.stat().await.map_err(|error| Error::io(error, Some(first)))?.size;
        if let Some(index) = file.tensors.clone().find(|&index| columns.end(index) > size) {
            let detail = format!("it ends at {}, and the file at {size}", columns.end(index));
            return Err(Fault::of(Reason::Truncated, columns.names.get(index), detail).at(&file.path));
        }
        opened.push(handle);
    }
    Ok(Tensors::new(engine, Table::new(columns, files), opened, Stated::default()))
}

fn add(columns: &mut Columns, row: &Row) -> std::result::Result<(), Fault> {
    let wrong = |reason, detail: String| Fault::of(reason, &row.name, detail);
    let Some(kind) = columns.kind(&row.dtype) else {
        return Err(wrong(Reason::Field, "there are too many unknown element types".into()));
    };
    let elements = row.shape.iter().try_fold(1u64, |elements, &extent| elements.checked_mul(extent));
    let Some(elements) = elements.filter(|_| row.position.checked_add(row.len).is_some()) else {
        return Err(wrong(Reason::Overflow, "it has more elements or bytes than can be counted".into()));
    };
    if let Kind::Known(dtype) = kind
        && dtype.bytes_of(elements) != Some(row.len)
    {
        let detail = format!("{elements} elements of {dtype} do not have {} bytes", row.len);
        return Err(wrong(Reason::Size, detail));
    }
    if columns.names.add(&row.name).is_err() {
        return Err(wrong(Reason::Duplicate, format!("the name {} is there twice", quoted(&row.name))));
    }
    columns.kinds.push(kind);
    columns.shapes.push(row.shape.iter().copied());
    columns.begins.push(row.position);
    columns.lens.push(row.len);
    Ok(())
}
