//! [`TierBuilder`]: the settings of a tier, their bounds and defaults.

use crate::cells::{CELL_BYTES, EXTENT_BYTES, Geometry};
use crate::fetch::Fetcher;
use crate::fills::Fills;
use crate::flights::Flights;
use crate::hits::Slab;
use crate::index::Index;
use crate::inner::Inner;
use crate::known::Catalog;
use crate::record::RECORD_BYTES;
use crate::recovery;
use crate::rules::{BYPASSED, Pattern, Rules, Validate};
use crate::slots::Slots;
use crate::stats::Counters;
use crate::tier::Tier;
use deepring::{Directory, Engine, File, LockKind, OpenOptions};
use foyer_memory::{CacheBuilder, S3FifoConfig};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A read of 16 KiB fetches and checks four times as much, a megabyte has sixteen checksums.
const CELL_DEFAULT: u64 = 64 << 10;
const FETCHES_DEFAULT: usize = 8;
const TIMEOUT_DEFAULT: Duration = Duration::from_mins(1);
const FETCH_DEFAULT: u64 = 8 << 20;
const FILL_DEFAULT: u64 = 64 << 20;

/// With fewer, there would be none to spare for those that are read while they are evicted.
const SLOTS_MIN: u64 = 4;
/// A 64th of a slot's number would not fit into memory either.
const SLOTS_MAX: u64 = 1 << 26;
/// The share of the slots that are spare: extents that were evicted keep theirs while they are read.
const SPARE_SHARE: u64 = 16;
/// Extents of a shard of the index in memory. A shard evicts when it is full, so each should have many.
const SHARD_EXTENTS: u64 = 1024;
const SHARDS_MAX: u64 = 16;
/// Objects that are known: as many as there can be extents, within these bounds.
const KNOWN_MIN: u64 = 4096;
const KNOWN_MAX: u64 = 1 << 20;

/// The files of a tier.
const SLAB: &str = "slab";
const INDEX: &str = "index";

/// Why a tier could not be opened.
///
/// ```
/// use deepring_tier::{OpenError, Tier};
/// # let directory = tempfile::tempdir()?;
/// let engine = deepring::Engine::builder().build()?;
/// let first = Tier::builder(&engine).open(directory.path(), 16 << 20)?;
/// let second = Tier::builder(&engine).open(directory.path(), 16 << 20);
/// assert!(matches!(second, Err(OpenError::Held(_)))); // run without a tier, or with one in another directory
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another tier has the directory: of another process, or of this one. Each needs a directory of its own.
    #[error("another tier has {0}, in this process or in another one; give each a directory of its own")]
    Held(PathBuf),
    /// A setting is outside its range.
    #[error("{setting} is {value}; it must be {allowed}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What was asked for.
        value: String,
        /// What is possible.
        allowed: &'static str,
    },
    /// The directory could not be made.
    #[error("the directory of the tier, {path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file of the tier could not be opened, made as long as it must be, or read.
    #[error("the files of the tier: {0}")]
    Files(#[from] deepring::Error),
}

/// Builds a [`Tier`]. Every setting has a default.
///
/// ```
/// use deepring_tier::{Tier, Validate};
/// use std::time::Duration;
/// # let directory = tempfile::tempdir()?;
/// # let nvme = directory.path();
/// let engine = deepring::Engine::builder().build()?;
/// let tier = Tier::builder(&engine)
///     .validate("*.parquet", Validate::Immutable)
///     .validate("dimensions/", Validate::After(Duration::from_secs(30)))
///     .otherwise(Validate::Always)
///     .bypass(["_delta_log/", "*.json", "tmp/"])
///     .timeout(Duration::from_secs(10))
///     .open(nvme.join("tier"), 1 << 30)?;
/// assert_eq!(tier.stats().slots, 256);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "it does nothing until it is opened"]
pub struct TierBuilder {
    engine: Engine,
    validate: Vec<(String, Validate)>,
    bypass: Vec<String>,
    otherwise: Validate,
    cell: u64,
    fetches: usize,
    timeout: Duration,
    fetch_max: u64,
    fill_max: u64,
}

