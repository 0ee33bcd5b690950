//! Reads: an object's description, its bytes in one chunk or in many, and ranges of it.
//!
//! Reads go to whole units of direct I/O in memory of the engine, of which the caller gets the part that was asked for:
//! nothing is copied. An object that is replaced meanwhile goes on being read, because its file stays until it is closed.

use crate::failure::{Failure, Kind, Use};
use crate::ranges::{self, Fetch, Plan, Shape, widened};
use crate::stats::length;
use crate::store::DeepringStore;
use crate::version::Version;
use bytes::Bytes;
use deepring::{Direct, File, FileStat, ManyOptions, OpenOptions, Piece};
use futures_util::stream::{self, BoxStream, StreamExt};
use std::fs::Metadata;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Reads of files whose direct I/O needs no alignment are widened to this: a page is read as fast as a byte.
const UNIT_MIN: u64 = 512;

/// What describes an object.
#[derive(Debug, Clone)]
pub(crate) struct Meta {
    pub(crate) location: String,
    pub(crate) modified_ns: i128,
    pub(crate) size: u64,
    pub(crate) version: Version,
}

impl Meta {
    pub(crate) fn of(location: String, stat: &FileStat) -> Self {
        Self { location, modified_ns: stat.mtime_ns, size: stat.size, version: Version::of(stat) }
    }

    pub(crate) fn of_metadata(location: String, found: &Metadata) -> Self {
        let version = Version::of_metadata(found);
        Self { location, modified_ns: version.time_ns(), size: found.len(), version }
    }
}

/// An object that is open.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    store: DeepringStore,
    path: Arc<Path>,
    file: Arc<File>,
    pub(crate) meta: Meta,
}

impl DeepringStore {
    /// Opens an object.
    pub(crate) async fn open(&self, location: &str) -> Result<Opened, Failure> {
        let path = self.file_to_read(location)?;
        let options = OpenOptions::new().read(true).direct(self.settings().direct);
        let file = self.engine().open_async(&path, options).await.map_err(|error| Failure::of(error, &path, Use::Finds))?;
        let stat = file.stat_at_open();
        if stat.mode & libc::S_IFMT != libc::S_IFREG {
            return Err(no_object(&path));
        }
        Ok(Opened { store: self.clone(), path: path.into(), file: Arc::new(file), meta: Meta::of(location.to_owned(), &stat) })
    }

    /// Describes an object without opening it.
    pub(crate) async fn describe(&self, location: &str) -> Result<Meta, Failure> {
        let (path, location) = (self.file_to_read(location)?, location.to_owned());
        let file = path.clone();
        self.job(&path, move |_| {
            let found = file.metadata().map_err(|error| Failure::of_io(error, &file, Use::Finds))?;
            if found.is_file() { Ok(Meta::of_metadata(location, &found)) } else { Err(no_object(&file)) }
        })
        .await
    }

    /// The file of an object, where the root of the store is none.
    fn file_to_read(&self, location: &str) -> Result<PathBuf, Failure> {
        if location.is_empty() { Err(no_object(self.prefix())) } else { self.file_of(location) }
    }
}

impl Opened {
    /// The unit to which reads are widened: none through the page cache alone.
    fn unit(&self) -> u64 {
        let support = self.file.direct_support();
        if support.available && self.store.settings().direct != Direct::Never {
            u64::from(support.offset_alignment).max(UNIT_MIN)
        } else {
            1
        }
    }

