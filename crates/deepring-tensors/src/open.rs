//! [`Safetensors`]: opening a model, in one file or in several.
//!
//! 1. What a path means: a file, an index, or a directory, in which the index comes first, then `model.safetensors`, then
//!    the only `*.safetensors`.
//! 2. Files are opened 64 at once, and the first 256 KiB of each are read; of a longer header the rest.
//! 3. The headers are read by [`header`](crate::header) on a thread of the engine, and become one table.
//!
//! Nothing that a header says is believed before the size of its file is known.

use crate::checksums;
use crate::columns::{Columns, Refusal};
use crate::error::{Error, Fault, Reason, Result, quoted};
use crate::header::{self, HEADER_BYTES_MAX, Header, LENGTH_BYTES};
use crate::index::{self, INDEX_BYTES_MAX, Index};
use crate::job::Job;
use crate::metadata::Metadata;
use crate::sums::Sums;
use crate::table::{Table, TableFile};
use crate::tensors::{HeaderSum, Stated, Tensors};
use deepring::{Direct, Engine, File};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Read of every file at once: more than the header of most models.
const FIRST_BYTES: u64 = 256 << 10;

/// Files that are opened at once, so that what the first bytes of all take is bounded.
const WAVE_FILES: usize = 64;

/// No header can be longer: places in it are counted with 32 bits.
const HEADER_BYTES_LIMIT: u64 = u32::MAX as u64;

/// How to open a model.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct OpenOptions {
    strict: bool,
    max_header_bytes: u64,
    direct: Direct,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// All defaults.
    pub const fn new() -> Self {
        Self { strict: true, max_header_bytes: HEADER_BYTES_MAX, direct: Direct::Prefer }
    }

    /// Whether bytes behind the last tensor, and tensors that an index names and their file does not have, are errors; on by
    /// default. Else [`Safetensors::trailing`] and [`Safetensors::missing`] have them.
    #[must_use]
    pub const fn strict(mut self, yes: bool) -> Self {
        self.strict = yes;
        self
    }

    /// The longest header in bytes, at most 2^32 - 1; 100 000 000 by default, as in the reference. A header is read as a
    /// whole, and takes about its own size once more in memory.
    #[must_use]
    pub const fn max_header_bytes(mut self, bytes: u64) -> Self {
        self.max_header_bytes = if bytes < HEADER_BYTES_LIMIT { bytes } else { HEADER_BYTES_LIMIT };
        self
    }

    /// Whether to bypass the page cache; [`Direct::Prefer`] by default.
    #[must_use]
    pub const fn direct(mut self, direct: Direct) -> Self {
        self.direct = direct;
        self
    }
}

/// A model in safetensors files. What can be done with its tensors is in [`Tensors`].
///
/// ```
/// use deepring::Engine;
/// use deepring_tensors::Safetensors;
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("model.safetensors");
/// # let json = br#"{"scale":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
/// # let length = (json.len() as u64).to_le_bytes();
/// # std::fs::write(&path, [&length[..], json, &1f32.to_le_bytes(), &2f32.to_le_bytes()].concat()).unwrap();
/// let engine = Engine::builder().build()?;
/// let model = Safetensors::open(&engine, &path).wait()?; // or .await
/// for info in model.table().iter() {
///     println!("{} {} {:?}", info.name, info.dtype_name, info.shape);
/// }
/// let loaded = model.load(&model.table().all()).wait()?;
/// assert_eq!(loaded.get("scale").map(|tensor| tensor.bytes().len()), Some(8));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Safetensors {
    tensors: Tensors,
    metadata: Metadata,
    trailing: u64,
    unindexed: Vec<String>,
    missing: Vec<String>,
}

impl Deref for Safetensors {
    type Target = Tensors;

    fn deref(&self) -> &Tensors {
        &self.tensors
    }
}

impl Safetensors {
    /// Opens a model: a file, a `*.index.json`, or a directory with the files of one.
    ///
    /// The job fails with [`Error::Format`] for whatever is wrong with a header or an index, and with [`Error::Io`].
    pub fn open(engine: &Engine, path: impl AsRef<Path>) -> Job<Result<Self>> {
        Self::open_with(engine, path, OpenOptions::new())
    }

