//! The moment of a store: everything that was accepted before is on the drive, and an index that says so.
//!
//! ```text
//!   write what is in memory alone ──► no more writes ──► flush the tensors ──► write the index, flush it, give it its name,
//!   flush the name ──► free the places of older versions ──► writes again
//! ```
//!
//! Before the index has its name, a crash leaves the store of the flush before: nothing of that is written over, unless the
//! store writes in place, and then there is no index.

use super::index;
use super::planted::PlantedBug;
use super::shared::{Disk, Place, Shared};
use super::state::{Marked, Moment, State};
use super::task;
use super::version::Version;
use crate::error::Result;
use deepring::{ErrorKind, ReplaceOptions};
use std::sync::{Arc, Mutex, PoisonError};

/// A flush that waits until everything is written.
struct Waiting(Arc<Shared>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.change(|state| state.flushes -= 1);
    }
}

/// While it is there, no other moment comes, and the file does not change.
pub(super) struct Still(Arc<Shared>);

impl Still {
    /// From here on, the file can change. What a durable store had at the moment stays as it is.
    pub(super) fn write(&self) {
        self.0.change(|state| state.moment = Moment::Alone);
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        self.0.change(|state| {
            state.moment = Moment::Free;
            state.committing.clear();
        });
    }
}

/// See the module. Of several at once, one after the other does it.
pub(super) async fn flush(shared: &Arc<Shared>) -> Result<()> {
    match &shared.place {
        Place::Own(disk) => hold(shared, disk).await.map(drop),
        Place::Table(_) => Ok(()),
    }
}

/// The same, and what the drive has then, for as long as the value lives.
pub(super) async fn hold(shared: &Arc<Shared>, disk: &Disk) -> Result<(Still, Entries)> {
    let (waiting, since) = shared.change(|state| {
        state.flushes += 1;
        // They are tried again.
        state.stuck.clear();
        (Waiting(Arc::clone(shared)), state.tick())
    });
    let forgets = disk.planted.is(PlantedBug::ForgetsReplaced);
    let (still, capacity, entries) = loop {
        shared.until(|state| written(state, since, forgets)).await?;
        let still = shared.until(|state| {
            (state.moment == Moment::Free).then(|| {
                state.moment = Moment::Still;
                Still(Arc::clone(shared))
            })
        });
        let still = still.await;
        // A write that has failed meanwhile leaves what took the place of its version to be written.
        let found = shared.until(|state| {
            let is_quiet = state.writes == 0;
            is_quiet.then(|| match written(state, since, forgets) {
                Some(written) => written.and_then(|()| on_drive(state)).map(Some),
                None => Ok(None),
            })
        });
        if let Some((capacity, entries)) = found.await? {
            break (still, capacity, entries);
        }
    };
    drop(waiting);
    // A caller that gives up changes nothing: the store must know what the index on the drive says.
    let committed = Arc::new(Mutex::new(None));
    let (to, own) = (Arc::clone(&committed), Arc::clone(shared));
    task::spawn(&shared.engine, async move {
        let ended = commit(&own, capacity, &entries).await.map(|()| (still, entries));
        *to.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
        drop(to);
        own.end(|_| ());
    });
    shared.until(|_| committed.lock().unwrap_or_else(PoisonError::into_inner).take()).await
}

/// Whether everything is written that was accepted before this, or what took its place. To forget the latter is a planted bug.
fn written(state: &mut State, since: u64, forgets: bool) -> Option<Result<()>> {
    let open = state.check_open();
    if let Some(error) = open.err().or_else(|| state.faults.pop_first().map(|(_, error)| error)) {
        return Some(Err(error));
    }
    let is_newer =
        |name: &Arc<str>| state.entries.get(name).and_then(|entry| entry.unwritten.as_ref()).is_some_and(|newest| newest.since > since);
    let mut behind = state.unwritten.range(..since).map(|(_, name)| name).filter(|name| !(forgets && is_newer(name))).peekable();
    if behind.peek().is_none() {
        return Some(Ok(()));
    }
    // Another has reported it, and nothing tries it again.
    behind.find_map(|name| state.stuck.get(name)).map(|error| Err(error.clone()))
}

pub(super) type Entries = Vec<(Arc<str>, Arc<Version>)>;

/// What the drive has.
fn on_drive(state: &mut State) -> Result<(u64, Entries)> {
    if let Some(error) = state.damaged.values().next() {
        return Err(error.clone());
    }
    let stored = state.entries.iter().filter_map(|(name, entry)| Some((Arc::clone(name), Arc::clone(entry.stored.as_ref()?))));
    let entries: Entries = stored.collect();
    if state.is_durable() {
        state.committing = entries.iter().filter(|(_, version)| version.len > 0).map(|(_, version)| version.position).collect();
    }
    Ok((state.extents.capacity(), entries))
}

async fn commit(shared: &Arc<Shared>, capacity: u64, entries: &Entries) -> Result<()> {
    let disk = shared.disk()?;
    let planted = |bug| disk.planted.is(bug);
    let text = {
        let entries = entries.clone();
        shared.engine.run_blocking(move || index::text(capacity, entries.iter().map(|(name, version)| (&**name, &**version)))).await?
    };
    if !planted(PlantedBug::IndexFirst) && !planted(PlantedBug::ForgetsDataSync) {
        disk.file.sync_data().await?;
        disk.planted.flushed();
    }
    let written = write_index(shared, disk, text).await;
    let forgets = planted(PlantedBug::ReusesEarly);
    shared.change(|state| {
        let mut named = std::mem::take(&mut state.committing);
        if forgets {
            named.clear();
        }
        match &written {
            Ok(()) => {
                state.committed = state.committed.take().map(|_| named);
                state.marked = Marked::Whole;
                state.free_superseded();
            }
            // One of the two is there after a crash, so the places of both stay; and the next write in place removes either.
            Err(error) if matches!(error.kind(), ErrorKind::Uncertain(_)) => {
                state.committed = state.committed.take().map(|committed| &committed | &named);
                state.marked = Marked::Whole;
            }
            Err(_) => {}
        }
    });
    written?;
    if planted(PlantedBug::IndexFirst) {
        disk.file.sync_data().await?;
        disk.planted.flushed();
    }
    Ok(())
}

async fn write_index(shared: &Shared, disk: &Disk, text: String) -> deepring::Result<()> {
    let options = ReplaceOptions::new().durable(!disk.planted.is(PlantedBug::ForgetsIndexSync));
    let options = options.sync_directory(!disk.planted.is(PlantedBug::ForgetsNameSync));
    disk.directory.write_index(&shared.engine, text, options).await
}
