//! [`Record`]: what the index has on the drive about one extent. Pure.
//!
//! A record is 4 KiB, at the position of its slot. After a crash it can be old, new, torn, or anything else: what its own
//! checksum does not confirm is no record.
//!
//! ```text
//!       0  magic, version, size of a cell        64  slot
//!      16  generation                            72  which cells are there: a bit each
//!      24  size of the object                   104  checksums of the cells
//!      32  number of the extent                1128  names: store, path, ETag, version
//!      40  time of the object                         and the attributes of the object, if they fit
//!      54  length of the attributes            4092  CRC-32C of all before
//!      56  lengths of the names
//! ```

use crate::attributes::Attributes;
use crate::cells::EXTENT_BYTES;
use chrono::{DateTime, Utc};
use deepring::crc32c;
use std::sync::Arc;

/// A page: written whole or torn.
pub(crate) const RECORD_BYTES: usize = 4096;

const MAGIC: &[u8; 8] = b"deepring";
const VERSION: u32 = 2;
/// The most cells that an extent can have.
const CELLS_MAX: usize = 256;
const BITS: usize = 72;
const SUMS: usize = BITS + CELLS_MAX / 8;
const NAMES: usize = SUMS + CELLS_MAX * 4;
const SUM: usize = RECORD_BYTES - 4;
/// The length of what is not there.
const NONE: u16 = u16::MAX;
/// Where the length of the attributes is, and that of the first name.
const ATTRIBUTES_LEN: usize = 54;
const LENS: usize = 56;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) generation: u64,
    /// Of the object.
    pub(crate) size: u64,
    /// Which extent of the object.
    pub(crate) extent: u64,
    pub(crate) modified: DateTime<Utc>,
    /// Those of the object. `None`: they had no room.
    pub(crate) attributes: Option<Arc<Attributes>>,
    pub(crate) store: String,
    pub(crate) path: String,
    pub(crate) e_tag: String,
    pub(crate) version: Option<String>,
    /// The checksum of each cell that is there.
    pub(crate) sums: Vec<Option<u32>>,
}

/// Whether these names fit into a record.
pub(crate) fn has_room(store: &str, path: &str, e_tag: &str, version: Option<&str>) -> bool {
    store.len() + path.len() + e_tag.len() + version.map_or(0, str::len) <= SUM - NAMES
}

impl Record {
    /// Writes the record of a slot into [`RECORD_BYTES`] bytes. Its names fit.
    pub(crate) fn encode(&self, slot: u32, page: &mut [u8]) {
        page.fill(0);
        page[..8].copy_from_slice(MAGIC);
        put(page, 8, &VERSION.to_le_bytes());
        put(page, 12, &((EXTENT_BYTES / self.sums.len() as u64) as u32).to_le_bytes());
        put(page, 16, &self.generation.to_le_bytes());
        put(page, 24, &self.size.to_le_bytes());
        put(page, 32, &self.extent.to_le_bytes());
        put(page, 40, &self.modified.timestamp().to_le_bytes());
        put(page, 48, &self.modified.timestamp_subsec_nanos().to_le_bytes());
        put(page, 64, &u64::from(slot).to_le_bytes());
        for (cell, sum) in self.sums.iter().enumerate() {
            if let Some(sum) = sum {
                page[BITS + cell / 8] |= 1 << (cell % 8);
                put(page, SUMS + cell * 4, &sum.to_le_bytes());
            }
        }
        let names = [Some(&self.store), Some(&self.path), Some(&self.e_tag), self.version.as_ref()];
        let mut at = NAMES;
        for (number, name) in names.into_iter().enumerate() {
            let len = name.map_or(NONE, |name| name.len() as u16);
            put(page, LENS + number * 2, &len.to_le_bytes());
            if let Some(name) = name {
                put(page, at, name.as_bytes());
                at += name.len();
            }
        }
        let attributes =
            self.attributes.as_ref().and_then(|attributes| attributes.encode()).filter(|attributes| attributes.len() <= SUM - at);
        put(page, ATTRIBUTES_LEN, &attributes.as_ref().map_or(NONE, |attributes| attributes.len() as u16).to_le_bytes());
        put(page, at, attributes.as_deref().unwrap_or_default());
        let sum = crc32c(&page[..SUM]);
        put(page, SUM, &sum.to_le_bytes());
    }

