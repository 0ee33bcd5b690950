//! [`Inner`]: the parts of a tier, and how bytes get into its slab and out of the books.

use crate::cells::Geometry;
use crate::extent::Extent;
use crate::fetch::{Fetched, Fetcher};
use crate::fills::Fills;
use crate::flights::{Boarded, Flights};
use crate::hits::Slab;
use crate::identity::{Identity, Key, Place};
use crate::index::Index;
use crate::known::{Catalog, Ticket};
use crate::record::Record;
use crate::remote::Meta;
use crate::rules::Rules;
use crate::slots::Slots;
use crate::stats::{Counters, TierStats, add};
use deepring::{Completed, Engine, FileLock, Priority, WriteOptions, crc32c};
use foyer_memory::Cache;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) engine: Engine,
    pub(crate) path: PathBuf,
    pub(crate) geometry: Geometry,
    pub(crate) rules: Rules,
    /// Fetches of one call that are in flight at once.
    pub(crate) fetches: usize,
    pub(crate) fetcher: Fetcher,
    pub(crate) catalog: Catalog,
    pub(crate) flights: Arc<Flights>,
    pub(crate) fills: Arc<Fills>,
    pub(crate) counters: Arc<Counters>,
    /// What is in the slab.
    pub(crate) extents: Cache<Key, Arc<Extent>>,
    pub(crate) slots: Arc<Slots<Extent>>,
    pub(crate) slab: Slab,
    pub(crate) index: Index,
    /// Released last.
    pub(crate) _lock: FileLock,
}

impl Inner {
    pub(crate) fn stats(&self) -> TierStats {
        let (slots, slots_free) = self.slots.count();
        TierStats { slots, slots_free, fills_in_progress: self.fills.active(), ..self.counters.snapshot() }
    }

    pub(crate) fn extent(&self, identity: &Arc<Identity>, extent: u64) -> Option<Arc<Extent>> {
        let key = Key { identity: Arc::clone(identity), extent };
        self.extents.get(&key).map(|entry| Arc::clone(entry.value()))
    }

    // ---- into the slab ----

    /// Writes whole cells to the slab on a thread of the engine. `boarded` says to others that they come.
    pub(crate) fn fill(self: &Arc<Self>, ticket: Ticket, fetched: Fetched, cells: Range<u64>, boarded: Option<Boarded>) {
        if cells.is_empty() || !fetched.known.is_cacheable {
            return;
        }
        let Some(fill) = self.fills.begin(fetched.range.end - fetched.range.start) else {
            return add(&self.counters.fills_skipped, 1);
        };
        if let Some(boarded) = &boarded {
            boarded.fill(&fetched);
        }
        let inner = Arc::clone(self);
        let job = self.engine.run_blocking(move || {
            inner.write(&ticket, &fetched, cells);
            // In this order: the cells are hits now. Who waits for the fill can then open the slab again.
            drop((boarded, fetched));
            drop(inner);
            drop(fill);
        });
        // It runs all the same. On a closed engine it does not, and has been dropped.
        drop(job);
    }

    /// Blocks.
    fn write(&self, ticket: &Ticket, fetched: &Fetched, cells: Range<u64>) {
        let identity = &fetched.known.identity;
        let mut writes = Vec::new();
        for part in self.geometry.parts(cells) {
            let Some(taken) = self.catalog.while_valid(ticket, || self.take(identity, part.extent)) else { return };
            let Some((extent, has_record)) = taken else {
                add(&self.counters.refused, 1);
                continue;
            };
            if extent.has(part.cells.clone()) {
                continue;
            }
            // A record never speaks of cells that are another's.
            if has_record && self.index.clear(extent.slot).is_err() {
                self.give_up(&extent);
                continue;
            }
            let base = part.extent * self.geometry.per_extent();
            let bytes = self.geometry.bytes(&(base + part.cells.start..base + part.cells.end), identity.size);
            let bytes = fetched.slice(&(bytes.start..bytes.start + crate::cells::padded(bytes.end - bytes.start)));
            let sums: Vec<u32> = bytes.chunks(self.geometry.cell as usize).map(crc32c).collect();
            let options = WriteOptions::new().priority(Priority::Background);
            let len = bytes.len() as u64;
            let write = self.slab.file.write_with(bytes, self.slab.position(&extent, part.cells.start), options);
            writes.push((extent, part.cells.start, sums, len, write));
        }
        for (extent, first, sums, len, write) in writes {
            let Completed { result, .. } = write.wait();
            if result.is_err() {
                self.give_up(&extent);
                continue;
            }
            add(&self.counters.bytes_filled, len);
            extent.set(first, &sums);
            self.write_record(&extent, &fetched.known.meta);
        }
    }

