//! Saving a model in one file, which replaces another as a whole or not at all.
//!
//! 1. The layout is fixed before a byte is written: names, places, and the size of the header.
//! 2. A [`Replacement`](deepring::Replacement) has room for the whole file.
//! 3. All tensors are in the engine's queue at once; then the header, which has their checksums.
//! 4. The file is flushed, takes its name, and its directory is flushed. Until then, the old one is whole.

use crate::error::{Error, Result};
use crate::job::Job;
use crate::layout::{BLOCK_BYTES, Declared, Layout, Order, Rules};
use crate::progress::{OnProgress, Progress};
use crate::written::Written;
use deepring::{Direct, Engine, File, IoBuf, ManyOptions, Op, Piece, ReplaceOptions, Scattered};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Buffers of one call: less than the engine takes.
const BUFFERS_MAX: usize = 1 << 19;

/// A call ends behind this many bytes, at the next tensor that begins on a block.
const CALL_BYTES: u64 = 64 << 20;

/// A tensor and its bytes: its elements row by row, little-endian.
#[derive(Debug, Clone)]
pub struct Source<B> {
    /// Name, element type and shape.
    pub declared: Declared,
    /// As many bytes as these say.
    pub data: B,
}

/// How to save.
#[derive(Clone)]
#[non_exhaustive]
pub struct SaveOptions {
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) align: u64,
    pub(crate) order: Order,
    pub(crate) checksums: bool,
    pub(crate) durable: bool,
    pub(crate) mode: Option<u32>,
    pub(crate) direct: Direct,
    pub(crate) on_progress: Option<OnProgress>,
}

impl Default for SaveOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SaveOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { metadata, align, order, checksums, durable, mode, direct, .. } = self;
        let mut debug = f.debug_struct("SaveOptions");
        debug.field("metadata", metadata).field("align", align).field("order", order).field("checksums", checksums);
        debug.field("durable", durable).field("mode", mode).field("direct", direct).finish_non_exhaustive()
    }
}

impl SaveOptions {
    /// All defaults: data on a block, in the order of blocks, without checksums, durable, direct I/O preferred.
    pub fn new() -> Self {
        Self {
            metadata: BTreeMap::new(),
            align: BLOCK_BYTES,
            order: Order::Blocks,
            checksums: false,
            durable: true,
            mode: None,
            direct: Direct::Prefer,
            on_progress: None,
        }
    }

    /// What the header says under `__metadata__`. `format` is `pt` unless it is given: programs on `PyTorch` refuse files
    /// without.
    #[must_use]
    pub fn metadata<K: Into<String>, V: Into<String>>(mut self, entries: impl IntoIterator<Item = (K, V)>) -> Self {
        self.metadata = entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        self
    }

    /// The data begins on a multiple of this many bytes: a power of two from 8, as in the reference, to 2^20. 4096 by default.
    #[must_use]
    pub fn align(mut self, bytes: u64) -> Self {
        self.align = bytes;
        self
    }

    /// The order of the tensors; [`Order::Blocks`] by default.
    #[must_use]
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Whether the header states a CRC-32C of each tensor and of itself, for [`Tensors::verify`](crate::Tensors::verify);
    /// off by default.
    #[must_use]
    pub fn checksums(mut self, yes: bool) -> Self {
        self.checksums = yes;
        self
    }

    /// Whether the file survives a power cut once it is saved; on by default. Off: nothing is flushed. A crash can then
    /// leave an empty or partial file under the name.
    #[must_use]
    pub fn durable(mut self, yes: bool) -> Self {
        self.durable = yes;
        self
    }

    /// Permissions of a new file, less the umask; 0o666 by default. A file that replaces another has that one's.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Whether tensors are written past the page cache; [`Direct::Prefer`] by default.
    ///
    /// ```
    /// use deepring::Direct;
    /// # use deepring_tensors::{DType, Declared, SaveOptions, Source, save};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("model.safetensors");
    /// # let engine = deepring::Engine::builder().build()?;
    /// # let declared = Declared { name: "bias".into(), dtype: DType::F32, shape: vec![2] };
    /// # let tensors = vec![Source { declared, data: vec![0u8; 8] }];
    /// let receipt = save(&engine, &path, tensors, SaveOptions::new().direct(Direct::Never)).wait()?;
    /// assert!(!receipt.direct);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn direct(mut self, direct: Direct) -> Self {
        self.direct = direct;
        self
    }

    /// As [`LoadOptions::on_progress`](crate::LoadOptions::on_progress).
    #[must_use]
    pub fn on_progress(mut self, function: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        self.on_progress = Some(Arc::new(function));
        self
    }

    pub(crate) fn layout(&self, tensors: &[Declared]) -> Result<Layout> {
        if !self.align.is_power_of_two() || !(8..=1 << 20).contains(&self.align) {
            return Err(Error::Argument(format!("the alignment {} is not a power of two from 8 to 2^20", self.align)));
        }
        let Self { metadata, align, order, checksums, .. } = self;
        Layout::new(tensors, Rules { metadata, align: *align, order: *order, checksums: *checksums })
    }

    /// How the file of a layout is replaced.
    pub(crate) fn replace(&self, size: u64) -> ReplaceOptions {
        let options = ReplaceOptions::new().size(size).durable(self.durable).direct(self.direct);
        self.mode.into_iter().fold(options, ReplaceOptions::mode)
    }
}

