//! A single tensor: it gets a place in a file that has room for it, and is written there, or copied.

use super::block::{Block, Bytes};
use super::capture::{Capture, Copied, blocks_of};
use super::data::{Data, Whole};
use super::files::{Class, DataFile, Placed, Wanted, Within, check_piece};
use super::part::CHUNK_BYTES;
use super::reuse::{Reused, can_clone, clone};
use super::staging::STAGED_BYTES;
use crate::error::{Error, Result};
use crate::layout::{BLOCK_BYTES, Declared};
use crate::save::{Source, chunks, split};
use deepring::{Buffer, File, IoBuf, ManyOptions, Piece, crc32c};
use std::sync::Arc;

/// Smaller tensors are always copied into a block: that costs less than an operation.
const GATHERED_BYTES: u64 = 256 << 10;

/// How a tensor gets into its file.
enum Way {
    /// Through the block that is being filled, and blocks that follow it.
    Gathered(Vec<Buffer>),
    /// Through blocks of its own.
    Staged(Vec<Buffer>),
    Straight,
}

/// What has come of an attempt to give a tensor a place.
enum Placing {
    Done(Placed, Way),
    /// Not before a block is free.
    NoBlock,
}

impl Data {
    /// Writes a tensor, or copies it while staging lasts.
    pub(super) async fn put<B: IoBuf>(self: &Arc<Self>, source: Source<B>, within: Option<Within>, group: &str) -> Result<B> {
        let (mut declared, mut data) = split(vec![source])?;
        let (Some(declared), Some(data)) = (declared.pop(), data.pop()) else { return Err(Error::Argument("no tensor".into())) };
        check_piece(&declared, within.as_ref())?;
        self.check()?;
        self.claim(&[(&declared.name, within.is_some())])?;
        let whole = Whole::new(self, &declared.name);
        let wanted = Wanted { declared: &declared, within: within.as_ref(), group, len: data.len() as u64 };
        let put = self.put_wanted(&wanted, data).await;
        whole.end(put)
    }

    async fn put_wanted<B: IoBuf>(self: &Arc<Self>, wanted: &Wanted<'_>, data: B) -> Result<B> {
        let mut is_straight = false;
        self.reap();
        let (placed, way) = loop {
            match self.place(wanted, (!is_straight).then_some(&data)) {
                Placing::Done(placed, way) => break (placed, way),
                // A block comes back, or nothing brings one: then it is written from where it is, though it is small.
                Placing::NoBlock => is_straight = !self.settle_first().await?,
            }
        };
        match way {
            Way::Gathered(_) => Ok(data),
            Way::Staged(blocks) => self.stage(placed, data, blocks).await,
            Way::Straight => self.write(placed, data, &wanted.declared.name).await,
        }
    }

    /// Gives a tensor a place, and copies it there if it is gathered. A file that it is the first one of is made behind it.
    fn place<B: IoBuf>(self: &Arc<Self>, wanted: &Wanted<'_>, data: Option<&B>) -> Placing {
        let mut state = self.lock();
        let found = state.find(wanted);
        let file = found.unwrap_or_else(|| state.begin(wanted, self.origin.writer));
        let way = match data {
            Some(_) if wanted.len == 0 => Some(Way::Gathered(Vec::new())),
            Some(_) => self.way(&state.files[file], wanted),
            None => Some(Way::Straight),
        };
        let placing = way.map_or(Placing::NoBlock, |way| {
            if !matches!(way, Way::Gathered(_)) {
                state.flush_block(file);
            }
            let placed = state.reserve(file, wanted);
            let way = match (way, data) {
                (Way::Gathered(blocks), Some(data)) => {
                    state.gather(file, data, blocks);
                    Way::Gathered(Vec::new())
                }
                (way, _) => {
                    state.files[file].writes += 1;
                    way
                }
            };
            Placing::Done(placed, way)
        });
        drop(state);
        if found.is_none() {
            self.write_behind(file);
        }
        placing
    }

    /// How a tensor gets into this file. `None`: not before a block is free.
    fn way(&self, file: &DataFile, wanted: &Wanted<'_>) -> Option<Way> {
        let Wanted { len, .. } = *wanted;
        let is_odd = wanted.class() == Class::Rest;
        if len < GATHERED_BYTES || (is_odd && len < STAGED_BYTES as u64) {
            let rest = file.block.as_ref().map_or(0, Block::room_for_next);
            let begin = (file.end + rest) % BLOCK_BYTES;
            let count = if len <= rest { 0 } else { (begin + len - rest).div_ceil(STAGED_BYTES as u64) };
            return self.staging.take(count as usize).map(Way::Gathered);
        }
        if self.staging.is_asked() {
            let blocks = self.staging.take(blocks_of(file.end, len));
            if let Some(blocks) = blocks {
                return Some(Way::Staged(blocks));
            }
        }
        Some(Way::Straight)
    }