    /// The drive fails: what is in the slot is not to be trusted.
    fn give_up(&self, extent: &Extent) {
        add(&self.counters.fills_failed, 1);
        self.extents.remove(&extent.key);
    }

    /// The extent of a version, and whether its slot has the record of another one. None if no slot is free.
    fn take(&self, identity: &Arc<Identity>, extent: u64) -> Option<(Arc<Extent>, bool)> {
        if let Some(extent) = self.extent(identity, extent) {
            return Some((extent, false));
        }
        let taken = self.slots.take(&identity.place)?;
        let key = Key { identity: Arc::clone(identity), extent };
        let extent = Extent::new(taken.slot, key.clone(), &self.slots, &vec![None; self.geometry.per_extent() as usize]);
        drop(self.extents.insert(key, Arc::clone(&extent)));
        Some((extent, taken.has_record))
    }

    /// Writes what is in an extent now, after the cells. Without, they are lost with the process, and nothing else is.
    fn write_record(&self, extent: &Extent, meta: &Meta) {
        let _alone = extent.lock_record();
        if extent.is_forgotten() {
            return;
        }
        let identity = extent.identity();
        let record = Record {
            generation: self.index.next_generation(),
            size: identity.size,
            extent: extent.key.extent,
            modified: meta.modified,
            attributes: meta.attributes.clone(),
            store: identity.place.store.to_string(),
            path: identity.place.path.to_string(),
            e_tag: identity.e_tag.to_string(),
            version: meta.version.clone(),
            sums: extent.all_sums(),
        };
        if self.index.write(extent.slot, &record).is_err() {
            add(&self.counters.fills_failed, 1);
        }
    }

    // ---- out of the books ----

    /// Forgets an object: what is known of it, its extents and its records. Ends when the records are gone.
    pub(crate) async fn forget(self: &Arc<Self>, place: &Arc<Place>) {
        if let Some(cleared) = self.forget_now(place) {
            // On a closed engine nothing can be written; then neither can what would have to be removed.
            let _ = cleared.await;
        }
    }

    /// As [`Inner::forget`], without waiting. The task ends when the records are gone; there is none if there were none.
    pub(crate) fn forget_now(self: &Arc<Self>, place: &Arc<Place>) -> Option<deepring::Task<()>> {
        let slots = self.catalog.forget(place, || {
            let slots = self.slots.of(place);
            for extent in slots.iter().filter_map(|(_, extent)| extent.as_ref()) {
                extent.forget();
                self.extents.remove(&extent.key);
            }
            slots
        });
        if slots.is_empty() {
            return None;
        }
        let (inner, place) = (Arc::clone(self), Arc::clone(place));
        Some(self.engine.run_blocking(move || {
            for (slot, extent) in slots {
                let _alone = extent.as_ref().map(|extent| extent.lock_record());
                if inner.slots.disown(slot, &place) && inner.index.clear(slot).is_err() {
                    add(&inner.counters.fills_failed, 1);
                }
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    /// Readers that hold every slot look like this to everything else.
    #[cfg(feature = "v014")]
    #[test]
    fn without_a_free_slot_bytes_are_served_uncached_and_counted() {
        use super::super::v014::{TieredStore, object_store};
        use super::super::{Tier, Validate};
        use super::Place;
        use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path};
        use std::sync::Arc;

        let directory = tempfile::tempdir().expect("a directory");
        let engine = deepring::Engine::builder().build().expect("an engine");
        let tier = Tier::builder(&engine).otherwise(Validate::Immutable).open(directory.path(), 16 << 20).expect("a tier");
        let store = TieredStore::new(&tier, Arc::new(InMemory::new()) as Arc<dyn ObjectStore>, "memory://");
        let (path, other) = (Path::from("object"), Arc::new(Place { store: "other".into(), path: "other".into() }));
        let taken: Vec<_> = std::iter::from_fn(|| tier.inner.slots.take(&other)).collect();
        assert_eq!((taken.len(), tier.stats().slots_free), (4, 0));
        pollster::block_on(async {
            store.put(&path, vec![7; 100_000].into()).await.expect("a put");
            for refused in 1..3 {
                assert_eq!(store.get(&path).await.expect("an object").bytes().await.expect("bytes"), vec![7; 100_000]);
                tier.flush().await;
                assert_eq!((tier.stats().refused, tier.stats().bytes_filled), (refused, 0));
            }
            tier.inner.slots.give_back(taken[0].slot, false);
            store.get(&path).await.expect("an object").bytes().await.expect("bytes");
            tier.flush().await;
            store.get(&path).await.expect("an object").bytes().await.expect("bytes");
            assert_eq!((tier.stats().refused, tier.stats().hits), (2, 2));
        });
    }
}
