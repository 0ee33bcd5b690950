//! Streaming: tensors one after the other, within a budget of memory.

use crate::budget::{Budget, Permit};
use crate::error::{Error, Result};
use crate::load::{GROUP_BYTES, check, slices_of};
use crate::plan::{Group, Plan, Rules};
use crate::read::{self, LoadReceipt, Read, Reading};
use crate::slice::Slice;
use crate::sums::Summed;
use crate::table::Selection;
use crate::tensor::{Memory, Tensor, tensor_at};
use crate::tensors::Tensors;
use deepring::Buffer;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// The memory of a stream unless a program says otherwise.
pub(crate) const MEMORY_BYTES: u64 = 256 << 20;

/// A budget is divided into at least this many groups, so that one is read while others are used.
const GROUPS_MIN: u64 = 4;

/// How to stream.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StreamOptions {
    slices: HashMap<String, Slice>,
    memory: u64,
    in_order: bool,
    verify: Option<bool>,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl StreamOptions {
    /// All defaults: whole tensors in the order of their bytes, 256 MiB, verified only if they
    /// are those of a checkpoint.
    pub fn new() -> Self {
        Self { slices: HashMap::new(), memory: MEMORY_BYTES, in_order: false, verify: None }
    }

    /// Of this tensor, a slice is read.
    #[must_use]
    pub fn slice(mut self, name: impl Into<String>, slice: Slice) -> Self {
        self.slices.insert(name.into(), slice);
        self
    }

    /// Bytes in memory at once: being read, yielded and kept. 256 MiB by default; at least that of the largest tensor.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// Whether tensors come in the order of the selection; off by default: in that of their bytes, which is faster.
    #[must_use]
    pub fn in_order(mut self, yes: bool) -> Self {
        self.in_order = yes;
        self
    }

    /// As [`LoadOptions::verify`](crate::LoadOptions::verify).
    #[must_use]
    pub fn verify(mut self, yes: bool) -> Self {
        self.verify = Some(yes);
        self
    }
}

impl Tensors {
    /// Streams tensors: reads ahead of the program, within a budget of memory. What the program holds of the tensors that
    /// it got counts, a whole group at a time, until it is dropped.
    ///
    /// # Errors
    /// [`Error::Budget`] if a tensor is larger than the budget; [`Error::Slice`], [`Error::NotFound`]. Nothing was read.
    ///
    /// ```
    /// # use deepring_tensors::{Row, StreamOptions, Tensors};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("weights.bin");
    /// # std::fs::write(&path, [7u8; 6])?;
    /// # let engine = deepring::Engine::builder().build()?;
    /// # let row = Row { name: "table".into(), dtype: "U8".into(), shape: vec![3, 2], path, position: 0, len: 6 };
    /// # let tensors = Tensors::of_rows(&engine, vec![row], deepring::Direct::Prefer).wait()?;
    /// let mut stream = tensors.stream(&tensors.table().all(), &StreamOptions::new().memory(1 << 20))?;
    /// while let Some(tensor) = stream.wait_next() { // or stream.next().await
    ///     println!("{:?}", tensor?);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stream(&self, selection: &Selection, options: &StreamOptions) -> Result<TensorStream> {
        Ok(TensorStream { groups: GroupStream::new(self, selection, options)?, open: None })
    }
}

/// Tensors one after the other. Dropping it cancels what is being read.
pub struct TensorStream {
    groups: GroupStream,
    /// The group whose tensors are being yielded.
    open: Option<(Arc<Memory>, Range<usize>)>,
}

impl TensorStream {
    /// The next tensor; `None` at the end. After an error, there is no other.
    ///
    /// The error can be [`Error::Io`]; [`Error::Checksum`]; [`Error::Budget`] if the program holds all of the budget, so
    /// that waiting would never end.
    pub async fn next(&mut self) -> Option<Result<Tensor>> {
        loop {
            if let Some((memory, tensors)) = &mut self.open
                && let Some(nth) = tensors.next()
            {
                let GroupStream { tensors, selection, plan, .. } = &self.groups;
                return Some(Ok(tensor_at(tensors, plan, selection.indices[nth], plan.places[nth], memory)));
            }
            // Before the next one is waited for: the program may have dropped its tensors.
            self.open = None;
            let group = match self.groups.next().await? {
                Ok(group) => group,
                Err(error) => return Some(Err(error)),
            };
            if let Err(error) = self.groups.check(&group) {
                return Some(Err(error));
            }
            let tensors = self.groups.plan.groups[group.number].tensors.clone();
            let memory = Memory { bytes: group.buffer.freeze(), permit: Some(group.permit) };
            self.open = Some((Arc::new(memory), tensors));
        }
    }

    /// As [`TensorStream::next`]; blocks this thread.
    pub fn wait_next(&mut self) -> Option<Result<Tensor>> {
        pollster::block_on(self.next())
    }

    /// What was done so far.
    pub fn receipt(&self) -> LoadReceipt {
        self.groups.receipt
    }
}

impl fmt::Debug for TensorStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TensorStream").field("receipt", &self.groups.receipt).finish_non_exhaustive()
    }
}

