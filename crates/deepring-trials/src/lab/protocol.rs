//! The protocol between the lab and its guest over a serial port: one line of words for each order
//! and each report.
//!
//! Only a complete line counts, because a power cut can leave half of one. A report of an
//! acknowledged generation leaves the guest after the engine reported it durable, so it is true
//! however late it arrives.

use crate::saves::Seen;
use deepring::BackendKind;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A line longer than this is noise.
pub const LINE_BYTES_MAX: usize = 4096;

/// A kind of writing, each with its own commit protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Each generation becomes a separate file: written aside, synced, renamed, directory synced.
    New,
    /// Each generation replaces the file of the last one: written aside, synced, renamed over it,
    /// directory synced.
    Replace,
    /// Two slots of a preallocated file are overwritten in turn, each time with a data sync.
    Slot,
    /// The same on the block device, beyond the end of the file system.
    Raw,
    /// Each generation is a version of a model that is saved as one file: see
    /// [`saves`](crate::saves).
    Model,
    /// The same as several files with an index.
    Shards,
    /// Each generation is a version of a model that is committed to a store of checkpoints.
    Checkpoint,
    /// The same by two writers, which share the tensors.
    Joined,
    /// Each generation replaces an object: a put of the crate `deepring-object-store`.
    Put,
    /// Each generation becomes a separate object, by a put that creates.
    Create,
}

impl Stream {
    /// Those with a commit protocol of the lab's own.
    pub const COMMITS: [Self; 4] = [Self::New, Self::Replace, Self::Slot, Self::Raw];

    /// Those that put objects.
    pub const PUTS: [Self; 2] = [Self::Put, Self::Create];

    /// Those whose generations are known by their sectors.
    pub const GENERATIONS: [Self; 6] = [Self::New, Self::Replace, Self::Slot, Self::Raw, Self::Put, Self::Create];

    /// Those that save models.
    pub const SAVES: [Self; 2] = [Self::Model, Self::Shards];

    /// Those that commit checkpoints.
    pub const CHECKPOINTS: [Self; 2] = [Self::Checkpoint, Self::Joined];

    /// Those whose generations are versions of a model: see [`saves`](crate::saves).
    pub const VERSIONS: [Self; 4] = [Self::Model, Self::Shards, Self::Checkpoint, Self::Joined];

    /// Whether each generation becomes a separate file.
    pub fn is_kept(self) -> bool {
        matches!(self, Self::New | Self::Create)
    }

    /// Whether generations overwrite each other.
    pub fn is_in_place(self) -> bool {
        matches!(self, Self::Slot | Self::Raw)
    }
}

/// A step that a planted bug leaves out of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOut {
    /// None: the full protocol.
    Nothing,
    /// The sync of the data. Of puts all syncs, as in the `LocalFileSystem` of `object_store` 0.13.
    Sync,
    /// The sync of the directory.
    DirectorySync,
    /// The order: the file has its name before it is synced.
    Order,
}

/// Gives an enum its words, in both directions.
macro_rules! words {
    ($type:ty { $($variant:path => $word:literal,)* }) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $($variant => $word,)* })
            }
        }
        impl FromStr for $type {
            type Err = String;
            fn from_str(word: &str) -> Result<Self, String> {
                match word { $($word => Ok($variant),)* _ => Err(format!("not a word of {}: {word:?}", stringify!($type))) }
            }
        }
    };
}

words!(Stream {
    Stream::New => "new",
    Stream::Replace => "replace",
    Stream::Slot => "slot",
    Stream::Raw => "raw",
    Stream::Model => "model",
    Stream::Shards => "shards",
    Stream::Checkpoint => "checkpoint",
    Stream::Joined => "joined",
    Stream::Put => "put",
    Stream::Create => "create",
});
words!(LeftOut {
    LeftOut::Nothing => "nothing",
    LeftOut::Sync => "sync",
    LeftOut::DirectorySync => "directory-sync",
    LeftOut::Order => "order",
});

/// What the guest shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Read everything that the run with this seed wrote, and report what is found.
    Verify(u64),
    /// Commit generations until the power is cut.
    Write(Writing),
    /// Run this test binary, without these tests.
    Suite(String, Vec<String>),
    /// Use the drives and report each error, while the lab breaks and repairs them, until stopped.
    Stress(u64),
    /// Try a sync and report the result.
    Sync,
    /// Stop the current activity.
    Stop,
    /// Unmount and switch off.
    Off,
}

/// How generations are committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writing {
    /// The seed of the run, and so of the content.
    pub seed: u64,
    /// Which backend commits them.
    pub backend: BackendKind,
    /// The step to leave out, if any.
    pub left_out: LeftOut,
    /// The streams, all at the same time, and the number of the first generation of each.
    pub first: BTreeMap<Stream, u64>,
}