impl Tier {
    /// A tier that reads and writes with this engine, or a clone of it. One engine per process is enough for any number of them.
    pub fn builder(engine: &Engine) -> TierBuilder {
        TierBuilder {
            engine: engine.clone(),
            validate: Vec::new(),
            bypass: BYPASSED.map(str::to_owned).to_vec(),
            otherwise: Validate::default(),
            cell: CELL_DEFAULT,
            fetches: FETCHES_DEFAULT,
            timeout: TIMEOUT_DEFAULT,
            fetch_max: FETCH_DEFAULT,
            fill_max: FILL_DEFAULT,
        }
    }
}

impl TierBuilder {
    /// How long what is known of the objects of a pattern holds. Of several patterns, the first that matches counts.
    ///
    /// A pattern without `/` is one of file names (`*.parquet`), one with `/` at its end is one of directories, wherever they are
    /// (`_delta_log/`), and any other is one of whole paths (`warehouse/*/data/**`). `*` stands for any characters but `/`, and
    /// `**` for any at all.
    pub fn validate(mut self, pattern: impl Into<String>, validate: Validate) -> Self {
        self.validate.push((pattern.into(), validate));
        self
    }

    /// What holds for all other objects; [`Validate::Always`] by default.
    pub fn otherwise(mut self, validate: Validate) -> Self {
        self.otherwise = validate;
        self
    }

    /// The objects that are not cached: these patterns, in place of `_delta_log/`, `_versions/`, `metadata/` and `*.json`.
    pub fn bypass<P: Into<String>>(mut self, patterns: impl IntoIterator<Item = P>) -> Self {
        self.bypass = patterns.into_iter().map(Into::into).collect();
        self
    }

    /// The size of a cell in bytes, which is what is fetched and checked as a whole: a power of two from 16 KiB to 4 MiB; 64 KiB
    /// by default. A tier that was written with another size is empty when it is opened.
    pub fn cell(mut self, bytes: u64) -> Self {
        self.cell = bytes;
        self
    }

    /// How many requests of one call are at the remote at once, 1 to 1024; 8 by default.
    pub fn fetches(mut self, requests: usize) -> Self {
        self.fetches = requests;
        self
    }

    /// How long a request to the remote may take, with all of its bytes, before the call fails with
    /// [`Fault::TimedOut`](crate::Fault::TimedOut): a millisecond to a day; a minute by default. Retries of the remote count as one request.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The longest request to the remote in bytes: a cell to 1 GiB, and rounded down to whole cells; 8 MiB by default. With
    /// [`TierBuilder::fetches`], this bounds what a call has in flight.
    pub fn max_fetch_bytes(mut self, bytes: u64) -> Self {
        self.fetch_max = bytes;
        self
    }

    /// How many bytes that were fetched may wait in memory for the drive, 64 MiB by default. What does not fit is served, and not
    /// cached. With 0, the tier only shares fetches.
    pub fn max_fill_bytes(mut self, bytes: u64) -> Self {
        self.fill_max = bytes;
        self
    }

