//! Opening a store: who has it, what its last flush left, and what to do if nothing was flushed.

use super::directory::{Entered, SwapDirectory, lengthen};
use super::extents::{Extents, PAGE_BYTES};
use super::index;
use super::options::SwapOptions;
use super::planted::Planted;
use super::shared::{Disk, Place, Shared};
use super::state::{Marked, State};
use super::version::Version;
use super::{entry::Entry, flush};
use crate::budget::Budget;
use crate::error::{Fault, Reason, Result};
use deepring::{Engine, OpenOptions};
use std::path::PathBuf;
use std::sync::Arc;

/// Opens a store, or begins one.
pub(super) async fn open(engine: Engine, path: PathBuf, options: SwapOptions, planted: Planted) -> Result<Arc<Shared>> {
    let create = options.create;
    let Entered { directory, lock, index, has_data } = engine.run_blocking(move || SwapDirectory::enter(&path, create)).await??;
    match (&index, has_data) {
        (Some(_), false) => return Err(Fault::new(Reason::Index, "its file `data` is missing").at(&directory.index())),
        (None, true) if !create => return Err(directory.torn()),
        _ => {}
    }
    let is_new = index.is_none();
    let opening = OpenOptions::new().read(true).write(true).create(is_new).truncate(is_new).direct(options.direct);
    let file = engine.open_async(directory.data(), opening).await?;
    let mut state = State::new(Budget::new(options.memory), options.durable);
    if let Some(bytes) = index {
        let size = file.stat().await?.size;
        let at = directory.index();
        let parsed = engine.run_blocking(move || index::parse(&bytes, size)).await?;
        let (entries, mut extents) = parsed.map_err(|fault| fault.at(&at))?;
        extents.grow(size / PAGE_BYTES * PAGE_BYTES);
        restore(&mut state, entries, extents);
    }
    let has_checksums = options.checksum;
    let disk = Disk { directory, file, has_checksums, planted, lock };
    let before = state.extents.capacity();
    if let Some(missing) = options.capacity.next_multiple_of(PAGE_BYTES).checked_sub(before).filter(|missing| *missing > 0) {
        lengthen(&disk.file, before, missing).await?;
        state.extents.grow(before + missing);
    }
    let shared = Shared::new(engine, Place::Own(disk), state);
    if is_new && options.durable {
        // A crash before the first flush leaves an empty store.
        flush::flush(&shared).await?;
    }
    Ok(shared)
}

/// The state as of the last flush.
fn restore(state: &mut State, entries: Vec<(Arc<str>, Version)>, extents: Extents) {
    state.extents = extents;
    state.marked = Marked::Whole;
    for (name, version) in entries {
        if let Some(committed) = state.committed.as_mut().filter(|_| version.len > 0) {
            committed.insert(version.position);
        }
        state.entries.insert(name, Entry { stored: Some(Arc::new(version)), ..Entry::default() });
    }
}