    /// The record of a slot, if this is one, of a tier with cells of this size.
    pub(crate) fn decode(page: &[u8], slot: u32, cell: u64) -> Option<Self> {
        let u32_at = |at: usize| page.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        let u64_at = |at: usize| page.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        let is_record = page.len() == RECORD_BYTES
            && page[..8] == *MAGIC
            && u32_at(SUM)? == crc32c(&page[..SUM])
            && u32_at(8)? == VERSION
            && u64::from(u32_at(12)?) == cell
            && u64_at(64)? == u64::from(slot);
        if !is_record {
            return None;
        }
        let mut at = NAMES;
        // What has this length at its place: `Some(None)` if it is not there.
        let mut next = |place: usize| -> Option<Option<&[u8]>> {
            let len = u16::from_le_bytes(page[place..place + 2].try_into().ok()?);
            if len == NONE {
                return Some(None);
            }
            let bytes = page[..SUM].get(at..at + usize::from(len))?;
            at += usize::from(len);
            Some(Some(bytes))
        };
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
        let [store, path, e_tag] = [text(next(LENS)??)?, text(next(LENS + 2)??)?, text(next(LENS + 4)??)?];
        let version = next(LENS + 6)?.map(|bytes| text(bytes).ok_or(())).transpose().ok()?;
        let attributes = next(ATTRIBUTES_LEN)?.map(|bytes| Attributes::decode(bytes).ok_or(())).transpose().ok()?;
        let cells = usize::try_from(EXTENT_BYTES / cell).ok().filter(|&cells| cells <= CELLS_MAX)?;
        let sum = |cell: usize| (page[BITS + cell / 8] & 1 << (cell % 8) != 0).then(|| u32_at(SUMS + cell * 4)).flatten();
        Some(Self {
            generation: u64_at(16)?,
            size: u64_at(24)?,
            extent: u64_at(32)?,
            modified: DateTime::from_timestamp(u64_at(40)? as i64, u32_at(48)?)?,
            attributes: attributes.map(Arc::new),
            store,
            path,
            e_tag,
            version,
            sums: (0..cells).map(sum).collect(),
        })
    }
}

fn put(page: &mut [u8], at: usize, bytes: &[u8]) {
    page[at..at + bytes.len()].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::Name;
    use proptest::prelude::*;

    fn record(cells: usize, names: [&str; 3], version: Option<&str>) -> Record {
        Record {
            generation: 7,
            size: 123_456_789_012,
            extent: 5,
            modified: DateTime::from_timestamp(1_700_000_000, 123_456_789).expect("a time"),
            attributes: Some(Arc::new(Attributes(vec![
                (Name::ContentType, "text/plain".into()),
                (Name::Metadata("by".into()), "me".into()),
            ]))),
            store: names[0].into(),
            path: names[1].into(),
            e_tag: names[2].into(),
            version: version.map(Into::into),
            sums: (0..cells).map(|cell| (cell % 3 != 0).then_some(cell as u32 * 7919)).collect(),
        }
    }

    #[test]
    fn a_record_comes_back_only_in_its_slot_and_for_its_size_of_cells() {
        let mut page = vec![0xaa; RECORD_BYTES];
        for (cells, version) in [(1, None), (64, Some("")), (256, Some("v1"))] {
            let record = record(cells, ["s3://bucket", "a/ü.parquet", "\"etag\""], version);
            record.encode(9, &mut page);
            let cell = EXTENT_BYTES / cells as u64;
            assert_eq!(Record::decode(&page, 9, cell), Some(record));
            assert_eq!(Record::decode(&page, 8, cell), None);
            assert_eq!(Record::decode(&page, 9, cell * 2), None);
        }
        assert_eq!(Record::decode(&[0; RECORD_BYTES], 0, 64 << 10), None);
        assert_eq!(Record::decode(&[], 0, 64 << 10), None);
    }

    #[test]
    fn names_fit_to_the_last_byte() {
        let long = "x".repeat(SUM - NAMES - 2);
        assert!(has_room("s", &long, "e", None) && !has_room("s", &long, "e", Some("v")));
        let record = record(64, ["s", &long, "e"], None);
        let mut page = vec![0; RECORD_BYTES];
        record.encode(0, &mut page);
        assert_eq!(Record::decode(&page, 0, 64 << 10), Some(Record { attributes: None, ..record }));
    }

    #[test]
    fn attributes_have_what_the_names_leave() {
        let of = |path: &str| {
            let record = record(64, ["s", path, "e"], None);
            let mut page = vec![0xaa; RECORD_BYTES];
            record.encode(0, &mut page);
            let found = Record::decode(&page, 0, 64 << 10).expect("a record");
            assert!(found.attributes.is_none() || found.attributes == record.attributes);
            found.attributes.is_some()
        };
        let attributes = record(64, ["", "", ""], None).attributes.and_then(|attributes| attributes.encode()).expect("short ones");
        let most = SUM - NAMES - 2 - attributes.len();
        assert!(of("p") && of(&"p".repeat(most)) && !of(&"p".repeat(most + 1)));
    }

    proptest! {
        #[test]
        fn a_record_with_any_change_is_none(at in 0..RECORD_BYTES, change in 1u8..) {
            let mut page = vec![0; RECORD_BYTES];
            record(64, ["s3://bucket", "path", "etag"], None).encode(3, &mut page);
            page[at] ^= change;
            prop_assert_eq!(Record::decode(&page, 3, 64 << 10), None);
        }

        #[test]
        fn a_torn_record_is_the_old_one_the_new_one_or_none(sectors in prop::collection::vec(any::<bool>(), 8)) {
            let (mut old, mut new) = (vec![0; RECORD_BYTES], vec![0; RECORD_BYTES]);
            let (one, two) = (record(64, ["a", "b", "c"], None), record(64, ["d", "e", "f"], Some("g")));
            one.encode(3, &mut old);
            two.encode(3, &mut new);
            let torn: Vec<u8> = sectors.iter().enumerate().flat_map(|(sector, &is_new)| {
                if is_new { &new[sector * 512..][..512] } else { &old[sector * 512..][..512] }.to_vec()
            }).collect();
            let found = Record::decode(&torn, 3, 64 << 10);
            prop_assert!(found.is_none() || found.as_ref() == Some(&one) && torn == old || found.as_ref() == Some(&two) && torn == new);
        }
    }
}