/// What the guest found in a file or a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The stream it belongs to.
    pub stream: Stream,
    /// The generation in a file's name, the number of a slot.
    pub id: u64,
    /// Its bytes.
    pub len: u64,
    /// The number of sectors of each generation.
    pub made_of: Vec<(u64, u64)>,
    /// The number of sectors of no generation.
    pub foreign: u64,
    /// Where the first of those begins, counted from the start of the generation.
    pub first_foreign: Option<u64>,
}

impl Found {
    pub(crate) fn count(&mut self, generation: u64) {
        match self.made_of.iter_mut().find(|(known, _)| *known == generation) {
            Some((_, sectors)) => *sectors += 1,
            None => self.made_of.push((generation, 1)),
        }
    }

    pub(crate) fn count_foreign(&mut self, position: u64) {
        self.foreign += 1;
        self.first_foreign = Some(self.first_foreign.map_or(position, |first| first.min(position)));
    }

    /// The generation that all of it belongs to, if there is one.
    pub fn pure(&self) -> Option<u64> {
        match self.made_of[..] {
            [(generation, _)] if self.foreign == 0 => Some(generation),
            _ => None,
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stream, id, len, made_of, foreign, first_foreign } = self;
        write!(f, "{stream} {id} of {len} bytes has ")?;
        made_of.iter().try_for_each(|(generation, sectors)| write!(f, "{sectors} sectors of {generation}, "))?;
        write!(f, "{foreign} of none")?;
        first_foreign.map_or(Ok(()), |first| write!(f, " (the first at {first})"))
    }
}

/// How a test binary ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Ran {
    pub name: String,
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

/// Successful requests: how many since the last report, and how long the longest took.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Progress {
    pub device: String,
    pub requests: u64,
    pub longest_ms: u64,
}

/// The fields of a failed request's error.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the engine's error")]
pub struct Failed {
    pub device: String,
    pub code: String,
    pub syscall: String,
    pub position: Option<u64>,
    pub requested: u64,
    pub transferred: u64,
}

/// What the guest reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// It is ready, on this kernel and these drives.
    Ready(String),
    /// One thing it found.
    Found(Found),
    /// A model it looked for.
    Seen(Seen),
    /// Nothing more was found.
    Verified,
    /// It begins to commit.
    Writing,
    /// A generation is durable.
    Acknowledged(Stream, u64),
    /// A test binary ended.
    Ran(Ran),
    /// Requests succeeded.
    Progress(Progress),
    /// A request failed.
    Failed(Failed),
    /// A sync ended.
    Synced(String),
    /// Something that must not happen.
    Broken(String),
    /// Something worth knowing.
    Note(String),
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verify(seed) => write!(f, "verify {seed}"),
            Self::Write(Writing { seed, backend, left_out, first }) => {
                let backend = if *backend == BackendKind::Uring { "uring" } else { "threads" };
                write!(f, "write {seed} {backend} {left_out}")?;
                first.iter().try_for_each(|(stream, first)| write!(f, " {stream}={first}"))
            }
            Self::Suite(name, without) => {
                write!(f, "suite {name}")?;
                without.iter().try_for_each(|test| write!(f, " {test}"))
            }
            Self::Stress(seed) => write!(f, "stress {seed}"),
            Self::Sync => f.write_str("sync"),
            Self::Stop => f.write_str("stop"),
            Self::Off => f.write_str("off"),
        }
    }
}

fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("not a number: {word:?}"))
}

/// `-` if there is no number.
fn maybe(number: Option<u64>) -> String {
    number.map_or_else(|| "-".into(), |number| number.to_string())
}

fn maybe_number(word: &str) -> Result<Option<u64>, String> {
    if word == "-" { Ok(None) } else { number(word).map(Some) }
}

