//! How to open a store, save in one call, begin a generation, join one, and put tensors.

use super::files::Within;
use super::retention::Keep;
use crate::progress::OnProgress;
use deepring::Direct;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

/// How long a commit waits for a writer that has not joined, if nothing else is said.
const PATIENCE: Duration = Duration::from_secs(60);

/// The group of a tensor, if nothing else is said.
const GROUP: &str = "main";

/// Which generation to take bytes over from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reference {
    /// The newest one that is whole. If there is none, nothing can be taken over.
    Latest,
    /// That of this number.
    Generation(u64),
}

/// How to open a store.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct StoreOptions {
    pub(super) create: bool,
    pub(super) keep: Keep,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl StoreOptions {
    /// The directory exists; the newest three generations are kept.
    pub const fn new() -> Self {
        Self { create: false, keep: Keep { last: Some(3), every: None } }
    }

    /// Whether a missing directory is created, with those above it; off by default.
    #[must_use]
    pub const fn create(mut self, yes: bool) -> Self {
        self.create = yes;
        self
    }

    /// How many of the newest generations that are whole are kept, at least one; 3 by default. The others are removed by the
    /// next commit, unless they are pinned, a reader has them open, or their step is [kept](StoreOptions::keep_every).
    #[must_use]
    pub const fn keep_last(mut self, generations: u32) -> Self {
        self.keep.last = Some(generations);
        self
    }

    /// Keeps all generations.
    #[must_use]
    pub const fn keep_all(mut self) -> Self {
        self.keep.last = None;
        self
    }

    /// Generations whose [step](BeginOptions::step) is a multiple of this are kept; 0, the default, is none.
    #[must_use]
    pub const fn keep_every(mut self, steps: u64) -> Self {
        self.keep.every = NonZeroU64::new(steps);
        self
    }
}

/// How to begin a generation.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct BeginOptions {
    pub(super) step: Option<u64>,
    pub(super) writers: u32,
    pub(super) reference: Option<Reference>,
    pub(super) patience: Duration,
    pub(super) own: JoinOptions,
}

impl Default for BeginOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl BeginOptions {
    /// One writer, no step, no reference, no staging, direct I/O preferred.
    pub const fn new() -> Self {
        Self { step: None, writers: 1, reference: None, patience: PATIENCE, own: JoinOptions::new() }
    }

    /// The step of the program, such as that of a training; none by default. See [`StoreOptions::keep_every`].
    #[must_use]
    pub const fn step(mut self, step: u64) -> Self {
        self.step = Some(step);
        self
    }

    /// How many writers there are, with this one, from 1 to 65 536; 1 by default. The others [join](super::Checkpoints::join).
    #[must_use]
    pub const fn writers(mut self, writers: u32) -> Self {
        self.writers = writers;
        self
    }

    /// The generation that [`CheckpointWriter::reference`](super::CheckpointWriter::reference) takes over from, which stays until this one has ended; none by
    /// default.
    #[must_use]
    pub const fn reference(mut self, reference: Reference) -> Self {
        self.reference = Some(reference);
        self
    }

    /// How long the commit waits for a writer that has not joined; a minute by default. For one that has joined it waits as
    /// long as that lives.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// As [`JoinOptions::staging`].
    #[must_use]
    pub const fn staging(mut self, bytes: u64) -> Self {
        self.own = self.own.staging(bytes);
        self
    }

    /// As [`JoinOptions::direct`].
    #[must_use]
    pub const fn direct(mut self, direct: Direct) -> Self {
        self.own = self.own.direct(direct);
        self
    }
}

/// How to write the tensors of one writer.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct JoinOptions {
    pub(super) staging: u64,
    pub(super) direct: Direct,
}

impl Default for JoinOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl JoinOptions {
    /// No staging, direct I/O preferred.
    pub const fn new() -> Self {
        Self { staging: 0, direct: Direct::Prefer }
    }

    /// Bytes of memory for copies of tensors, in blocks of 4 MiB; 0 by default. While it lasts, a tensor is copied there and
    /// written later, so that its own memory is free at once. Without, there are still four blocks, for small tensors.
    ///
    /// The store keeps this memory for its next save, until it is [trimmed](super::Checkpoints::trim), closed or dropped: pages
    /// that were used before are copied to at twice the speed.
    #[must_use]
    pub const fn staging(mut self, bytes: u64) -> Self {
        self.staging = bytes;
        self
    }

    /// Whether tensors are written past the page cache; [`Direct::Prefer`] by default.
    #[must_use]
    pub const fn direct(mut self, direct: Direct) -> Self {
        self.direct = direct;
        self
    }
}

/// What is said of a tensor that is put.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PutOptions {
    pub(super) group: String,
    pub(super) within: Option<Within>,
}

impl Default for PutOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl PutOptions {
    /// A whole tensor, in the group `main`.
    pub fn new() -> Self {
        Self { group: GROUP.into(), within: None }
    }

    /// Tensors of a group have files of their own, which a later generation can take over; `main` by default. 1 to 64 of
    /// `a` to `z`, `0` to `9`, `_` and `-`.
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = group.into();
        self
    }

    /// It is a piece of a tensor of this shape, and begins there. The pieces of all writers cover the tensor, each element
    /// once.
    #[must_use]
    pub fn within(mut self, shape: impl Into<Vec<u64>>, start: impl Into<Vec<u64>>) -> Self {
        self.within = Some(Within { shape: shape.into(), start: start.into() });
        self
    }
}

/// How to save a checkpoint in one call.
#[derive(Clone)]
#[non_exhaustive]
pub struct CheckpointOptions {
    pub(super) begin: BeginOptions,
    pub(super) group: String,
    pub(super) meta: Option<String>,
    pub(super) on_progress: Option<OnProgress>,
}

impl fmt::Debug for CheckpointOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { begin, group, meta, .. } = self;
        f.debug_struct("CheckpointOptions").field("begin", begin).field("group", group).field("meta", meta).finish_non_exhaustive()
    }
}

impl Default for CheckpointOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl CheckpointOptions {
    /// No step, `null` as meta, the group `main`, no staging, direct I/O preferred.
    pub fn new() -> Self {
        Self { begin: BeginOptions::new(), group: GROUP.into(), meta: None, on_progress: None }
    }

    /// As [`BeginOptions::step`].
    #[must_use]
    pub fn step(mut self, step: u64) -> Self {
        self.begin = self.begin.step(step);
        self
    }

    /// As [`CheckpointWriter::set_meta`](super::CheckpointWriter::set_meta).
    #[must_use]
    pub fn meta(mut self, json: impl Into<String>) -> Self {
        self.meta = Some(json.into());
        self
    }

    /// As [`PutOptions::group`].
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = group.into();
        self
    }

    /// As [`JoinOptions::staging`].
    #[must_use]
    pub fn staging(mut self, bytes: u64) -> Self {
        self.begin = self.begin.staging(bytes);
        self
    }

    /// As [`JoinOptions::direct`].
    #[must_use]
    pub fn direct(mut self, direct: Direct) -> Self {
        self.begin = self.begin.direct(direct);
        self
    }

    /// A function that is called with the bytes of tensors that have been written, and with those of all: at most 20 times a
    /// second, and once at the end. On whatever thread polls the jobs.
    #[must_use]
    pub fn on_progress(mut self, function: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        self.on_progress = Some(Arc::new(function));
        self
    }
}
