//! Writes of versions that are in memory alone.

use super::entry::Unwritten;
use super::planted::PlantedBug;
use super::shared::{Disk, Shared};
use super::state::{Marked, State};
use super::version::Version;
use crate::error::{Error, Result};
use deepring::WriteOptions;
use std::sync::Arc;

/// Writes the newest version of an entry, and reports how that ended.
pub(super) async fn write(shared: Arc<Shared>, name: Arc<str>, unwritten: Unwritten) {
    let written = write_version(&shared, &name, &unwritten).await;
    let Unwritten { since, turn, version, memory } = unwritten;
    // To be changed in place, it must be the entry's alone.
    drop(memory);
    let counts_older = shared.has(PlantedBug::CountsOlderWrite);
    shared.end(|state| {
        state.writes -= 1;
        let Some(entry) = state.entries.get_mut(&name) else { return };
        entry.writing = None;
        let since = entry.unwritten.as_ref().filter(|_| counts_older).map_or(since, |unwritten| unwritten.since);
        match written {
            Ok(written) => finish(state, &name, written, since),
            Err(error) => fail(state, &name, &version, (since, turn), error),
        }
        state.rank(&name);
    });
}

/// The version, with its checksum.
async fn write_version(shared: &Arc<Shared>, name: &str, unwritten: &Unwritten) -> Result<Version> {
    let disk = shared.disk()?;
    if !disk.planted.is(PlantedBug::WritesFirst) {
        mark(shared, disk).await?;
    }
    // Whole pages, so that nothing is read before it is written.
    let (bytes, version) = (unwritten.memory.bytes.clone(), &unwritten.version);
    let options = WriteOptions::new().checksum(disk.has_checksums);
    let written = disk.file.write_with(bytes, version.position, options).await.ok();
    let (bytes, receipt) = written.map_err(|error| Error::io(error, Some(name)))?;
    disk.planted.wrote(version.position, &bytes);
    if disk.planted.is(PlantedBug::WritesFirst) {
        mark(shared, disk).await?;
    }
    Ok(Version { crc: receipt.checksum.filter(|_| disk.has_checksums), ..Version::clone(version) })
}

/// A version is on the drive.
fn finish(state: &mut State, name: &Arc<str>, written: Version, since: u64) {
    state.stats.written += written.bytes();
    state.damaged.remove(name);
    let Some(entry) = state.entries.get_mut(name) else { return };
    let written = Arc::new(written);
    let before = entry.stored.replace(Arc::clone(&written));
    let mut newer = None;
    if let Some(unwritten) = entry.unwritten.take_if(|unwritten| unwritten.since == since) {
        state.unwritten.remove(&unwritten.turn);
        state.unwritten_bytes -= written.bytes();
    } else {
        newer = entry.unwritten.as_ref().map(|unwritten| Arc::clone(&unwritten.version));
    }
    if let Some(before) = before {
        state.release(&before, &[Some(&written), newer.as_ref()]);
    }
}

/// A version is not on the drive. It stays in memory, and its error is reported to the next who names it.
fn fail(state: &mut State, name: &Arc<str>, version: &Arc<Version>, (since, turn): (u64, u64), error: Error) {
    state.report(name, error.clone());
    let Some(entry) = state.entries.get_mut(name) else { return };
    match &mut entry.unwritten {
        Some(unwritten) if unwritten.since == since => drop(state.stuck.insert(Arc::clone(name), error)),
        // A newer one has taken its place, and its turn: that is written next.
        newer => {
            let stored = entry.stored.clone();
            let newer = newer.as_mut().map(|newer| {
                let later = std::mem::replace(&mut newer.turn, turn);
                state.unwritten.remove(&later);
                state.unwritten.insert(turn, Arc::clone(name));
                Arc::clone(&newer.version)
            });
            state.release(version, &[newer.as_ref(), stored.as_ref()]);
        }
    }
}

/// Before the first write after a flush, a store that writes in place loses its index: from here on it is torn.
async fn mark(shared: &Arc<Shared>, disk: &Disk) -> Result<()> {
    let is_mine = shared.until(|state| match state.marked {
        _ if state.is_durable() => Some(false),
        Marked::Torn => Some(false),
        Marked::Going => None,
        Marked::Whole => {
            state.marked = Marked::Going;
            Some(true)
        }
    });
    if !is_mine.await {
        return Ok(());
    }
    let (directory, forgets) = (disk.directory.clone(), disk.planted.is(PlantedBug::ForgetsMarkSync));
    let removed = shared.engine.run_blocking(move || directory.remove_index(!forgets)).await.and_then(|removed| removed);
    shared.change(|state| state.marked = if removed.is_ok() { Marked::Torn } else { Marked::Whole });
    Ok(removed?)
}
