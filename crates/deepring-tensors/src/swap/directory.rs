//! [`SwapDirectory`]: the directory of a store or of a swapper, which one of them at a time has.
//!
//! ```text
//!   DIR/data    the bytes
//!   DIR/index   which of them are what: as of the last flush
//!   DIR/lock    held while it is open
//! ```

use crate::checkpoint::scan;
use crate::error::{Error, Result};
use deepring::{Direct, Directory, Engine, File, FileLock, LockKind, ReplaceOptions};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const DATA: &str = "data";
const INDEX: &str = "index";
const LOCK: &str = "lock";

/// How the name of an index begins that does not have its own name yet.
const TEMPORARY: &[u8] = b".index.";

/// The largest index: two million tensors, or a million groups.
pub(super) const INDEX_BYTES_MAX: u64 = 256 << 20;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct SwapDirectory(Directory);

/// A directory that was entered.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) directory: SwapDirectory,
    /// Keeps others out.
    pub(super) lock: Held,
    /// The index, if there is one.
    pub(super) index: Option<Vec<u8>>,
    /// Whether there is a file of bytes.
    pub(super) has_data: bool,
}

/// The lock of a directory, until it is given back.
#[derive(Debug)]
pub(super) struct Held(Mutex<Option<FileLock>>);

impl Held {
    /// Another can enter the directory, whoever still has a clone of what was open.
    pub(super) fn give_back(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl SwapDirectory {
    /// Locks a directory, and reads its index. A directory that is missing is made if `create` says so. Blocks.
    pub(super) fn enter(path: &Path, create: bool) -> Result<Entered> {
        // The working directory can change later.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let directory = if create { scan::create(&path)? } else { Directory::open(&path)? };
        let Some(lock) = directory.try_lock(LOCK, LockKind::Exclusive, true)? else {
            return Err(Error::Busy { path, detail: "it is open already".into() });
        };
        let names = directory.names()?;
        // A process that was killed in a flush can have left its new index.
        for name in names.iter().filter(|name| name.as_encoded_bytes().starts_with(TEMPORARY)) {
            directory.remove_file(name)?;
        }
        let has = |wanted: &str| names.iter().any(|name| name == wanted);
        // One more, so that a file that is too long is seen to be.
        let index = if has(INDEX) { Some(directory.read(INDEX, INDEX_BYTES_MAX + 1)?) } else { None };
        Ok(Entered { has_data: has(DATA), directory: Self(directory), lock: Held(Mutex::new(Some(lock))), index })
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn data(&self) -> PathBuf {
        self.path().join(DATA)
    }

    pub(super) fn index(&self) -> PathBuf {
        self.path().join(INDEX)
    }

    /// The error of a call that needs what is in use.
    pub(super) fn busy(&self, detail: impl Into<String>) -> Error {
        Error::Busy { path: self.path().to_owned(), detail: detail.into() }
    }

    pub(super) fn torn(&self) -> Error {
        Error::Torn { path: self.path().to_owned() }
    }

    /// Removes the index. Not to make that last is a bug that is planted. Blocks.
    pub(super) fn remove_index(&self, lasts: bool) -> deepring::Result<()> {
        match self.0.remove_file(INDEX) {
            // An earlier call has removed it, and could not make that last.
            Err(error) if error.code() == "ENOENT" => {}
            removed => removed?,
        }
        if lasts { self.0.sync() } else { Ok(()) }
    }

    /// Replaces the index. What of that lasts, the options say.
    pub(super) async fn write_index(&self, engine: &Engine, text: String, options: ReplaceOptions) -> deepring::Result<()> {
        let options = options.size(text.len() as u64).direct(Direct::Never);
        let replacement = engine.replace(self.index(), options).await?;
        match replacement.file().write_at(text.into_bytes(), 0).await.ok() {
            Ok(_) => replacement.commit().await,
            Err(error) => {
                // The caller gets the error that made this necessary.
                let _ = replacement.abandon().await;
                Err(error)
            }
        }
    }
}

/// Makes a file longer, with space on the drive; on file systems that cannot reserve, only its length is set.
pub(super) async fn lengthen(file: &File, from: u64, bytes: u64) -> Result<()> {
    match file.allocate(from, bytes).await {
        Err(error) if error.code() == "EOPNOTSUPP" => Ok(file.set_len(from + bytes).await?),
        allocated => allocated.map_err(Error::from),
    }
}
