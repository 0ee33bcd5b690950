//! [`DeepringStoreBuilder`]: the settings of a store, their bounds and defaults.

use crate::settings::{Durability, Locking, Settings};
use crate::store::DeepringStore;
use deepring::{Direct, Directory, Engine};
use std::path::{Path, PathBuf};

const GAP_DEFAULT: u64 = 64 << 10;
const FETCH_DEFAULT: u64 = 64 << 20;
/// Two blocks of the engine: fewer bytes in a chunk cost more calls, more bytes keep the consumer waiting for the first.
const CHUNK_DEFAULT: u64 = 8 << 20;
const AHEAD_DEFAULT: usize = 4;
const WHOLE_DEFAULT: u64 = 64 << 20;

/// The largest gap, fetch, chunk and whole: a request that is larger waits for more memory than most machines have.
const BYTES_MAX: u64 = 1 << 36;
const AHEAD_MAX: usize = 1024;

/// Why a store could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The prefix is no directory, does not exist, or may not be read.
    #[error("the prefix of the store: {0}")]
    Prefix(#[from] deepring::Error),
    /// A setting is outside its range.
    #[error("{setting} is {value}; it must be {allowed}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What was asked for.
        value: u64,
        /// What is possible.
        allowed: &'static str,
    },
}

/// Builds a [`DeepringStore`]. Every setting has a default.
///
/// ```
/// use deepring::{Direct, Engine};
/// use deepring_object_store::{DeepringStore, Durability};
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path();
/// let engine = Engine::builder().build()?;
/// let store = DeepringStore::builder(&engine).prefix(path).durability(Durability::Cached).direct(Direct::Prefer).build()?;
/// assert_eq!(store.to_string(), format!("DeepringStore({})", path.display()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct DeepringStoreBuilder {
    engine: Engine,
    prefix: PathBuf,
    settings: Settings,
}

impl DeepringStore {
    /// A store that reads and writes with this engine, or a clone of it. One engine per process is enough for any number of
    /// stores.
    #[must_use]
    pub fn builder(engine: &Engine) -> DeepringStoreBuilder {
        DeepringStoreBuilder::new(engine)
    }
}

impl DeepringStoreBuilder {
    fn new(engine: &Engine) -> Self {
        let settings = Settings {
            durability: Durability::Synced,
            locking: Locking::Host,
            direct: Direct::Auto,
            gap: GAP_DEFAULT,
            fetch_max: FETCH_DEFAULT,
            chunk: CHUNK_DEFAULT,
            ahead: AHEAD_DEFAULT,
            whole_max: WHOLE_DEFAULT,
        };
        Self { engine: engine.clone(), prefix: PathBuf::from("/"), settings }
    }

    /// The directory that paths start from; `/` by default. It must exist. A relative one counts from the working directory of
    /// this moment.
    #[must_use]
    pub fn prefix(mut self, directory: impl AsRef<Path>) -> Self {
        directory.as_ref().clone_into(&mut self.prefix);
        self
    }

    /// Whether what succeeded outlives a power failure; [`Durability::Synced`] by default.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.settings.durability = durability;
        self
    }

    /// What keeps two conditional puts apart; [`Locking::Host`] by default. All stores on the same files need the same.
    #[must_use]
    pub fn locking(mut self, locking: Locking) -> Self {
        self.settings.locking = locking;
        self
    }

    /// Whether reads bypass the page cache. [`Direct::Auto`] by default: what is in the page cache comes from there, everything
    /// else from the drive. With [`Direct::Require`], a file without direct I/O is an error.
    #[must_use]
    pub fn direct(mut self, direct: Direct) -> Self {
        self.settings.direct = direct;
        self
    }

    /// Ranges of a `get_ranges` are read together if at most `gap` bytes are between them, 64 KiB by default, and the result is
    /// at most `fetch_max` bytes long, 64 MiB by default.
    #[must_use]
    pub fn coalesce(mut self, gap: u64, fetch_max: u64) -> Self {
        (self.settings.gap, self.settings.fetch_max) = (gap, fetch_max);
        self
    }

    /// The size of the chunks of a stream in bytes, rounded up to a multiple of 64 KiB; 8 MiB by default.
    #[must_use]
    pub fn chunk(mut self, bytes: u64) -> Self {
        self.settings.chunk = bytes;
        self
    }

    /// How many chunks of a stream are read ahead of its consumer, 1 to 1024; 4 by default.
    #[must_use]
    pub fn read_ahead(mut self, chunks: usize) -> Self {
        self.settings.ahead = chunks;
        self
    }

    /// What is no longer than this comes in one chunk, which `GetResult::bytes` does not copy; 64 MiB by default.
    #[must_use]
    pub fn whole_max(mut self, bytes: u64) -> Self {
        self.settings.whole_max = bytes;
        self
    }

    /// Builds the store. Looks at the prefix, and blocks for it.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn build(mut self) -> Result<DeepringStore, BuildError> {
        /// Multiples of it are multiples of every unit of direct I/O.
        const STEP: u64 = 64 << 10;
        let Settings { gap, fetch_max, chunk, ahead, whole_max, .. } = self.settings;
        let bounded = |setting, value: u64, least: u64, most: u64, allowed| {
            if (least..=most).contains(&value) { Ok(()) } else { Err(BuildError::Setting { setting, value, allowed }) }
        };
        bounded("the gap of coalesce", gap, 0, BYTES_MAX, "at most 2^36")?;
        bounded("fetch_max of coalesce", fetch_max, 1, BYTES_MAX, "1 to 2^36")?;
        bounded("chunk", chunk, 1, BYTES_MAX, "1 to 2^36")?;
        bounded("read_ahead", ahead as u64, 1, AHEAD_MAX as u64, "1 to 1024")?;
        bounded("whole_max", whole_max, 0, BYTES_MAX, "at most 2^36")?;
        self.settings.chunk = chunk.next_multiple_of(STEP);
        drop(Directory::open(&self.prefix)?);
        // It exists, so only a working directory that is gone makes this fail: then a relative prefix stays one.
        let prefix = std::path::absolute(&self.prefix).unwrap_or(self.prefix);
        Ok(DeepringStore::new(self.engine, prefix, self.settings))
    }
}