    /// As [`Safetensors::open`], with options.
    pub fn open_with(engine: &Engine, path: impl AsRef<Path>, options: OpenOptions) -> Job<Result<Self>> {
        let (engine, path) = (engine.clone(), path.as_ref().to_owned());
        Job::new(async move {
            let looked_at = path.clone();
            let meant = engine.run_blocking(move || resolve(&looked_at)).await??;
            match meant {
                Meant::File(path) => open_files(&engine, vec![path], options).await,
                Meant::Index(path) => open_index(&engine, &path, options).await,
            }
        })
    }

    /// Opens several files as one model. No name may be in two of them.
    ///
    /// The job fails as that of [`Safetensors::open`].
    pub fn open_files(engine: &Engine, paths: Vec<PathBuf>, options: OpenOptions) -> Job<Result<Self>> {
        let engine = engine.clone();
        Job::new(async move { open_files(&engine, paths, options).await })
    }

    /// The tensors, apart from what is said about them.
    pub fn tensors(&self) -> &Tensors {
        &self.tensors
    }

    /// What the headers say under `__metadata__`. Of several files, the first that has a key counts.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Bytes behind the last tensors, of all files. 0 unless [`OpenOptions::strict`] is off.
    pub fn trailing(&self) -> u64 {
        self.trailing
    }

    /// Tensors that the files have and the index does not give to them. They cannot be loaded.
    pub fn unindexed(&self) -> &[String] {
        &self.unindexed
    }

    /// Tensors that the index names and their file does not have. Empty unless [`OpenOptions::strict`] is off.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }
}

/// What a path means.
enum Meant {
    File(PathBuf),
    Index(PathBuf),
}

/// Looks at a path, and into a directory. Blocks.
fn resolve(path: &Path) -> Result<Meant> {
    if !path.is_dir() {
        let is_index = path.as_os_str().as_encoded_bytes().ends_with(b".json");
        return Ok(if is_index { Meant::Index(path.to_owned()) } else { Meant::File(path.to_owned()) });
    }
    let index = path.join("model.safetensors.index.json");
    if index.exists() {
        return Ok(Meant::Index(index));
    }
    let usual = path.join("model.safetensors");
    if usual.exists() {
        return Ok(Meant::File(usual));
    }
    let entries = std::fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>());
    // A directory that cannot be listed: opening what it would have fails with the same error.
    let entries = entries.unwrap_or_default();
    let ends_with = |end: &str| {
        entries.iter().filter(|entry| entry.as_os_str().as_encoded_bytes().ends_with(end.as_bytes())).cloned().collect::<Vec<_>>()
    };
    let (mut indices, mut files) = (ends_with(".safetensors.index.json"), ends_with(".safetensors"));
    match (indices.len(), files.len()) {
        (1, _) => Ok(Meant::Index(indices.swap_remove(0))),
        (0, 0) => Ok(Meant::File(usual)),
        (0, 1) => Ok(Meant::File(files.swap_remove(0))),
        (found, _) => {
            let what = if found == 0 { "files and no index" } else { "indices" };
            Err(Fault::new(Reason::Ambiguous, format!("the directory has several {what}; name one")).at(path))
        }
    }
}

/// What must hold of the header of a file: of this number, with these bytes in front of the data, of this size.
pub(crate) type CheckHeader = Arc<dyn Fn(usize, &[u8], &Header, u64) -> std::result::Result<(), Fault> + Send + Sync>;

/// A file with its header.
pub(crate) struct Part {
    pub(crate) file: File,
    pub(crate) header: Header,
    /// Where the data begins.
    pub(crate) start: u64,
    /// CRC-32C of its tensors in their order, and that of the header, if its metadata have them.
    checksums: Option<(Vec<u32>, HeaderSum)>,
}

async fn open_files(engine: &Engine, paths: Vec<PathBuf>, options: OpenOptions) -> Result<Safetensors> {
    let parts = read_parts(engine, &paths, options, |_| None, None).await?;
    assemble(engine, paths, parts, None)
}

