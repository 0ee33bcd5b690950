//! Loading: all tensors of a selection into memory at once, as fast as the drive reads.

use crate::error::{Error, Result};
use crate::job::Job;
use crate::plan::{Check, Plan, Rules};
use crate::progress::{OnProgress, Progress};
use crate::read::{self, LoadReceipt, Read};
use crate::slice::Slice;
use crate::table::Selection;
use crate::tensor::{Memory, Tensor, TensorMap, tensor_at};
use crate::tensors::{Mismatch, Tensors};
use deepring::Buffer;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

/// Bytes that are read into one buffer unless a program says otherwise.
pub(crate) const GROUP_BYTES: u64 = 64 << 20;

/// How to load.
#[derive(Clone)]
#[non_exhaustive]
pub struct LoadOptions {
    pub(crate) slices: HashMap<String, Slice>,
    pub(crate) group_bytes: u64,
    pub(crate) verify: Option<bool>,
    pub(crate) on_progress: Option<OnProgress>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for LoadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadOptions").field("slices", &self.slices).field("group_bytes", &self.group_bytes).finish_non_exhaustive()
    }
}

impl LoadOptions {
    /// All defaults: whole tensors, in groups of 64 MiB, verified only if they are those of a checkpoint.
    pub fn new() -> Self {
        Self { slices: HashMap::new(), group_bytes: GROUP_BYTES, verify: None, on_progress: None }
    }

    /// Of this tensor, a slice is read.
    #[must_use]
    pub fn slice(mut self, name: impl Into<String>, slice: Slice) -> Self {
        self.slices.insert(name.into(), slice);
        self
    }

    /// Bytes that share one buffer, and so the end of its life; 64 MiB by default. A larger tensor has its own.
    #[must_use]
    pub fn group_bytes(mut self, bytes: u64) -> Self {
        self.group_bytes = bytes;
        self
    }

    /// Whether bytes must have the checksums that are stated for them. The first that do not are [`Error::Checksum`]. A
    /// safetensors file can state one for each tensor, a checkpoint has one for each MiB; what is read only in part is not
    /// compared. Off by default, and on for a checkpoint.
    #[must_use]
    pub fn verify(mut self, yes: bool) -> Self {
        self.verify = Some(yes);
        self
    }

    /// A function that is called with the bytes that have been loaded, and with those of all: at most 20 times a second,
    /// and once at the end. On whatever thread polls the job.
    #[must_use]
    pub fn on_progress(mut self, function: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        self.on_progress = Some(Arc::new(function));
        self
    }
}

impl Tensors {
    /// Loads tensors, all of them at once.
    ///
    /// The job fails with [`Error::Io`], which names a tensor that needs the bytes; nothing is returned then.
    pub fn load(&self, selection: &Selection) -> Job<Result<TensorMap>> {
        self.load_with(selection, LoadOptions::new())
    }

    /// As [`Tensors::load`], with options.
    ///
    /// The job can also fail with [`Error::Slice`], with [`Error::NotFound`] for the slice of a tensor that is not
    /// selected, and with [`Error::Checksum`].
    pub fn load_with(&self, selection: &Selection, options: LoadOptions) -> Job<Result<TensorMap>> {
        let (tensors, selection) = (self.clone(), selection.in_file_order());
        Job::new(async move {
            let Loaded { plan, groups, receipt } = load_groups(&tensors, &selection, options).await?;
            let groups = groups.into_iter().map(|buffer| Arc::new(Memory { bytes: buffer.freeze(), permit: None })).collect();
            Ok(TensorMap { tensors, selection, plan, groups, receipt })
        })
    }

