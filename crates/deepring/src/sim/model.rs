//! The oracle: what a file must hold, and which alternatives are allowed.
//!
//! Every request writes its own content, a function of its number and the position, so a byte names
//! its writer. A write that succeeded makes its range certain. Where a write failed, the bytes that
//! it did not report as transferred have an *alternative*: each is the old or the new one.
//!
//! Apart from such bytes only the length can be uncertain: while truncations and writes race, and
//! after a dropped operation, whose outcome the client never sees. It then lies between two bounds.
//! A file without unsettled requests is read and checked, and from then on all of it is certain
//! again.

use super::prng::mix;

/// The bytes that the writer `salt` puts at `position`. They are odd, so neither a hole nor
/// [`super::buffer::UNREAD`] looks like them.
pub(crate) fn fill(bytes: &mut [u8], position: u64, salt: u64) {
    let mut at = position;
    let mut rest = bytes;
    while !rest.is_empty() {
        let word = word(at >> 3, salt);
        let skip = (at & 7) as usize;
        let (now, later) = rest.split_at_mut((8 - skip).min(rest.len()));
        now.copy_from_slice(&word[skip..skip + now.len()]);
        at += now.len() as u64;
        rest = later;
    }
}

fn word(index: u64, salt: u64) -> [u8; 8] {
    (mix(index ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 0x0101_0101_0101_0101).to_le_bytes()
}

/// The byte that the writer `salt` puts at `position`.
pub(crate) fn byte(position: u64, salt: u64) -> u8 {
    word(position >> 3, salt)[(position & 7) as usize]
}

/// Bytes that are allowed in place of the certain ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Alternative {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// The writer of the bytes; `None` for zeros.
    pub(crate) writer: Option<u64>,
}

impl Alternative {
    fn explains(&self, position: u64, found: u8) -> bool {
        (self.start..self.end).contains(&position) && self.writer.map_or(0, |salt| byte(position, salt)) == found
    }
}

/// An unsettled request that can change the file while another request uses it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConcurrentChange {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) salt: u64,
    /// It truncates the file to this size.
    pub(crate) truncates: Option<u64>,
}

impl ConcurrentChange {
    /// The largest end of the file that it can cause.
    pub(crate) fn reach(&self) -> u64 {
        self.end.max(self.truncates.unwrap_or(0))
    }
}

/// What a read of a range can find, as of one moment.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) start: u64,
    /// The certain bytes; zeros beyond what was ever written.
    pub(crate) bytes: Vec<u8>,
    pub(crate) alternatives: Vec<Alternative>,
}

impl View {
    fn explains(&self, index: usize, found: u8) -> bool {
        let position = self.start + index as u64;
        self.bytes.get(index) == Some(&found) || self.alternatives.iter().any(|alternative| alternative.explains(position, found))
    }

    /// The first byte of `found` that nothing explains.
    pub(crate) fn mismatch(&self, found: &[u8]) -> Option<String> {
        let certain = found.len().min(self.bytes.len());
        let begin = if found[..certain] == self.bytes[..certain] { certain } else { 0 };
        let index = (begin..found.len()).find(|&index| !self.explains(index, found[index]))?;
        let wrong = (index..found.len()).take_while(|&index| !self.explains(index, found[index])).count();
        let expected = self.bytes.get(index).map_or_else(|| "nothing".into(), |byte| format!("{byte:#04x}"));
        Some(format!("{wrong} bytes from {} on are wrong: {:#04x} in place of {expected}", self.start + index as u64, found[index]))
    }
}

#[derive(Debug)]
pub(crate) struct Model {
    bytes: Vec<u8>,
    alternatives: Vec<Alternative>,
    /// The bounds of the length.
    pub(crate) size_min: u64,
    pub(crate) size_max: u64,
}

impl Model {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        let size = bytes.len() as u64;
        Self { bytes, alternatives: Vec::new(), size_min: size, size_max: size }
    }

    /// What a read of this range can find. Ends at the largest length that the file can have.
    pub(crate) fn view(&self, start: u64, end: u64) -> View {
        let (end, len) = (end.min(self.size_max).max(start), self.bytes.len() as u64);
        let mut bytes = self.bytes[start.min(len) as usize..end.min(len) as usize].to_vec();
        bytes.resize((end - start) as usize, 0);
        View { start, bytes, alternatives: self.alternatives.clone() }
    }

    fn reach(&mut self, end: u64) {
        if self.bytes.len() < end as usize {
            self.bytes.resize(end as usize, 0);
        }
    }

    /// The writer `salt` has surely written this range.
    pub(crate) fn write(&mut self, start: u64, end: u64, salt: u64) {
        if start >= end {
            return;
        }
        self.reach(end);
        fill(&mut self.bytes[start as usize..end as usize], start, salt);
        self.clear_alternatives(start, end);
        self.size_min = self.size_min.max(end);
        self.size_max = self.size_max.max(end);
    }

    fn clear_alternatives(&mut self, start: u64, end: u64) {
        let halves = |alternative: Alternative| {
            [
                Alternative { end: alternative.end.min(start), ..alternative },
                Alternative { start: alternative.start.max(end), ..alternative },
            ]
        };
        self.alternatives =
            self.alternatives.drain(..).flat_map(halves).filter(|alternative| alternative.start < alternative.end).collect();
    }

    /// The range can also hold the bytes of this writer.
    pub(crate) fn allow(&mut self, start: u64, end: u64, writer: Option<u64>) {
        if start < end {
            self.alternatives.push(Alternative { start, end, writer });
        }
    }

    /// The file was truncated, or extended with zeros, to `size`. `raced`: changes that came before
    /// or after it.
    pub(crate) fn truncate(&mut self, size: u64, raced: &[ConcurrentChange]) {
        self.bytes.truncate(size as usize);
        self.clear_alternatives(size, u64::MAX);
        (self.size_min, self.size_max) = (size, size);
        for change in raced.iter().filter(|change| change.end > size) {
            self.allow(change.start.max(size), change.end, Some(change.salt));
            self.size_max = self.size_max.max(change.end);
        }
    }

    /// The file was found with this length and these bytes, and they have been checked.
    pub(crate) fn resolve(&mut self, found: Vec<u8>) {
        let size = found.len() as u64;
        (self.size_min, self.size_max) = (size, size);
        self.bytes = found;
        self.alternatives.clear();
    }
}