/// What a save did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SaveReceipt {
    /// Bytes written: of all files, with their headers.
    pub bytes: u64,
    /// Bytes of them that were copied, because position or address did not suit the device.
    pub bounced: u64,
    /// Whether everything was written past the page cache.
    pub direct: bool,
    /// How many files there are, without an index.
    pub files: u32,
}

impl SaveReceipt {
    pub(crate) const NONE: Self = Self { bytes: 0, bounced: 0, direct: true, files: 0 };

    pub(crate) fn add(&mut self, receipt: &deepring::Receipt) {
        self.bytes += receipt.bytes;
        self.bounced += receipt.bounced;
        self.direct &= receipt.direct;
    }

    /// Of one more file.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.bytes += other.bytes;
        self.bounced += other.bounced;
        self.direct &= other.direct;
        self.files += other.files;
    }
}

/// Saves tensors as one file. What was there before is replaced as a whole, or stays as it is: a crash at any moment leaves
/// one of the two. A symbolic link is replaced, not followed. The file has the permissions of the one it replaces.
///
/// The memory of the tensors must not change before the job ends.
///
/// ```
/// use deepring_tensors::{DType, Declared, Safetensors, SaveOptions, Source, save};
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("model.safetensors");
/// let engine = deepring::Engine::builder().build()?;
/// let declared = Declared { name: "bias".into(), dtype: DType::F32, shape: vec![2] };
/// let tensors = vec![Source { declared, data: [1f32.to_le_bytes(), 2f32.to_le_bytes()].concat() }];
/// save(&engine, &path, tensors, SaveOptions::new().checksums(true)).wait()?;
/// let model = Safetensors::open(&engine, &path).wait()?;
/// assert!(model.verify(None).wait()?.is_whole());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The job fails with [`Error::Argument`] for what cannot be written, before anything is created; with [`Error::Io`], and
/// then the old file is as it was, unless its kind is [`Uncertain`](deepring::ErrorKind::Uncertain): then the new one has its name, and
/// only the flush of the directory has failed.
pub fn save<B: IoBuf>(engine: &Engine, path: impl AsRef<Path>, tensors: Vec<Source<B>>, options: SaveOptions) -> Job<Result<SaveReceipt>> {
    let (engine, path) = (engine.clone(), path.as_ref().to_owned());
    Job::new(async move { write(&engine, &path, tensors, options).await?.commit().await })
}

/// Writes tensors into a file that does not have its name yet.
pub(crate) async fn write<B: IoBuf>(
    engine: &Engine,
    path: &Path,
    tensors: Vec<Source<B>>,
    options: SaveOptions,
) -> Result<Written<SaveReceipt>> {
    let (declared, data) = split(tensors)?;
    let (layout, options) = engine.run_blocking(move || options.layout(&declared).map(|layout| (layout, options))).await??;
    let replacement = engine.replace(path, options.replace(layout.size)).await?;
    let mut progress = Progress::new(options.on_progress.clone(), layout.size);
    match fill(replacement.file(), layout, data, options.checksums, &mut progress).await {
        Ok(receipt) => Ok(Written { replacement, files: None, receipt, progress }),
        Err(error) => {
            // The caller gets the error that made this necessary.
            let _ = replacement.abandon().await;
            Err(error)
        }
    }
}

/// Declarations and bytes apart, if they agree.
pub(crate) fn split<B: IoBuf>(tensors: Vec<Source<B>>) -> Result<(Vec<Declared>, Vec<B>)> {
    for Source { declared, data } in &tensors {
        let (expected, found) = (declared.bytes()?, data.len() as u64);
        if expected != found {
            let name = crate::error::quoted(&declared.name);
            return Err(Error::Argument(format!(
                "{} of shape {:?} has {expected} bytes, and its data {found}, tensor {name}",
                declared.dtype, declared.shape
            )));
        }
    }
    Ok(tensors.into_iter().map(|Source { declared, data }| (declared, data)).unzip())
}

/// What is summed of the bytes that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sums {
    Nothing,
    /// Each tensor.
    Tensors,
    /// Each chunk of this many bytes of a tensor, and the rest of it. A tensor without bytes has none.
    Chunks(u64),
}