async fn open_index(engine: &Engine, path: &Path, options: OpenOptions) -> Result<Safetensors> {
    let file = engine.open_async(path, deepring::OpenOptions::new().read(true).direct(options.direct)).await?;
    let size = file.stat().await?.size;
    if size > INDEX_BYTES_MAX {
        let detail = format!("the index has {size} bytes, more than {INDEX_BYTES_MAX}");
        return Err(Fault::new(Reason::TooLarge, detail).at(path));
    }
    let (json, _) = file.read_exact_at(engine.pooled_buffer(size as usize)?, 0).await.ok()?;
    let index = engine.run_blocking(move || index::parse(&json)).await?.map_err(|fault| fault.at(path))?;
    let directory = path.parent().unwrap_or(Path::new(""));
    let paths: Vec<PathBuf> = index.numbers.keys().map(|name| directory.join(name)).collect();
    let mut firsts: Vec<Option<u32>> = vec![None; paths.len()];
    for (name, &file) in index.files.iter().enumerate() {
        firsts[file as usize].get_or_insert(name as u32);
    }
    let first = |file: usize| firsts[file].map(|name| index.names.get(name as usize).to_owned());
    let parts = read_parts(engine, &paths, options, first, None).await?;
    let missing = missing(&index, &parts);
    if options.strict
        && let Some((name, file)) = missing.first()
    {
        let detail = format!("the index gives it to {}, which does not have it", quoted(&paths[*file].to_string_lossy()));
        return Err(Fault::of(Reason::Index, name, detail).at(path));
    }
    let mut model = assemble(engine, paths, parts, Some(&index))?;
    model.missing = missing.into_iter().map(|(name, _)| name).collect();
    Ok(model)
}

/// Tensors of an index that their files do not have.
fn missing(index: &Index, parts: &[Part]) -> Vec<(String, usize)> {
    let all = index.names.iter().zip(&index.files).map(|(name, &file)| (name, file as usize));
    all.filter(|&(name, file)| parts[file].header.columns.names.find(name).is_none()).map(|(name, file)| (name.to_owned(), file)).collect()
}

/// Opens all files, and reads their headers. `needs` names a tensor that needs a file, for errors.
pub(crate) async fn read_parts(
    engine: &Engine,
    paths: &[PathBuf],
    options: OpenOptions,
    needs: impl Fn(usize) -> Option<String> + Sync,
    check: Option<CheckHeader>,
) -> Result<Vec<Part>> {
    // Grows with the files that are there, not with those that an index names.
    let mut parts = Vec::new();
    for (wave, paths) in paths.chunks(WAVE_FILES).enumerate() {
        let first = wave * WAVE_FILES;
        parts.extend(read_wave(engine, paths, options, |number| needs(first + number), check.clone().map(|check| (first, check))).await?);
    }
    Ok(parts)
}

/// As [`read_parts`], of files that are opened at once.
async fn read_wave(
    engine: &Engine,
    paths: &[PathBuf],
    options: OpenOptions,
    needs: impl Fn(usize) -> Option<String> + Sync,
    check: Option<(usize, CheckHeader)>,
) -> Result<Vec<Part>> {
    let how = deepring::OpenOptions::new().read(true).direct(options.direct);
    let opening: Vec<_> = paths.iter().map(|path| engine.open_async(path, how)).collect();
    let failed = |number: usize, error| Error::Io { error, tensor: needs(number) };
    let mut beginnings = Vec::with_capacity(paths.len());
    for (number, task) in opening.into_iter().enumerate() {
        let file = task.await.map_err(|error| failed(number, error))?;
        let size = file.stat().await.map_err(|error| failed(number, error))?.size;
        let read = file.read_exact_at(engine.pooled_buffer(size.min(FIRST_BYTES) as usize)?, 0);
        beginnings.push((file, size, read));
    }
    let mut parts = Vec::with_capacity(paths.len());
    for (number, (file, size, read)) in beginnings.into_iter().enumerate() {
        let (first, _) = read.await.ok().map_err(|error| failed(number, error))?;
        let path = &paths[number];
        let len = header_len(&first, size, options.max_header_bytes).map_err(|fault| fault.at(path))?;
        let start = LENGTH_BYTES + len;
        let header = if start <= first.len() as u64 {
            first
        } else {
            file.read_exact_at(engine.pooled_buffer(start as usize)?, 0).await.ok().map_err(|error| failed(number, error))?.0
        };
        let check = check.clone();
        let parse = move || {
            let text = &header[..start as usize];
            let header = header::parse(&text[LENGTH_BYTES as usize..], size - start, options.strict)?;
            if let Some((first, check)) = check {
                check(first + number, text, &header, size)?;
            }
            let sums = checksums::of(&header).zip(checksums::place_of(text));
            let sums = sums.map(|((tensors, expected), place)| (tensors, HeaderSum { bytes: start, place: Some(place), expected }));
            Ok((header, sums))
        };
        let parsed: std::result::Result<_, Fault> = engine.run_blocking(parse).await?;
        let (header, checksums) = parsed.map_err(|fault| fault.at(path))?;
        parts.push(Part { file, header, start, checksums });
    }
    Ok(parts)
}