impl FromStr for Order {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["verify", seed] => Ok(Self::Verify(number(seed)?)),
            ["write", seed, backend, left_out, ref streams @ ..] => {
                let backend = if backend == "threads" { BackendKind::Threads } else { BackendKind::Uring };
                let mut first = BTreeMap::new();
                for pair in streams {
                    let (stream, generation) = pair.split_once('=').ok_or_else(|| format!("not a stream: {pair:?}"))?;
                    first.insert(stream.parse()?, number(generation)?);
                }
                Ok(Self::Write(Writing { seed: number(seed)?, backend, left_out: left_out.parse()?, first }))
            }
            ["suite", name, ref without @ ..] => Ok(Self::Suite(name.into(), without.iter().map(|&test| test.into()).collect())),
            ["stress", seed] => Ok(Self::Stress(number(seed)?)),
            ["sync"] => Ok(Self::Sync),
            ["stop"] => Ok(Self::Stop),
            ["off"] => Ok(Self::Off),
            _ => Err(format!("not an order: {line:?}")),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(kernel) => write!(f, "ready {kernel}"),
            Self::Found(Found { stream, id, len, made_of, foreign, first_foreign }) => {
                write!(f, "found {stream} {id} {len} {foreign} {}", maybe(*first_foreign))?;
                made_of.iter().try_for_each(|(generation, sectors)| write!(f, " {generation}:{sectors}"))
            }
            Self::Seen(Seen { stream, version, leftovers, wrong }) => {
                write!(f, "seen {stream} {} {leftovers}", maybe(*version))?;
                wrong.iter().try_for_each(|wrong| write!(f, " {}", wrong.replace('\n', " | ")))
            }
            Self::Verified => f.write_str("verified"),
            Self::Writing => f.write_str("writing"),
            Self::Acknowledged(stream, generation) => write!(f, "ack {stream} {generation}"),
            Self::Ran(Ran { name, passed, failed, skipped }) => write!(f, "ran {name} {passed} {failed} {skipped}"),
            Self::Progress(Progress { device, requests, longest_ms }) => write!(f, "progress {device} {requests} {longest_ms}"),
            Self::Failed(Failed { device, code, syscall, position, requested, transferred }) => {
                write!(f, "failed {device} {code} {syscall} {} {requested} {transferred}", maybe(*position))
            }
            Self::Synced(how) => write!(f, "synced {how}"),
            Self::Broken(what) => write!(f, "broken {}", what.replace('\n', " | ")),
            Self::Note(what) => write!(f, "note {}", what.replace('\n', " | ")),
        }
    }
}

impl FromStr for Report {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let (head, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<_> = rest.split_whitespace().collect();
        match (head, &words[..]) {
            ("ready", _) => Ok(Self::Ready(rest.into())),
            ("found", [stream, id, len, foreign, first_foreign, pieces @ ..]) => {
                let mut made_of = Vec::new();
                for piece in pieces {
                    let (generation, sectors) = piece.split_once(':').ok_or_else(|| format!("not a piece: {piece:?}"))?;
                    made_of.push((number(generation)?, number(sectors)?));
                }
                let (stream, id, len) = (stream.parse()?, number(id)?, number(len)?);
                Ok(Self::Found(Found { stream, id, len, made_of, foreign: number(foreign)?, first_foreign: maybe_number(first_foreign)? }))
            }
            ("seen", [stream, version, leftovers, wrong @ ..]) => {
                let wrong = (!wrong.is_empty()).then(|| wrong.join(" "));
                let (version, leftovers) = (maybe_number(version)?, number(leftovers)?);
                Ok(Self::Seen(Seen { stream: stream.parse()?, version, leftovers, wrong }))
            }
            ("verified", []) => Ok(Self::Verified),
            ("writing", []) => Ok(Self::Writing),
            ("ack", [stream, generation]) => Ok(Self::Acknowledged(stream.parse()?, number(generation)?)),
            ("ran", [name, passed, failed, skipped]) => {
                let (passed, failed, skipped) = (number(passed)?, number(failed)?, number(skipped)?);
                Ok(Self::Ran(Ran { name: (*name).into(), passed, failed, skipped }))
            }
            ("progress", [device, requests, longest_ms]) => {
                Ok(Self::Progress(Progress { device: (*device).into(), requests: number(requests)?, longest_ms: number(longest_ms)? }))
            }
            ("failed", [device, code, syscall, position, requested, transferred]) => Ok(Self::Failed(Failed {
                device: (*device).into(),
                code: (*code).into(),
                syscall: (*syscall).into(),
                position: maybe_number(position)?,
                requested: number(requested)?,
                transferred: number(transferred)?,
            })),
            ("synced", [how]) => Ok(Self::Synced((*how).into())),
            ("broken", _) => Ok(Self::Broken(rest.into())),
            ("note", _) => Ok(Self::Note(rest.into())),
            _ => Err(format!("not a report: {line:?}")),
        }
    }
}

/// Splits incoming bytes into whole lines.
#[derive(Debug, Default)]
pub struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Takes incoming bytes and returns the lines that are now complete. A line longer than the
    /// limit is dropped.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes {
            if byte == b'\n' {
                lines.push(String::from_utf8_lossy(&self.rest).trim_end_matches('\r').to_owned());
                self.rest.clear();
            } else if self.rest.len() < LINE_BYTES_MAX {
                self.rest.push(byte);
            } else {
                self.rest.clear();
            }
        }
        lines
    }
}