    /// The bytes of a range, which is inside the object: in one chunk, or read ahead of the consumer in many.
    pub(crate) fn stream(self, range: Range<u64>) -> BoxStream<'static, Result<Bytes, Failure>> {
        let settings = *self.store.settings();
        if range.is_empty() {
            return stream::empty().boxed();
        }
        if length(&range) <= settings.whole_max {
            return stream::once(self.read(range)).boxed();
        }
        stream::iter(ranges::chunks(range, settings.chunk)).map(move |part| self.clone().read(part)).buffered(settings.ahead).boxed()
    }

    /// Reads one range, which is inside the object and not empty.
    async fn read(self, range: Range<u64>) -> Result<Bytes, Failure> {
        let wide = widened(&range, self.unit());
        let len = usize::try_from(length(&wide)).map_err(|error| Failure::new(Kind::Other, &self.path, error))?;
        let read = self.file.read_buffer_at(wide.start, len).await.ok();
        let (buffer, receipt) = read.map_err(|error| Failure::of(error, &self.path, Use::Makes))?;
        self.store.counters().read(1, 1, length(&range), &receipt);
        if wide.start + receipt.bytes < range.end {
            return Err(self.shortened(&range));
        }
        let (start, end) = (range.start - wide.start, range.end - wide.start);
        Ok(Bytes::from_owner(buffer).slice(start as usize..end as usize))
    }

    /// Reads many ranges at once.
    pub(crate) async fn read_ranges(&self, asked: &[Range<u64>]) -> Result<Vec<Bytes>, Failure> {
        let size = self.meta.size;
        if let Some(Range { start, end }) = asked.iter().find(|range| range.start > range.end || range.end > size) {
            let why = format!("the range {start}..{end} is not inside the object, which has {size} bytes");
            return Err(Failure::new(Kind::Other, &self.path, why));
        }
        let settings = self.store.settings();
        let plan = ranges::plan(asked, Shape { unit: self.unit(), gap: settings.gap, fetch_max: settings.fetch_max });
        if plan.fetches.is_empty() {
            return Ok(vec![Bytes::new(); asked.len()]);
        }
        let (buffers, counts) = self.fetch(&plan, asked).await?;
        let mut results = Vec::with_capacity(asked.len());
        for (range, &number) in asked.iter().zip(&plan.of_range) {
            if range.is_empty() {
                results.push(Bytes::new());
                continue;
            }
            let fetch = &plan.fetches[number];
            let start = range.start - fetch.range.start;
            if start + length(range) > counts[number] {
                return Err(self.shortened(range));
            }
            let at = (fetch.offset + start) as usize;
            results.push(buffers[fetch.buffer].slice(at..at + length(range) as usize));
        }
        Ok(results)
    }

    /// Reads what was planned. Returns the buffers, and what came of each read.
    async fn fetch(&self, plan: &Plan, asked: &[Range<u64>]) -> Result<(Vec<Bytes>, Vec<u64>), Failure> {
        let failed = |error| Failure::of(error, &self.path, Use::Makes);
        let allocate = |&len: &u64| self.store.engine().pooled_buffer(usize::try_from(len).unwrap_or(usize::MAX)).map_err(failed);
        let buffers = plan.buffers.iter().map(allocate).collect::<Result<Vec<_>, _>>()?;
        // Pieces count through the buffers, one behind the other.
        let mut end = 0;
        let start_of = |len: &u64| {
            end += len;
            end - len
        };
        let starts: Vec<u64> = plan.buffers.iter().map(start_of).collect();
        let piece = |fetch: &Fetch| {
            let offset = starts[fetch.buffer] + fetch.offset;
            Piece::new(fetch.range.start, offset as usize, length(&fetch.range) as usize)
        };
        let pieces: Vec<Piece> = plan.fetches.iter().map(piece).collect();
        let read = self.file.read_scatter_vectored(buffers, &pieces, ManyOptions::new()).await;
        let (read, receipt) = read.ok().map_err(failed)?;
        self.store.counters().read(asked.len(), pieces.len(), asked.iter().map(length).sum(), &receipt);
        let counts = read.counts();
        Ok((read.buf.into_iter().map(Bytes::from_owner).collect(), counts))
    }

    fn shortened(&self, Range { start, end }: &Range<u64>) -> Failure {
        let why = format!("the object became shorter while {start}..{end} was read: something else than a store has written to it");
        Failure::new(Kind::Other, &self.path, why)
    }
}

fn no_object(path: &Path) -> Failure {
    Failure::new(Kind::NotFound, path, "there is a directory, or something else that is no file")
}
