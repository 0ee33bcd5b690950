//! Starts the backend of an engine. The only place that names the ring.

use super::threads::Threads;
use super::uring::Uring;
use super::{Backend, BackendKind};
use crate::doorbell::Doorbell;
use crate::error::Error;
use std::sync::Arc;

/// Which backend runs, and why; reported by `info()`.
#[derive(Debug, Clone)]
pub(crate) struct BackendReport {
    pub(crate) kind: BackendKind,
    pub(crate) reason: String,
    pub(crate) flags: Vec<&'static str>,
    pub(crate) ring_entries: u32,
}

/// Starts a backend on the calling thread, which must be the driver's: the ring if it works and is
/// allowed, else threads. `forced` is the only backend allowed, and the setting that demands it.
pub(crate) fn start_backend(
    doorbell: &Arc<Doorbell>,
    entries: u32,
    io_threads: usize,
    forced: Option<(BackendKind, &str)>,
) -> Result<(Box<dyn Backend>, BackendReport), Error> {
    let threads = |reason: String| {
        let backend = Threads::new(Arc::clone(doorbell), io_threads).map_err(|errno| Error::os(errno, "pthread_create"))?;
        let report = BackendReport { kind: BackendKind::Threads, reason, flags: Vec::new(), ring_entries: 0 };
        Ok((Box::new(backend) as Box<dyn Backend>, report))
    };
    if let Some((BackendKind::Threads, by)) = forced {
        return threads(format!("asked for by {by}"));
    }
    match Uring::new(Arc::clone(doorbell), entries, io_threads) {
        Ok(uring) => {
            let report = BackendReport {
                kind: BackendKind::Uring,
                reason: forced.map_or_else(|| "io_uring works here".to_owned(), |(_, by)| format!("asked for by {by}")),
                flags: uring.flags().to_vec(),
                ring_entries: uring.capacity() as u32 + 1,
            };
            Ok((Box::new(uring), report))
        }
        Err(refusal) => match forced {
            Some((_, by)) => {
                Err(Error::os(refusal.errno, "io_uring_setup").advise(format!("{}; {by} allows no other backend", refusal.reason)))
            }
            None => threads(refusal.reason),
        },
    }
}
