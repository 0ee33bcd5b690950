//! [`Block`]: memory that is filled with tensors that follow each other in a file, and is written as a whole.

use super::part::CHUNK_BYTES;
use crate::layout::BLOCK_BYTES;
use crate::save::chunks;
use deepring::{Buffer, IoBuf, Op, Scattered};

/// Parts of one block: a write takes this many at most.
const PARTS_MAX: usize = 1 << 18;

/// A block of memory that is being filled. Its byte `from` is at `position` of the file, which agree below a block.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) buffer: Buffer,
    pub(super) position: u64,
    pub(super) from: usize,
    pub(super) filled: usize,
    pub(super) parts: Vec<Bytes>,
}

/// Bytes of a tensor, within a chunk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes {
    pub(super) tensor: usize,
    pub(super) at: u64,
    pub(super) len: u64,
}

/// A write from a block, or of a header, which has no parts.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) file: usize,
    pub(super) parts: Vec<Bytes>,
    pub(super) op: Op<Scattered<Buffer>>,
}

/// The block that is being filled, and those that follow it.
pub(super) struct Filling {
    pub(super) block: Option<Block>,
    pub(super) spare: Vec<Buffer>,
}

impl Filling {
    /// Copies a tensor that follows what is in the block. There are blocks enough.
    pub(super) fn copy<B: IoBuf>(&mut self, tensor: usize, position: u64, data: &B, mut full: impl FnMut(Block)) {
        for (begin, len) in chunks(data.len() as u64, CHUNK_BYTES) {
            let (mut at, end) = (begin, begin + len);
            while at < end {
                if let Some(block) = self.block.take_if(|block| block.room() == 0) {
                    full(block);
                }
                let block = match &mut self.block {
                    Some(block) => block,
                    none => {
                        let Some(buffer) = self.spare.pop() else { return };
                        none.insert(Block::new(buffer, position + at))
                    }
                };
                let len = block.room().min(end - at);
                block.take(Bytes { tensor, at, len }, data);
                at += len;
            }
        }
    }
}

impl Block {
    pub(super) fn new(buffer: Buffer, position: u64) -> Self {
        Self { buffer, position, from: (position % BLOCK_BYTES) as usize, filled: 0, parts: Vec::new() }
    }

    /// Copies bytes of a tensor behind what it has. There is room for them.
    pub(super) fn take<B: IoBuf>(&mut self, bytes: Bytes, data: &B) {
        let Bytes { at, len, .. } = bytes;
        self.buffer.copy_from(self.from + self.filled, data, at as usize..(at + len) as usize);
        self.filled += len as usize;
        self.parts.push(bytes);
    }

    /// Bytes that it can still take.
    fn room(&self) -> u64 {
        (self.buffer.len() - self.from - self.filled) as u64
    }

    /// The same of a tensor that comes next.
    pub(super) fn room_for_next(&self) -> u64 {
        if self.parts.len() < PARTS_MAX { self.room() } else { 0 }
    }
}