/// Writes everything of a layout into its file.
pub(crate) async fn fill<B: IoBuf>(
    file: &File,
    layout: Layout,
    data: Vec<B>,
    checksums: bool,
    progress: &mut Progress,
) -> Result<SaveReceipt> {
    let all = 0..layout.order.len();
    let how = if checksums { Sums::Tensors } else { Sums::Nothing };
    let mut data: Vec<Option<B>> = data.into_iter().map(Some).collect();
    let writes = begin_writes(file, &layout, all, &mut data, how);
    let mut receipt = SaveReceipt { files: 1, ..SaveReceipt::NONE };
    let mut sums = Vec::with_capacity(if checksums { layout.order.len() } else { 0 });
    for write in writes {
        let written = write.end().await?;
        sums.extend_from_slice(&written.sums);
        receipt.add(&written.receipt);
        progress.advance(written.receipt.bytes);
    }
    let header = if checksums { layout.sealed(&sums) } else { layout.header };
    let (_, part) = file.write_at(header, 0).await.ok()?;
    receipt.add(&part);
    Ok(receipt)
}

/// A call that writes some tensors of a layout, which follow one another.
pub(crate) enum Write<B: IoBuf> {
    /// Tensors, by their places in the order of the layout.
    Many(Range<usize>, Op<Scattered<Vec<B>>>),
    /// A tensor, in chunks.
    One(usize, Op<Scattered<B>>),
}

/// What a call has written.
pub(crate) struct WrittenTensors<B> {
    /// Their places in the order of the layout.
    pub(crate) which: Range<usize>,
    pub(crate) data: Vec<B>,
    pub(crate) sums: Vec<u32>,
    pub(crate) receipt: deepring::Receipt,
}

/// Puts calls that write these tensors into the engine's queue: places in the order of the layout. What is written is taken
/// out of `data`, which has it by its index.
pub(crate) fn begin_writes<B: IoBuf>(
    file: &File,
    layout: &Layout,
    which: Range<usize>,
    data: &mut [Option<B>],
    sums: Sums,
) -> Vec<Write<B>> {
    let mut writes = Vec::new();
    for call in calls(layout, which, sums) {
        let first = layout.order[call.start] as usize;
        let position = layout.positions[first];
        let options = ManyOptions::new().checksums(sums != Sums::Nothing);
        match (sums, data[first].take()) {
            (Sums::Chunks(chunk), Some(buf)) if is_cut(layout.lens[first], sums) => {
                let pieces = chunks(layout.lens[first], chunk).map(|(at, len)| Piece::new(position + at, at as usize, len as usize));
                let pieces: Vec<Piece> = pieces.collect();
                writes.push(Write::One(call.start, file.write_gather_with(buf, &pieces, options)));
            }
            (_, buf) => {
                data[first] = buf;
                let bufs = layout.order[call.clone()].iter().filter_map(|&index| data[index as usize].take()).collect();
                writes.push(Write::Many(call, file.write_vectored_with(bufs, position, options)));
            }
        }
    }
    writes
}

impl<B: IoBuf> Write<B> {
    /// Waits for it.
    pub(crate) async fn end(self) -> Result<WrittenTensors<B>> {
        Ok(match self {
            Self::Many(which, op) => {
                let (written, receipt) = op.await.ok()?;
                let sums = written.checksums().unwrap_or_default().to_vec();
                WrittenTensors { which, data: written.buf, sums, receipt }
            }
            Self::One(place, op) => {
                let (written, receipt) = op.await.ok()?;
                let sums = written.checksums().unwrap_or_default().to_vec();
                WrittenTensors { which: place..place + 1, data: vec![written.buf], sums, receipt }
            }
        })
    }
}

/// Beginning and length of each chunk of `len` bytes.
pub(crate) fn chunks(len: u64, chunk: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..len.div_ceil(chunk)).map(move |nth| (nth * chunk, chunk.min(len - nth * chunk)))
}

/// Whether a tensor of this length has more than one chunk.
fn is_cut(len: u64, sums: Sums) -> bool {
    matches!(sums, Sums::Chunks(chunk) if len > chunk)
}

/// The tensors of each call, in the order of their bytes: enough of them that all calls are at the drive at once, and cut
/// where two do not share a block. One that is summed in chunks has a call of its own.
fn calls(layout: &Layout, which: Range<usize>, sums: Sums) -> Vec<Range<usize>> {
    let mut calls = Vec::new();
    let (mut start, mut bytes) = (which.start, 0);
    for nth in which.clone() {
        let index = layout.order[nth] as usize;
        let aligned = layout.positions[index].is_multiple_of(BLOCK_BYTES);
        let alone = is_cut(layout.lens[index], sums) || nth > start && is_cut(layout.lens[layout.order[nth - 1] as usize], sums);
        if nth > start && (alone || bytes >= CALL_BYTES && aligned || nth - start == BUFFERS_MAX) {
            calls.push(start..nth);
            (start, bytes) = (nth, 0);
        }
        bytes += layout.lens[index];
    }
    if start < which.end {
        calls.push(start..which.end);
    }
    calls
}
