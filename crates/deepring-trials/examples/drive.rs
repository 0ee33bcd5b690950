//! The lab's drive as a plugin of nbdkit: `nbdkit libdrive.so image=FILE journal=FILE
//! [flush-error=FILE]`.
//!
//! Its write cache is volatile; see `deepring_trials::lab::cache`. While the file named by
//! `flush-error` exists, flushes fail with EIO and the cache stays as it was. (nbdkit's own error
//! filter can fail reads and writes, but not flushes.)

#![allow(missing_docs, reason = "the entry point of a plugin comes out of a macro")]

use deepring_trials::lab::cache::WriteCache;
use nbdkit::{Error, Flags, FuaFlags, Result, Server, ThreadModel, plugin};
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

#[derive(Default)]
struct Parameters {
    image: Option<PathBuf>,
    journal: Option<PathBuf>,
    flush_error: Option<PathBuf>,
}

/// The parameters from the command line. nbdkit calls `config` before a value of the plugin exists.
static PARAMETERS: Mutex<Parameters> = Mutex::new(Parameters { image: None, journal: None, flush_error: None });

struct Drive {
    cache: Mutex<WriteCache>,
    flush_error: Option<PathBuf>,
}

fn failed(error: io::Error) -> Error {
    Error::new(error.raw_os_error().unwrap_or(libc::EIO), error)
}

fn invalid(what: &'static str) -> Error {
    Error::new(libc::EINVAL, what)
}

impl Drive {
    fn with<T>(&self, act: impl FnOnce(&mut WriteCache) -> io::Result<T>) -> Result<T> {
        act(&mut self.cache.lock().unwrap_or_else(PoisonError::into_inner)).map_err(failed)
    }
}

impl Server for Drive {
    fn name() -> &'static str {
        "drive"
    }

    fn config(key: &str, value: &str) -> Result<()> {
        let mut parameters = PARAMETERS.lock().unwrap_or_else(PoisonError::into_inner);
        let place = match key {
            "image" => &mut parameters.image,
            "journal" => &mut parameters.journal,
            "flush-error" => &mut parameters.flush_error,
            _ => return Err(invalid("the parameters are image, journal and flush-error")),
        };
        *place = Some(value.into());
        Ok(())
    }

    fn thread_model() -> Result<ThreadModel> {
        Ok(ThreadModel::SerializeAllRequests)
    }

    fn open(_: bool) -> Result<Box<dyn Server>> {
        let parameters = PARAMETERS.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(image), Some(journal)) = (&parameters.image, &parameters.journal) else {
            return Err(invalid("image and journal are required"));
        };
        let cache = Mutex::new(WriteCache::open(image, journal).map_err(failed)?);
        Ok(Box::new(Self { cache, flush_error: parameters.flush_error.clone() }))
    }

    fn get_size(&self) -> Result<i64> {
        self.with(|cache| Ok(cache.len() as i64))
    }

    fn can_write(&self) -> Result<bool> {
        Ok(true)
    }

    fn can_flush(&self) -> Result<bool> {
        Ok(true)
    }

    fn can_fua(&self) -> Result<FuaFlags> {
        Ok(FuaFlags::Native)
    }

    fn read_at(&self, out: &mut [u8], offset: u64) -> Result<()> {
        self.with(|cache| cache.read(out, offset))
    }

    fn write_at(&self, data: &[u8], offset: u64, flags: Flags) -> Result<()> {
        self.with(|cache| cache.write(data, offset, flags.contains(Flags::FUA)))
    }

    fn flush(&self) -> Result<()> {
        if self.flush_error.as_ref().is_some_and(|path| path.exists()) {
            return Err(Error::new(libc::EIO, "a flush failed on request"));
        }
        self.with(WriteCache::flush)
    }
}

plugin!(Drive { config, thread_model, can_write, can_flush, can_fua, write_at, flush });
