//! [`FileCheck`]: the bytes of a data file, compared with their checksums as they come.
//!
//! Every byte of a data file has a checksum: those in front of the data have one, and each chunk of each tensor has one. Both
//! are in the part of the writer. Where the chunks are is in the header, so that comes first.

use super::generation::DataFile;
use super::part::PartFile;
use crate::error::{Error, Fault, Reason, Result};
use crate::header::{self, LENGTH_BYTES};
use crate::names::Names;
use deepring::crc32c_append;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Compares the bytes of a data file with the checksums that the part of its writer lists, wherever the bytes come from. Made by
/// [`Listing::check`](super::Listing::check). Clones share it.
///
/// ```
/// # use deepring_tensors::checkpoint::{CheckpointOptions, Checkpoints, StoreOptions};
/// # use deepring_tensors::{DType, Declared, Error, Source};
/// # let directory = tempfile::tempdir().unwrap();
/// # let engine = deepring::Engine::builder().build()?;
/// # let store = Checkpoints::open(&engine, directory.path(), StoreOptions::new()).wait()?;
/// # let declared = Declared { name: "bias".into(), dtype: DType::U8, shape: vec![3] };
/// # let save = store.save(vec![Source { declared, data: vec![1u8, 2, 3] }], CheckpointOptions::new());
/// # let number = save.wait()?.commit().wait()?.number;
/// # let directory = directory.path().join(format!("{number:012}"));
/// let listing = store.generation(number).wait()?.listing().wait()?;
/// let mut bytes = std::fs::read(directory.join(&listing.files()[0].name))?;
/// let header_bytes = listing.header_bytes(0, &bytes)?;
/// let check = listing.check(0, &bytes[..header_bytes as usize])?;
/// let mut run = check.run(0)?;
/// run.update(&bytes)?;
/// run.end()?;
///
/// *bytes.last_mut().unwrap() ^= 1;
/// let damage = check.run(0)?.update(&bytes).unwrap_err();
/// assert!(matches!(damage, Error::Checksum { tensor, .. } if tensor == "bias"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct FileCheck(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    names: Names,
    /// One behind the other, from the first byte of the file to its last.
    spans: Vec<Span>,
    bytes: u64,
}

/// Bytes that have one checksum.
#[derive(Debug, Clone, Copy)]
struct Span {
    position: u64,
    len: u64,
    expected: u32,
    /// `None`: the header.
    tensor: Option<u32>,
}

impl Span {
    fn end(&self) -> u64 {
        self.position + self.len
    }
}

