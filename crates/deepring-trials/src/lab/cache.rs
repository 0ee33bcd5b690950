//! A drive with a volatile write cache, for nbdkit to serve (`examples/drive.rs` is the plugin).
//!
//! ```text
//!   write ──> journal (in order) ──flush──> image          read: the newest in the cache, else the image
//!                   │
//!              power cut: cut.rs decides which of the journal reaches the image
//! ```
//!
//! A write goes to a journal file and into memory. A flush writes everything to the image and
//! empties the journal. To cut the drive's power, its process is killed. The image then holds what
//! was flushed, and the journal, which is only a record for the lab, what was not. A write with FUA
//! is marked in the journal, and no cut loses it.
//!
//! The drive flushes by itself when the cache is full, as real ones do.

use super::content::SECTOR_BYTES;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// More than one run of the writer leaves unflushed, so that the drive rarely flushes by itself.
pub const CACHE_BYTES_MAX: u64 = 128 << 20;

const PAGE_BYTES: usize = 4096;
const HEADER_BYTES: usize = 16;

/// The drive: an image and a cache in front of it.
#[derive(Debug)]
pub struct WriteCache {
    image: File,
    journal: File,
    bytes: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE_BYTES]>>,
    journaled_bytes: u64,
}

impl WriteCache {
    /// A drive with an empty cache. The journal of the last cut must have been settled.
    ///
    /// # Errors
    /// Those of the files; a journal that is not empty; an image that ends inside a page.
    pub fn open(image: &Path, journal: &Path) -> io::Result<Self> {
        let image = OpenOptions::new().read(true).write(true).open(image)?;
        let journal = OpenOptions::new().append(true).create(true).open(journal)?;
        let bytes = image.metadata()?.len();
        if journal.metadata()?.len() != 0 || !bytes.is_multiple_of(PAGE_BYTES as u64) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an unsettled journal, or an image that ends inside a page"));
        }
        Ok(Self { image, journal, bytes, pages: BTreeMap::new(), journaled_bytes: 0 })
    }

    /// The drive's size.
    pub fn len(&self) -> u64 {
        self.bytes
    }

    /// Whether the drive has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Reads what was written last.
    ///
    /// # Errors
    /// Those of the image.
    pub fn read(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        self.image.read_exact_at(out, offset)?;
        let end = offset + out.len() as u64;
        let first_page = offset / PAGE_BYTES as u64;
        for (page, content) in self.pages.range(first_page..end.div_ceil(PAGE_BYTES as u64)) {
            let start = page * PAGE_BYTES as u64;
            let (from, to) = (start.max(offset), (start + PAGE_BYTES as u64).min(end));
            let part = &content[(from - start) as usize..(to - start) as usize];
            out[(from - offset) as usize..(to - offset) as usize].copy_from_slice(part);
        }
        Ok(())
    }

    /// Takes a write into the cache. `forced` writes (FUA) survive every cut.
    ///
    /// # Errors
    /// Those of image and journal; a range that does not consist of whole sectors of the drive.
    pub fn write(&mut self, data: &[u8], offset: u64, forced: bool) -> io::Result<()> {
        let end = offset + data.len() as u64;
        if end > self.bytes || !offset.is_multiple_of(SECTOR_BYTES) || !end.is_multiple_of(SECTOR_BYTES) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not sectors of this drive"));
        }
        let mut record = Vec::with_capacity(HEADER_BYTES + data.len());
        record.extend(offset.to_le_bytes());
        record.extend((data.len() as u32).to_le_bytes());
        record.extend(u32::from(forced).to_le_bytes());
        record.extend(data);
        self.journal.write_all(&record)?;
        self.journaled_bytes += data.len() as u64;
        let mut at = offset;
        while at < end {
            let page = at / PAGE_BYTES as u64;
            let start = page * PAGE_BYTES as u64;
            let to = (start + PAGE_BYTES as u64).min(end);
            let content = match self.pages.entry(page) {
                std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::btree_map::Entry::Vacant(new) => {
                    let mut content = Box::new([0; PAGE_BYTES]);
                    self.image.read_exact_at(&mut content[..], start)?;
                    new.insert(content)
                }
            };
            content[(at - start) as usize..(to - start) as usize].copy_from_slice(&data[(at - offset) as usize..(to - offset) as usize]);
            at = to;
        }
        if self.journaled_bytes > CACHE_BYTES_MAX { self.flush() } else { Ok(()) }
    }

    /// Writes the cache to the image. If it is killed before the end, the journal is still whole,
    /// so that a cut can still tear it.
    ///
    /// # Errors
    /// Those of image and journal.
    pub fn flush(&mut self) -> io::Result<()> {
        for (page, content) in &self.pages {
            self.image.write_all_at(&content[..], page * PAGE_BYTES as u64)?;
        }
        self.journal.set_len(0)?;
        self.pages.clear();
        self.journaled_bytes = 0;
        Ok(())
    }
}

/// A write that was in the cache at the power cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unflushed {
    /// Where on the drive.
    pub offset: u64,
    /// With FUA: it was durable when it was answered.
    pub forced: bool,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// Reads the journal of a drive that was killed. An incomplete record was not answered, and is left
/// out.
///
/// # Errors
/// Those of the file.
pub fn unflushed(journal: &Path) -> io::Result<Vec<Unflushed>> {
    let mut file = match File::open(journal) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    let (mut writes, mut rest) = (Vec::new(), &bytes[..]);
    while let Some((header, after)) = rest.split_first_chunk::<HEADER_BYTES>() {
        let (offset, sizes) = header.split_at(8);
        let offset = offset.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte));
        let (len, forced) = sizes.split_at(4);
        let len = len.iter().rev().fold(0, |number, &byte| number << 8 | usize::from(byte));
        let Some((data, next)) = after.split_at_checked(len) else { break };
        writes.push(Unflushed { offset, forced: forced[0] != 0, data: data.to_vec() });
        rest = next;
    }
    Ok(writes)
}