/// The length of a header, from the first bytes of a file of this size.
pub(crate) fn header_len(first: &[u8], size: u64, max: u64) -> std::result::Result<u64, Fault> {
    let Some(length) = first.first_chunk::<{ LENGTH_BYTES as usize }>() else {
        return Err(Fault::new(Reason::TooShort, format!("the file has {size} bytes, fewer than the length of a header")));
    };
    let len = u64::from_le_bytes(*length);
    if len > size - LENGTH_BYTES {
        let detail = format!("the header has {len} bytes, and the file {size}");
        return Err(Fault::new(Reason::HeaderLength, detail));
    }
    if len > max {
        let detail = format!("the header has {len} bytes, and at most {max} are allowed");
        return Err(Fault::new(Reason::HeaderTooLarge, detail));
    }
    Ok(len)
}

/// One table of all files. With an index, of what it gives to them.
fn assemble(engine: &Engine, paths: Vec<PathBuf>, parts: Vec<Part>, index: Option<&Index>) -> Result<Safetensors> {
    let (mut metadata, mut trailing, mut unindexed, mut headers) = (Metadata::default(), 0, Vec::new(), Vec::new());
    let (mut columns, mut files, mut handles, mut checksums) = (Columns::default(), Vec::new(), Vec::new(), Vec::new());
    let alone = parts.len() == 1 && index.is_none();
    for (number, (path, part)) in paths.into_iter().zip(parts).enumerate() {
        let first = columns.len();
        let Header { columns: own, metadata: said, trailing: rest } = part.header;
        trailing += rest;
        metadata.merge(said);
        for tensor in 0..own.len() {
            let name = own.names.get(tensor);
            let wanted = |index: &Index| index.names.find(name).is_some_and(|found| index.files[found] as usize == number);
            if index.is_some_and(|index| !wanted(index)) {
                unindexed.push(name.to_owned());
                continue;
            }
            let crc = part.checksums.as_ref().map(|(tensors, _)| tensors[tensor]);
            checksums.push(crc);
            if alone {
                continue;
            }
            columns.take(&own, tensor, part.start + own.begins[tensor]).map_err(|refusal| match refusal {
                Refusal::Twice(_) => Fault::of(Reason::Duplicate, name, "another file has the name, too").at(&path),
                Refusal::TooManyTypes => Fault::of(Reason::Field, name, "there are too many unknown element types").at(&path),
            })?;
        }
        if alone {
            columns = own;
            for begin in &mut columns.begins {
                *begin += part.start;
            }
        }
        files.push(TableFile { path, tensors: first..columns.len() });
        handles.push(part.file);
        headers.push(part.checksums.map(|(_, header)| header));
    }
    let stated = Stated { sums: Sums::of_tensors(checksums, files.len()), headers, verify: false };
    let tensors = Tensors::new(engine, Table::new(columns, files), handles, stated);
    Ok(Safetensors { tensors, metadata, trailing, unindexed, missing: Vec::new() })
}