impl FileCheck {
    /// Of a data file with this header, whose tensors have checksums of chunks of this size.
    pub(super) fn new(file: &DataFile, listed: &PartFile, chunk: u64, text: &[u8], path: &Path) -> Result<Self> {
        let check = || {
            let start = text.len() as u64;
            let json = text.get(LENGTH_BYTES as usize..).unwrap_or_default();
            let header = header::parse(json, listed.bytes.saturating_sub(start), true)?;
            file.check(text, &header, listed.bytes)?;
            let columns = header.columns;
            let places = listed.places(chunk, columns.lens.iter().copied())?;
            let mut spans = Vec::with_capacity(listed.crcs.len() + 1);
            spans.push(Span { position: 0, len: start, expected: listed.header_crc, tensor: None });
            for (tensor, (&begin, &len)) in columns.begins.iter().zip(&columns.lens).enumerate() {
                let crcs = &listed.crcs[places[tensor]..places[tensor + 1]];
                spans.extend((0u64..).zip(crcs).map(|(nth, &expected)| Span {
                    position: start + begin + nth * chunk,
                    len: chunk.min(len - nth * chunk),
                    expected,
                    tensor: Some(tensor as u32),
                }));
            }
            Ok(Self(Arc::new(Inner { path: path.to_owned(), names: columns.names, spans, bytes: listed.bytes })))
        };
        check().map_err(|fault: Fault| fault.at(path))
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// Where the data begins: bytes of the header, with what is in front of it.
    pub fn header_bytes(&self) -> u64 {
        self.0.spans[0].len
    }

    /// The data in pieces that begin and end with a chunk, so that each can be checked for itself. Each has at least one chunk,
    /// and no more bytes than this if it has several.
    pub fn pieces(&self, bytes_max: u64) -> Vec<Range<u64>> {
        let mut pieces: Vec<Range<u64>> = Vec::new();
        for span in &self.0.spans[1..] {
            match pieces.last_mut() {
                Some(last) if span.end() - last.start <= bytes_max => last.end = span.end(),
                _ => pieces.push(span.position..span.end()),
            }
        }
        pieces
    }

    /// Begins to check bytes at this position, which must be 0 or the begin of a chunk.
    ///
    /// # Errors
    /// [`Error::Argument`] for every other position.
    pub fn run(&self, position: u64) -> Result<CheckRun> {
        let spans = &self.0.spans;
        let found = if position == self.bytes() { Ok(spans.len()) } else { spans.binary_search_by_key(&position, |span| span.position) };
        let next = found.map_err(|_| Error::Argument(format!("no chunk begins at {position}, '{}'", self.0.path.display())))?;
        Ok(CheckRun { check: self.clone(), next, done: 0, crc: 0 })
    }

    /// How many checksums there are.
    pub(super) fn spans(&self) -> usize {
        self.0.spans.len()
    }

    /// The path, for errors.
    pub(super) fn path(&self) -> &Path {
        &self.0.path
    }
}

/// Bytes of a data file that are checked one behind the other. Made by [`FileCheck::run`].
///
/// ```
/// # use deepring_tensors::checkpoint::{CheckpointOptions, Checkpoints, StoreOptions};
/// # use deepring_tensors::{DType, Declared, Source};
/// # let directory = tempfile::tempdir().unwrap();
/// # let engine = deepring::Engine::builder().build()?;
/// # let store = Checkpoints::open(&engine, directory.path(), StoreOptions::new()).wait()?;
/// # let declared = Declared { name: "bias".into(), dtype: DType::U8, shape: vec![3] };
/// # let save = store.save(vec![Source { declared, data: vec![1u8, 2, 3] }], CheckpointOptions::new());
/// # let number = save.wait()?.commit().wait()?.number;
/// # let directory = directory.path().join(format!("{number:012}"));
/// # let listing = store.generation(number).wait()?.listing().wait()?;
/// # let bytes = std::fs::read(directory.join(&listing.files()[0].name))?;
/// # let check = listing.check(0, &bytes[..listing.header_bytes(0, &bytes)? as usize])?;
/// let mut run = check.run(check.header_bytes())?;
/// for byte in &bytes[check.header_bytes() as usize..] {
///     run.update(std::slice::from_ref(byte))?; // in any portions
/// }
/// assert_eq!(run.position(), check.bytes());
/// run.end()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct CheckRun {
    check: FileCheck,
    /// The span that is being checked.
    next: usize,
    /// Bytes of it that have come, and their checksum.
    done: u64,
    crc: u32,
}

impl CheckRun {
    /// Where the next byte is in the file.
    pub fn position(&self) -> u64 {
        self.check.0.spans.get(self.next).map_or(self.check.bytes(), |span| span.position + self.done)
    }

    /// Checks the bytes that come next.
    ///
    /// # Errors
    /// [`Error::Checksum`] for the first chunk that does not have its checksum; [`Error::Format`] if that is the header, or if
    /// bytes follow the end of the file.
    pub fn update(&mut self, mut bytes: &[u8]) -> Result<()> {
        let inner = &*self.check.0;
        while !bytes.is_empty() {
            let Some(span) = inner.spans.get(self.next) else {
                let detail = format!("{} bytes or more follow the end of the file", bytes.len());
                return Err(Fault::new(Reason::Trailing, detail).at(&inner.path));
            };
            let (now, rest) = bytes.split_at(bytes.len().min((span.len - self.done) as usize));
            (self.crc, self.done, bytes) = (crc32c_append(self.crc, now), self.done + now.len() as u64, rest);
            if self.done < span.len {
                break;
            }
            let (actual, expected) = (std::mem::take(&mut self.crc), span.expected);
            (self.next, self.done) = (self.next + 1, 0);
            if actual != expected {
                return Err(match span.tensor {
                    Some(tensor) => {
                        let (tensor, path) = (inner.names.get(tensor as usize).to_owned(), inner.path.clone());
                        Error::Checksum { tensor, path, position: span.position, expected, actual }
                    }
                    None => Fault::new(Reason::Part, format!("the checksum of its header is {actual:#010x}, not {expected:#010x}"))
                        .at(&inner.path),
                });
            }
        }
        Ok(())
    }

    /// Ends, which it can only behind a whole chunk.
    ///
    /// # Errors
    /// [`Error::Format`] if bytes of a chunk are missing.
    pub fn end(self) -> Result<()> {
        if self.done == 0 {
            return Ok(());
        }
        let detail = format!("the bytes end at {}, inside of a chunk", self.position());
        Err(Fault::new(Reason::Truncated, detail).at(&self.check.0.path))
    }

    /// The checksums that have been compared so far: those before this one.
    pub(super) fn next(&self) -> usize {
        self.next
    }
}