    /// Loads one tensor, or a slice of it.
    ///
    /// ```
    /// # use deepring_tensors::{Row, Slice, Tensors};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("weights.bin");
    /// # std::fs::write(&path, [0u8, 1, 2, 3, 4, 5])?;
    /// # let engine = deepring::Engine::builder().build()?;
    /// # let row = Row { name: "table".into(), dtype: "U8".into(), shape: vec![3, 2], path, position: 0, len: 6 };
    /// # let tensors = Tensors::of_rows(&engine, vec![row], deepring::Direct::Prefer).wait()?;
    /// let rows = tensors.tensor("table", Some(Slice::new([Some(1..3)]))).wait()?;
    /// assert_eq!((rows.shape(), rows.bytes()), (&[2, 2][..], &[2, 3, 4, 5][..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// The job fails as that of [`Tensors::load_with`].
    pub fn tensor(&self, name: &str, slice: Option<Slice>) -> Job<Result<Tensor>> {
        let (tensors, name) = (self.clone(), name.to_owned());
        Job::new(async move {
            let selection = tensors.table().select([name.as_str()])?;
            let options = slice.into_iter().fold(LoadOptions::new(), |options, slice| options.slice(name.clone(), slice));
            let Loaded { plan, mut groups, .. } = load_groups(&tensors, &selection, options).await?;
            let buffer = groups.swap_remove(0);
            let memory = Arc::new(Memory { bytes: buffer.freeze(), permit: None });
            Ok(tensor_at(&tensors, &plan, selection.indices[0], plan.places[0], &memory))
        })
    }
}

/// Buffers with the tensors of a plan.
pub(crate) struct Loaded {
    pub(crate) plan: Arc<Plan>,
    pub(crate) groups: Vec<Buffer>,
    pub(crate) receipt: LoadReceipt,
}

/// Loads a selection, in its order.
pub(crate) async fn load_groups(tensors: &Tensors, selection: &Selection, options: LoadOptions) -> Result<Loaded> {
    let slices = slices_of(tensors, selection, &options.slices)?;
    let sums = tensors.sums(options.verify);
    let verify = sums.is_some();
    let plan = Arc::new(Plan::new(tensors.table(), selection, &slices, Rules::new(options.group_bytes, sums))?);
    let mut receipt = LoadReceipt { realigned: plan.realigned, ..LoadReceipt::NONE };
    let mut progress = Progress::new(options.on_progress, plan.bytes);
    // All are in the engine's queue at once; it bounds what is in flight.
    let readings: Vec<_> = (0..plan.groups.len()).map(|number| read::start(tensors, &plan, number, verify)).collect();
    let mut groups = Vec::with_capacity(readings.len());
    for (number, reading) in readings.into_iter().enumerate() {
        let Read { memory, receipt: part, checksums } = reading.await?;
        if verify {
            check(tensors, &plan, number, &checksums)?;
        }
        receipt.add(&part);
        progress.advance(part.bytes);
        groups.push(memory);
    }
    progress.end();
    Ok(Loaded { plan, groups, receipt })
}

/// The slices by the indices of their tensors.
pub(crate) fn slices_of(tensors: &Tensors, selection: &Selection, slices: &HashMap<String, Slice>) -> Result<HashMap<u32, Slice>> {
    let mut found = HashMap::with_capacity(slices.len());
    let selected: HashSet<u32> = if slices.is_empty() { HashSet::new() } else { selection.indices.iter().copied().collect() };
    for (name, slice) in slices {
        let index = tensors.table().index_of(name)? as u32;
        // What is not selected would be read by nobody.
        if !selected.contains(&index) {
            return Err(Error::NotFound { tensor: name.clone() });
        }
        found.insert(index, slice.clone());
    }
    Ok(found)
}

/// Compares the checksums of the pieces of a group with those that are stated.
pub(crate) fn check(tensors: &Tensors, plan: &Plan, number: usize, checksums: &[Vec<u32>]) -> Result<()> {
    match mismatches(tensors, plan, number, checksums).next() {
        Some(mismatch) => Err(tensors.mismatched(mismatch)),
        None => Ok(()),
    }
}

/// What a group has that does not have the checksum which is stated for it.
pub(crate) fn mismatches<'a>(
    tensors: &'a Tensors,
    plan: &'a Plan,
    number: usize,
    checksums: &'a [Vec<u32>],
) -> impl Iterator<Item = Mismatch> + 'a {
    let sums = &tensors.inner.stated.sums;
    plan.groups[number].files.iter().zip(checksums).flat_map(move |(reads, checksums)| {
        reads.checks.iter().filter_map(move |&Check { piece, tensor, sum }| {
            let (expected, actual) = (sums.get(sum), checksums[piece as usize]);
            let piece = reads.pieces[piece as usize];
            let mismatch = Mismatch { tensor, file: reads.file, position: piece.position, len: piece.len as u64, expected, actual };
            (actual != expected).then_some(mismatch)
        })
    })
}