/// A group of a stream.
pub(crate) struct StreamedGroup {
    /// Which one of the plan.
    pub(crate) number: usize,
    pub(crate) buffer: Buffer,
    pub(crate) permit: Permit,
    /// Of the pieces of each file, if the stream verifies.
    pub(crate) checksums: Vec<Vec<u32>>,
}

/// The groups of a plan one after the other, within a budget.
pub(crate) struct GroupStream {
    pub(crate) tensors: Tensors,
    pub(crate) selection: Selection,
    pub(crate) plan: Arc<Plan>,
    pub(crate) receipt: LoadReceipt,
    pub(crate) budget: Arc<Budget>,
    /// The size of all groups but those of a larger tensor.
    group_bytes: u64,
    verify: bool,
    /// The next group to begin with.
    next: usize,
    reading: VecDeque<(usize, Reading<Buffer>, Permit)>,
    failed: bool,
}

impl GroupStream {
    pub(crate) fn new(tensors: &Tensors, selection: &Selection, options: &StreamOptions) -> Result<Self> {
        let selection = if options.in_order { selection.clone() } else { selection.in_file_order() };
        let slices = slices_of(tensors, &selection, &options.slices)?;
        let sums = tensors.sums(options.verify);
        let group_bytes = Self::group_bytes(options.memory);
        let plan = Plan::new(tensors.table(), &selection, &slices, Rules::new(group_bytes, sums))?;
        if let Some(group) = plan.groups.iter().find(|group| group.cost() > options.memory) {
            let largest = group.tensors.clone().max_by_key(|&nth| tensors.table().columns.lens[selection.indices[nth] as usize]);
            let tensor = largest.map(|nth| tensors.table().columns.names.get(selection.indices[nth] as usize).to_owned());
            return Err(Error::Budget { needed: group.cost(), budget: options.memory, tensor });
        }
        let verify = sums.is_some();
        Ok(Self { selection, ..Self::of_plan(tensors, plan, options.memory, verify) })
    }

    /// The groups of a plan that is made.
    fn of_plan(tensors: &Tensors, plan: Plan, memory: u64, verify: bool) -> Self {
        let receipt = LoadReceipt { realigned: plan.realigned, ..LoadReceipt::NONE };
        let (tensors, plan, budget) = (tensors.clone(), Arc::new(plan), Budget::new(memory));
        let (selection, group_bytes) = (Selection { indices: Vec::new(), bytes: 0 }, Self::group_bytes(memory));
        Self { tensors, selection, plan, receipt, budget, group_bytes, verify, next: 0, reading: VecDeque::new(), failed: false }
    }

    /// The groups that read bytes to check them, within this memory, or what the largest one takes.
    pub(crate) async fn of_sums(
        tensors: &Tensors,
        summed: impl FnOnce(&Tensors) -> Vec<Summed> + Send + 'static,
        memory: u64,
    ) -> Result<Self> {
        let of = tensors.clone();
        let plan = move || Plan::of_sums(of.table(), summed(&of), Self::group_bytes(memory));
        let plan = tensors.engine().run_blocking(plan).await?;
        let memory = plan.groups.iter().map(Group::cost).max().unwrap_or(0).max(memory);
        Ok(Self::of_plan(tensors, plan, memory, true))
    }

    /// The size of groups that are read ahead within this memory.
    fn group_bytes(memory: u64) -> u64 {
        (memory / GROUPS_MIN).min(GROUP_BYTES)
    }

    /// The next group, which is not verified; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Result<StreamedGroup>> {
        if self.failed {
            return None;
        }
        self.fill();
        let Some((number, reading, permit)) = self.reading.pop_front() else {
            let group = self.plan.groups.get(self.next)?;
            self.failed = true;
            return Some(Err(Error::Budget { needed: group.cost(), budget: self.budget.limit(), tensor: None }));
        };
        match reading.await {
            Ok(Read { memory: buffer, receipt, checksums }) => {
                self.receipt.add(&receipt);
                Some(Ok(StreamedGroup { number, buffer, permit, checksums }))
            }
            Err(error) => {
                self.stop();
                Some(Err(error))
            }
        }
    }

    /// As [`check`], if the stream verifies.
    pub(crate) fn check(&mut self, group: &StreamedGroup) -> Result<()> {
        if !self.verify {
            return Ok(());
        }
        let checked = check(&self.tensors, &self.plan, group.number, &group.checksums);
        if checked.is_err() {
            self.stop();
        }
        checked
    }

    /// There is no next group any more.
    fn stop(&mut self) {
        self.failed = true;
        self.reading.clear();
    }

    /// Begins with as many groups as the budget has room for. All but the first leave room for another group: for tensors that
    /// are kept, which would find none otherwise.
    fn fill(&mut self) {
        while let Some(group) = self.plan.groups.get(self.next) {
            let rest = if self.reading.is_empty() { 0 } else { self.group_bytes };
            let Some(permit) = self.budget.take_leaving(group.cost(), rest) else { return };
            let kept = || self.tensors.engine().stats().pooled_bytes;
            if group.bytes > self.group_bytes && kept() > self.budget.left() {
                // The memory of smaller groups lies in pieces, none of which is large enough. Kept for reuse, it would count
                // twice.
                self.tensors.engine().trim();
            }
            let reading = read::start(&self.tensors, &self.plan, self.next, self.verify);
            self.reading.push_back((self.next, reading, permit));
            self.next += 1;
        }
    }
}
