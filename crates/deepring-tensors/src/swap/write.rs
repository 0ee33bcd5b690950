//! Writes of versions that are in memory alone.

use super::entry::Unwritten;
use super::planted::PlantedBug;
use super::shared::{Disk, Shared};
use super::state::{Marked, State};
use super::version::Version;
use crate::error::{Error, Result};
use deepring::{ManyOptions, WriteOptions};
use std::sync::Arc;

/// Writes the newest versions of entries, which lie side by side, and reports how that ended.
pub(super) async fn write(shared: Arc<Shared>, run: Vec<(Arc<str>, Unwritten)>) {
    let mut ended = Vec::with_capacity(run.len());
    if let Some(written) = write_together(&shared, &run).await {
        ended.extend(written.into_iter().map(Ok));
    } else {
        // Of several, each by itself: the error is that of its own bytes.
        for (name, unwritten) in &run {
            ended.push(write_version(&shared, name, unwritten).await);
        }
    }
    // To be changed in place, the memory must be the entry's alone.
    let run: Vec<_> = run.into_iter().map(|(name, Unwritten { since, turn, version, .. })| (name, since, turn, version)).collect();
    let counts_older = shared.has(PlantedBug::CountsOlderWrite);
    shared.end(|state| {
        state.writes -= run.len();
        for ((name, since, turn, version), written) in run.into_iter().zip(ended) {
            let Some(entry) = state.entries.get_mut(&name) else { continue };
            entry.writing = None;
            let since = entry.unwritten.as_ref().filter(|_| counts_older).map_or(since, |unwritten| unwritten.since);
            match written {
                Ok(written) => finish(state, &name, written, since),
                Err(error) => fail(state, &name, &version, (since, turn), error),
            }
            state.rank(&name);
        }
    });
}

/// The versions, with their checksums. `None` if there is one alone, or the write has failed.
async fn write_together(shared: &Arc<Shared>, run: &[(Arc<str>, Unwritten)]) -> Option<Vec<Version>> {
    let [(_, first), _, ..] = run else { return None };
    let disk = shared.disk().ok()?;
    let marks_late = disk.planted.is(PlantedBug::WritesFirst);
    if !marks_late {
        mark(shared, disk).await.ok()?;
    }
    let memories = run.iter().map(|(_, unwritten)| unwritten.memory.bytes.clone()).collect();
    let options = ManyOptions::new().checksums(disk.has_checksums);
    let (written, _) = disk.file.write_vectored_with(memories, first.version.position, options).await.ok().ok()?;
    let sums = written.checksums().unwrap_or_default();
    for ((_, unwritten), bytes) in run.iter().zip(&written.buf) {
        disk.planted.wrote(unwritten.version.position, bytes);
    }
    if marks_late {
        mark(shared, disk).await.ok()?;
    }
    shared.lock().stats.joined += run.len() as u64;
    let version = |(nth, (_, unwritten)): (usize, &(Arc<str>, Unwritten))| {
        let crc = sums.get(nth).copied().filter(|_| disk.has_checksums);
        Version { crc, ..Version::clone(&unwritten.version) }
    };
    Some(run.iter().enumerate().map(version).collect())
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
