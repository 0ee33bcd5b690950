//! [`Latest`]: the newest generation that is whole.

use super::generation::{Check, Checkpoint, Opened};
use super::scan;
use crate::error::{Error, Result};
use deepring::{Directory, Engine};

/// What [`Checkpoints::latest`](super::Checkpoints::latest) has found.
#[derive(Debug)]
#[non_exhaustive]
pub struct Latest {
    /// The newest generation that is whole. `None`: there is none.
    pub checkpoint: Option<Checkpoint>,
    /// Those after it, the newest first.
    pub skipped: Vec<Skipped>,
}

/// A generation that is not whole.
#[derive(Debug)]
#[non_exhaustive]
pub struct Skipped {
    /// Its number.
    pub generation: u64,
    /// What is wrong.
    pub reason: Error,
}

/// Opens the newest generation that is whole, as far as `check` says. Passes over those that are damaged, and over nothing
/// else.
pub(super) async fn newest(engine: &Engine, store: &Directory, check: Check) -> Result<(Option<Opened>, Vec<Skipped>)> {
    'look: loop {
        let (of, mut skipped) = (store.clone(), Vec::new());
        let found = engine.run_blocking(move || scan::look(&of)).await??;
        for generation in found.generations.into_iter().rev() {
            match Opened::open(engine, store, generation, check).await {
                Ok(opened) => return Ok((Some(opened), skipped)),
                // Another process has removed it meanwhile, and made a newer one.
                Err(Error::NoGeneration { .. }) => continue 'look,
                Err(reason @ (Error::Format { .. } | Error::Checksum { .. })) => skipped.push(Skipped { generation, reason }),
                // It can be whole. An older one would be taken for the newest.
                Err(error) => return Err(error),
            }
        }
        return Ok((None, skipped));
    }
}