    /// Writes a tensor from the caller's memory.
    async fn write<B: IoBuf>(self: &Arc<Self>, placed: Placed, data: B, name: &str) -> Result<B> {
        let parts: Vec<Bytes> = chunks(data.len() as u64, CHUNK_BYTES).map(|(at, len)| Bytes { tensor: placed.tensor, at, len }).collect();
        let pieces: Vec<Piece> =
            parts.iter().map(|part| Piece::new(placed.position + part.at, part.at as usize, part.len as usize)).collect();
        let replacement = self.made(placed.file).await?;
        let ended = replacement.file().write_gather_with(data, &pieces, ManyOptions::new().checksums(true)).await;
        let (written, _) = ended.ok().map_err(|error| Error::io(error, Some(name)))?;
        self.written(placed.file, &parts, written.checksums().unwrap_or_default());
        Ok(written.buf)
    }

    /// Copies a tensor into blocks, and leaves them to be written.
    async fn stage<B: IoBuf>(self: &Arc<Self>, placed: Placed, data: B, blocks: Vec<Buffer>) -> Result<B> {
        let Placed { file, tensor, position } = placed;
        let capture = Capture::begin(self, file, vec![Copied { tensor, position, data }], blocks);
        let mut captured = capture.end().await?;
        // The write that was counted when it got its place.
        self.lock().files[file].writes -= 1;
        captured.pop().ok_or_else(|| Error::Argument("the tensor is gone".into()))
    }

    /// Waits for the oldest write that nothing else waits for. False: there is none, not even one that could begin.
    async fn settle_first(self: &Arc<Self>) -> Result<bool> {
        let unmade = {
            let mut state = self.lock();
            if state.pending.is_empty()
                && let Some(file) = state.files.iter().position(|file| file.block.is_some())
            {
                state.flush_block(file);
            }
            if state.pending.is_empty() { state.files.iter().position(|file| !file.waiting.is_empty()) } else { None }
        };
        if let Some(file) = unmade {
            self.made(file).await?;
        }
        let first = self.lock().pending.pop_front();
        match first {
            None => Ok(false),
            Some(pending) => self.settle(pending).await.map(|()| true),
        }
    }

    /// Puts a tensor whose bytes another file has too, from a position on. Shares its blocks where the file system can, and else
    /// writes the bytes.
    pub(super) async fn put_from(self: &Arc<Self>, source: Source<Buffer>, group: &str, from: &File, position: u64) -> Result<Reused> {
        let len = source.declared.bytes()?;
        if !can_clone(position, len) {
            self.put(source, None, group).await?;
            return Ok(Reused { copied: len, ..Reused::default() });
        }
        let Source { declared, data } = source;
        let placed = self.reserve(&declared, None, group)?;
        let whole = Whole::new(self, &declared.name);
        let put = async {
            let replacement = self.made(placed.file).await?;
            if !clone(from, replacement.file(), position, placed.position, len).await {
                self.write(placed, data, &declared.name).await?;
                return Ok(Reused { copied: len, ..Reused::default() });
            }
            let sum = move || chunks(len, CHUNK_BYTES).map(|(at, len)| crc32c(&data[at as usize..(at + len) as usize])).collect();
            let crcs: Vec<u32> = self.engine.run_blocking(sum).await?;
            self.filled(&placed, len, &crcs);
            Ok(Reused { cloned: len, ..Reused::default() })
        };
        whole.end(put.await)
    }

    /// A place for a tensor whose bytes come from another file, with these checksums.
    pub(super) fn reserve(self: &Arc<Self>, declared: &Declared, within: Option<&Within>, group: &str) -> Result<Placed> {
        self.check()?;
        self.claim(&[(&declared.name, within.is_some())])?;
        let wanted = Wanted { declared, within, group, len: declared.bytes()? };
        match self.place::<Vec<u8>>(&wanted, None) {
            Placing::Done(placed, _) => Ok(placed),
            Placing::NoBlock => Err(Error::Argument("a place needs no block".into())),
        }
    }

    /// The bytes of a reserved place are there.
    pub(super) fn filled(&self, placed: &Placed, len: u64, crcs: &[u32]) {
        let parts: Vec<Bytes> = chunks(len, CHUNK_BYTES).map(|(at, len)| Bytes { tensor: placed.tensor, at, len }).collect();
        self.written(placed.file, &parts, crcs);
    }
}