    /// Opens the tier in a directory, which is made if it is missing. `capacity` is what its slab takes on the drive: a multiple
    /// of 4 MiB, to which it is rounded down, and at least 16 MiB. The index takes a thousandth more. What another tier has left
    /// there is used, whatever became of it. With another capacity than before, what has no place any more is dropped.
    ///
    /// Blocks: for the space, the first time, and to read the index.
    ///
    /// # Errors
    /// See [`OpenError`]. A file system without `fallocate` or without locks cannot have a tier.
    pub fn open(self, path: impl AsRef<Path>, capacity: u64) -> Result<Tier, OpenError> {
        let slots = self.check(capacity)?;
        let rules = self.rules()?;
        let path = std::path::absolute(path.as_ref()).unwrap_or_else(|_| path.as_ref().to_owned());
        fs::create_dir_all(&path).map_err(|source| OpenError::Directory { path: path.clone(), source })?;
        let directory = Directory::open(&path)?;
        let Some(lock) = directory.try_lock(INDEX, LockKind::Exclusive, true)? else { return Err(OpenError::Held(path)) };
        let file = self.file(&path.join(SLAB), u64::from(slots) * EXTENT_BYTES)?;
        let index = Index::new(self.engine.clone(), self.file(&path.join(INDEX), u64::from(slots) * RECORD_BYTES as u64)?);
        let counters = Arc::new(Counters::default());
        let geometry = Geometry { cell: self.cell };
        let spare = (u64::from(slots) / SPARE_SHARE).max(1);
        let shards = (u64::from(slots) / SHARD_EXTENTS).clamp(1, SHARDS_MAX);
        let extents = CacheBuilder::new((u64::from(slots) - spare) as usize)
            .with_name("deepring-tier extents")
            .with_shards(shards as usize)
            .with_eviction_config(S3FifoConfig::default());
        let inner = Inner {
            path,
            geometry,
            rules,
            fetches: self.fetches,
            fetcher: Fetcher {
                engine: self.engine.clone(),
                counters: Arc::clone(&counters),
                timeout: self.timeout,
                fetch_max: self.fetch_max / self.cell * self.cell,
            },
            catalog: Catalog::new(u64::from(slots).clamp(KNOWN_MIN, KNOWN_MAX) as usize),
            flights: Arc::new(Flights::default()),
            fills: Arc::new(Fills::new(self.fill_max)),
            extents: extents.build(),
            slots: Arc::new(Slots::new(slots, Arc::clone(&counters))),
            slab: Slab { engine: self.engine.clone(), file, geometry, counters: Arc::clone(&counters) },
            index,
            counters,
            engine: self.engine,
            _lock: lock,
        };
        recovery::recover(&inner, slots)?;
        Ok(Tier { inner: Arc::new(inner) })
    }

    /// The number of slots, if all settings are possible.
    fn check(&self, capacity: u64) -> Result<u32, OpenError> {
        let refuse = |setting, value: String, allowed| Err(OpenError::Setting { setting, value, allowed });
        if !self.cell.is_power_of_two() || !CELL_BYTES.contains(&self.cell) {
            return refuse("cell", self.cell.to_string(), "a power of two from 16 KiB to 4 MiB");
        }
        if !(1..=1024).contains(&self.fetches) {
            return refuse("fetches", self.fetches.to_string(), "1 to 1024");
        }
        if !(Duration::from_millis(1)..=Duration::from_hours(24)).contains(&self.timeout) {
            return refuse("timeout", format!("{:?}", self.timeout), "a millisecond to a day");
        }
        if !(self.cell..=1 << 30).contains(&self.fetch_max) {
            return refuse("max_fetch_bytes", self.fetch_max.to_string(), "one cell to 1 GiB");
        }
        let slots = capacity / EXTENT_BYTES;
        if !(SLOTS_MIN..=SLOTS_MAX).contains(&slots) {
            return refuse("capacity", capacity.to_string(), "16 MiB to 256 TiB");
        }
        Ok(slots as u32)
    }

    fn rules(&self) -> Result<Rules, OpenError> {
        let pattern = |text: &String| {
            let empty = || OpenError::Setting { setting: "a pattern", value: format!("{text:?}"), allowed: "the name of something" };
            Pattern::new(text.clone()).ok_or_else(empty)
        };
        let bypass = self.bypass.iter().map(pattern).collect::<Result<_, _>>()?;
        let validate = self.validate.iter().map(|(text, validate)| Ok((pattern(text)?, *validate))).collect::<Result<_, OpenError>>()?;
        Ok(Rules { bypass, validate, otherwise: self.otherwise })
    }

    /// A file of exactly this many bytes, which have their space on the drive.
    fn file(&self, path: &Path, bytes: u64) -> Result<File, OpenError> {
        // Its bytes are those of objects, which not every user of the machine may be allowed to read.
        let file = self.engine.open(path, OpenOptions::new().read(true).write(true).create(true).mode(0o600))?;
        if file.stat_at_open().size > bytes {
            file.set_len(bytes).wait()?;
        }
        file.allocate(0, bytes).wait()?;
        Ok(file)
    }
}
