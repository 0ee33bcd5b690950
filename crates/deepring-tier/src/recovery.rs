//! What the last owner of a tier has left, whether it closed it, crashed, or lost its power: records that are whole.
//!
//! A record speaks of cells that were on the drive when it was written. Whether they still are, their checksums say when they
//! are read. Of two records of one extent the later one counts; the other's slot is free.

use crate::cells::EXTENT_BYTES;
use crate::extent::Extent;
use crate::identity::{Identity, Key, Place};
use crate::inner::Inner;
use crate::known::Known;
use crate::record::Record;
use crate::remote::Meta;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What the index says of an object.
struct Version {
    identity: Arc<Identity>,
    record: Record,
    /// No record is of another version.
    is_only: bool,
}

/// Fills a tier that nobody uses yet. Blocks.
pub(crate) fn recover(inner: &Inner, slots: u32) -> deepring::Result<()> {
    let records = inner.index.load(slots, inner.geometry.cell)?;
    let mut stores: HashSet<Arc<str>> = HashSet::new();
    let mut objects: HashMap<Arc<Place>, Version> = HashMap::new();
    let mut extents: HashMap<Key, (u32, Record)> = HashMap::new();
    // The last ones come last.
    for (slot, record) in records {
        if record.size.div_ceil(EXTENT_BYTES) <= record.extent {
            continue;
        }
        let store = stores.get(record.store.as_str()).cloned().unwrap_or_else(|| {
            let store: Arc<str> = record.store.as_str().into();
            stores.insert(Arc::clone(&store));
            store
        });
        let place = Arc::new(Place { store, path: record.path.as_str().into() });
        let identity = match objects.entry(place) {
            Entry::Occupied(mut object) => {
                let version = object.get_mut();
                if *version.identity.e_tag != *record.e_tag || version.identity.size != record.size {
                    version.identity = Arc::new(Identity::new(Arc::clone(&version.identity.place), &record.e_tag, record.size));
                    version.is_only = false;
                }
                version.record = Record { sums: Vec::new(), ..record.clone() };
                Arc::clone(&version.identity)
            }
            Entry::Vacant(object) => {
                let identity = Arc::new(Identity::new(Arc::clone(object.key()), &record.e_tag, record.size));
                let record = Record { sums: Vec::new(), ..record.clone() };
                object.insert(Version { identity: Arc::clone(&identity), record, is_only: true });
                identity
            }
        };
        extents.insert(Key { identity, extent: record.extent }, (slot, record));
    }
    let found = extents.iter().map(|(key, &(slot, _))| (slot, Arc::clone(&key.identity.place))).collect();
    inner.slots.take_found(&found);
    let mut extents: Vec<_> = extents.into_iter().collect();
    extents.sort_unstable_by_key(|(_, (_, record))| record.generation);
    for (key, (slot, record)) in extents {
        let extent = Extent::new(slot, key.clone(), &inner.slots, &record.sums);
        drop(inner.extents.insert(key, extent));
    }
    for (place, version) in objects {
        // One whose attributes had no room in its record has to be asked for.
        if version.record.attributes.is_some() {
            let Record { e_tag, size, modified, version: number, attributes, .. } = version.record;
            let meta = Meta { e_tag: Some(e_tag), size, modified, version: number, attributes };
            let known = Arc::new(Known::found(version.identity, meta, version.is_only));
            inner.catalog.learn(&inner.catalog.ticket(&place), &known);
        }
    }
    // What had no place is no eviction of this tier.
    inner.counters.evicted.store(0, Ordering::Relaxed);
    Ok(())
}
