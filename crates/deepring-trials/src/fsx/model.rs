//! [`Model`]: what the file must hold, and where each of its bytes comes from.

use super::content::{self, Origin};
use super::script::Range;
use std::fmt::Write as _;

/// The file as it must be.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) bytes: Vec<u8>,
    /// What happened to it, oldest first.
    log: Vec<Event>,
    /// The largest position and the number of operations of the script, which tell a word of its
    /// content from random bytes.
    pub(crate) file_max: u64,
    pub(crate) generations: u32,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Wrote {
        generation: u32,
        range: Range,
    },
    /// Canceled: new bytes or old ones.
    MayHaveWritten {
        generation: u32,
        range: Range,
    },
    Zeroed(Range),
    Cut(u64),
}

impl Model {
    pub(crate) fn new(file_max: u64, generations: u32) -> Self {
        Self { file_max, generations, ..Self::default() }
    }

    pub(crate) fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The bytes at `position..position + len`; zeros beyond the end.
    pub(crate) fn piece(&self, position: u64, len: usize) -> Vec<u8> {
        let mut piece = self.there(Range { position, len: len as u64 }).to_vec();
        piece.resize(len, 0);
        piece
    }

    /// The part of the range that exists.
    pub(crate) fn there(&self, range: Range) -> &[u8] {
        let start = range.position.min(self.size()) as usize;
        &self.bytes[start..range.end().clamp(start as u64, self.size()) as usize]
    }

    // ---- what operations do ----

    pub(crate) fn write(&mut self, range: Range, generation: u32) {
        if range.len == 0 {
            return;
        }
        if range.end() > self.size() {
            self.bytes.resize(range.end() as usize, 0);
        }
        content::fill(&mut self.bytes[range.position as usize..range.end() as usize], range.position, generation);
        self.log.push(Event::Wrote { generation, range });
    }

    /// A canceled write left these bytes.
    pub(crate) fn adopt(&mut self, range: Range, generation: u32, found: &[u8]) {
        if found.is_empty() {
            return;
        }
        let start = range.position as usize;
        self.bytes[start..start + found.len()].copy_from_slice(found);
        self.log.push(Event::MayHaveWritten { generation, range });
    }

    pub(crate) fn set_len(&mut self, size: u64) {
        if size < self.size() {
            self.log.push(Event::Cut(size));
        }
        self.bytes.resize(size as usize, 0);
    }

    pub(crate) fn zero(&mut self, range: Range) {
        let (start, end) = (range.position.min(self.size()), range.end().min(self.size()));
        self.bytes[start as usize..end as usize].fill(0);
        self.log.push(Event::Zeroed(range));
    }

    // ---- what went wrong ----

    /// `None` if `found`, at `position`, is as expected; otherwise a description of the difference.
    /// A different length does not count.
    pub(crate) fn difference(&self, found: &[u8], position: u64) -> Option<String> {
        let there = self.there(Range { position, len: found.len() as u64 });
        if &found[..there.len()] == there {
            return None;
        }
        Some(self.describe(&found[..there.len()], there, position))
    }

    /// Describes how `found` differs from `expected`, which must be at `position`.
    pub(crate) fn describe(&self, found: &[u8], expected: &[u8], position: u64) -> String {
        let is_wrong = |at: &usize| found[*at] != expected[*at];
        let wrong: Vec<usize> = (0..found.len().min(expected.len())).filter(is_wrong).collect();
        let (Some(&first), Some(&last)) = (wrong.first(), wrong.last()) else { return "only the length is wrong".into() };
        let name = |at: usize| self.name(found, at, (at..found.len()).take_while(is_wrong).count(), position);
        let (here, there) = (position + first as u64, position + last as u64);
        let (found, expected) = (name(first), self.history(here));
        let mut what = format!("at {here} found {found}; expected {expected}");
        if wrong.len() > 1 {
            let _ = write!(what, "; {} bytes are wrong, the last at {there}: {}", wrong.len(), name(last));
        }
        what
    }

    /// Describes the `run` bytes from `found[at]` on; `found` begins at `position` of the file.
    fn name(&self, found: &[u8], at: usize, run: usize, position: u64) -> String {
        let here = position + at as u64;
        let piece = &found[at..at + run];
        if piece.iter().all(|&byte| byte == 0) {
            return "zeros".into();
        }
        match content::origin(found, at, self.file_max + found.len() as u64, self.generations) {
            Some(Origin { position, generation }) if position == here => {
                format!("bytes of write #{generation}, which belong here but are stale or early")
            }
            Some(Origin { position, generation }) => format!("bytes that belong at {position} of write #{generation}"),
            None => {
                let written = (1..=self.generations).find(|&generation| content::bytes(here, run, generation) == piece);
                let stale = |generation| format!("bytes of write #{generation}, which belong here but are stale or early");
                written.map_or_else(|| format!("bytes that were never written, {:02x?}", &piece[..run.min(8)]), stale)
            }
        }
    }

    /// Where the byte at `position` comes from.
    fn history(&self, position: u64) -> String {
        let holds = |range: Range| range.position <= position && position < range.end();
        for event in self.log.iter().rev() {
            match *event {
                Event::Wrote { generation, range } if holds(range) => return format!("bytes of write #{generation}"),
                Event::MayHaveWritten { generation, range } if holds(range) => {
                    return format!("what was found there after write #{generation} was canceled");
                }
                Event::Zeroed(range) if holds(range) => return "the zeros of a hole that was punched".into(),
                Event::Cut(size) if position >= size => return "the zeros of a file that was truncated and grew again".into(),
                _ => {}
            }
        }
        "the zeros of a range that was never written".into()
    }
}
