//! [`Sums`]: the checksums that files state of the bytes of tensors, one for each chunk.

use deepring::crc32c_combine;

/// The chunk of files that state one checksum for a whole tensor.
const WHOLE: u64 = u64::MAX;

/// Stands for a tensor of whose bytes nothing is stated.
const NONE: u32 = u32::MAX;

/// Checksums of tensors, and of the pieces of those that are split.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    crcs: Vec<u32>,
    /// Where those of a tensor begin, by its index.
    tensors: Vec<u32>,
    /// The same of a tile, by its number.
    tiles: Vec<u32>,
    /// Bytes that one checksum covers, by file.
    chunks: Vec<u64>,
}

/// Bytes that have one checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Where they begin in the tensor or tile.
    pub(crate) at: u64,
    pub(crate) len: u64,
    /// The number of the checksum.
    pub(crate) sum: u32,
}

/// Bytes of a file that have a checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summed {
    pub(crate) file: u32,
    pub(crate) position: u64,
    pub(crate) len: u64,
    /// The index of the tensor.
    pub(crate) tensor: u32,
    /// The number of the checksum.
    pub(crate) sum: u32,
}

impl Sums {
    /// One for each tensor, where it is known. `files` is how many files there are.
    pub(crate) fn of_tensors(known: Vec<Option<u32>>, files: usize) -> Self {
        let mut sums = Self { chunks: vec![WHOLE; files], ..Self::default() };
        if known.iter().any(Option::is_some) {
            sums.tensors.reserve_exact(known.len());
            for crc in known {
                sums.add(crc.is_some().then_some(crc.as_slice()));
            }
        }
        sums
    }

    /// Of files with chunks of these sizes; of no tensor so far.
    pub(crate) fn of_chunks(chunks: Vec<u64>) -> Self {
        Self { chunks, ..Self::default() }
    }

    /// Adds those of the chunks of the next tensor, if they are known.
    pub(crate) fn add(&mut self, crcs: Option<&[u32]>) {
        let first = self.push(crcs);
        self.tensors.push(first);
    }

    /// Adds those of the next tile.
    pub(crate) fn add_tile(&mut self, crcs: &[u32]) {
        let first = self.push(Some(crcs));
        self.tiles.push(first);
    }

    fn push(&mut self, crcs: Option<&[u32]>) -> u32 {
        let Some(crcs) = crcs else { return NONE };
        let first = self.crcs.len() as u32;
        self.crcs.extend_from_slice(crcs);
        first
    }

    /// Whether nothing is known of any tensor.
    pub(crate) fn is_empty(&self) -> bool {
        self.tensors.is_empty() && self.tiles.is_empty()
    }

    /// The checksum of this number.
    pub(crate) fn get(&self, sum: u32) -> u32 {
        self.crcs[sum as usize]
    }

    /// The number of the first checksum of a tensor in one piece.
    pub(crate) fn of_tensor(&self, index: usize) -> Option<u32> {
        self.tensors.get(index).copied().filter(|&first| first != NONE)
    }

    /// The number of the first checksum of a tile.
    pub(crate) fn of_tile(&self, number: u32) -> Option<u32> {
        self.tiles.get(number as usize).copied().filter(|&first| first != NONE)
    }

    /// The chunks of a tensor or tile of `len` bytes in this file, of which this is the first checksum.
    pub(crate) fn chunks(&self, first: u32, file: usize, len: u64) -> impl Iterator<Item = Chunk> + use<> {
        let chunk = self.chunks[file];
        (0..len.div_ceil(chunk)).map(move |nth| Chunk { at: nth * chunk, len: chunk.min(len - nth * chunk), sum: first + nth as u32 })
    }

    /// The chunks that have bytes in this part of a tensor or tile.
    pub(crate) fn chunks_of(&self, first: u32, file: usize, len: u64, from: u64, part: u64) -> impl Iterator<Item = Chunk> + use<> {
        let chunk = self.chunks[file];
        let (begin, end) = (from / chunk, (from + part).div_ceil(chunk));
        (begin..end).map(move |nth| Chunk { at: nth * chunk, len: chunk.min(len - nth * chunk), sum: first + nth as u32 })
    }

    /// The chunks of a tensor or tile, of which this is the first checksum if there are any, where they are in its file.
    pub(crate) fn summed(
        &self,
        first: Option<u32>,
        tensor: u32,
        file: usize,
        position: u64,
        len: u64,
    ) -> impl Iterator<Item = Summed> + '_ {
        first.into_iter().flat_map(move |first| self.chunks(first, file, len)).map(move |Chunk { at, len, sum }| Summed {
            file: file as u32,
            position: position + at,
            len,
            tensor,
            sum,
        })
    }

    /// Bytes of the chunks of a file.
    pub(crate) fn chunk_bytes(&self, file: usize) -> u64 {
        self.chunks[file]
    }

    /// The checksum of all chunks of a tensor.
    pub(crate) fn combined(&self, first: u32, file: usize, len: u64) -> u32 {
        if len == 0 && self.chunks[file] == WHOLE {
            return self.get(first);
        }
        self.chunks(first, file, len).fold(0, |crc, chunk| crc32c_combine(crc, self.get(chunk.sum), chunk.len))
    }
}

#[cfg(test)]
mod tests {
    use super::{Chunk, Sums};
    use deepring::crc32c;

    #[test]
    fn chunks_are_those_of_the_file_and_their_sums_are_one() {
        let bytes: Vec<u8> = (0..100).collect();
        let mut sums = Sums::of_chunks(vec![64, 32]);
        sums.add(None);
        sums.add(Some(&[crc32c(&bytes[..64]), crc32c(&bytes[64..])]));
        sums.add(Some(&[]));
        sums.add_tile(&[1, 2, 3, 4]);
        assert_eq!((sums.of_tensor(0), sums.of_tensor(1), sums.of_tensor(2), sums.of_tensor(3)), (None, Some(0), Some(2), None));
        assert_eq!((sums.of_tile(0), sums.of_tile(1)), (Some(2), None));
        let chunk = |at, len, sum| Chunk { at, len, sum };
        assert_eq!(sums.chunks(0, 0, 100).collect::<Vec<_>>(), [chunk(0, 64, 0), chunk(64, 36, 1)]);
        assert_eq!(sums.chunks_of(2, 1, 100, 40, 56).collect::<Vec<_>>(), [chunk(32, 32, 3), chunk(64, 32, 4)]);
        assert_eq!((sums.combined(0, 0, 100), sums.combined(2, 0, 0)), (crc32c(&bytes), 0));
    }

    #[test]
    fn one_checksum_covers_a_whole_tensor() {
        let sums = Sums::of_tensors(vec![None, Some(5)], 1);
        assert_eq!((sums.of_tensor(0), sums.of_tensor(1)), (None, Some(0)));
        assert_eq!(sums.chunks(0, 0, 1 << 40).collect::<Vec<_>>(), [Chunk { at: 0, len: 1 << 40, sum: 0 }]);
        assert_eq!((sums.combined(0, 0, 1 << 40), sums.combined(0, 0, 0)), (5, 5));
        assert!(Sums::of_tensors(vec![None, None], 1).is_empty());
    }
}
