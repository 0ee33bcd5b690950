//! A single tensor: it gets a place in a file that has room for it, and is written there, or copied.

use super::block::{Block, Bytes};
use super::data::{Data, Whole};
use super::files::{BASE_BYTES, Class, DataFile, Placed, Wanted, Within, check_piece, header_bytes};
use super::part::CHUNK_BYTES;
use super::run::Run;
use super::staging::STAGED_BYTES;
use crate::error::{Error, Result};
use crate::layout::{BLOCK_BYTES, Declared};
use crate::save::{Source, chunks, split};
use deepring::{Buffer, IoBuf, ManyOptions, Piece};
use std::sync::{Arc, PoisonError};

/// Room for the header of the first file of a group, and the most of those that follow: 600 tensors, 150 000 tensors.
const ROOM_BYTES_MIN: u64 = 64 << 10;
const ROOM_BYTES_MAX: u64 = 16 << 20;

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

enum Placing {
    Done(Placed, Way),
    NoFile,
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
        let (placed, way) = loop {
            match self.place(wanted, (!is_straight).then_some(&data))? {
                Placing::Done(placed, way) => break (placed, way),
                Placing::NoFile => self.make_file(wanted).await?,
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

    /// Gives a tensor a place, and copies it there if it is gathered.
    fn place<B: IoBuf>(&self, wanted: &Wanted<'_>, data: Option<&B>) -> Result<Placing> {
        let mut state = self.lock();
        let Some(file) = state.find(wanted) else { return Ok(Placing::NoFile) };
        let way = match data {
            Some(_) if wanted.len == 0 => Way::Gathered(Vec::new()),
            Some(_) => match self.way(&state.files[file], wanted) {
                Some(way) => way,
                None => return Ok(Placing::NoBlock),
            },
            None => Way::Straight,
        };
        if !matches!(way, Way::Gathered(_)) {
            state.flush_block(file);
        }
        let placed = state.reserve(file, wanted)?;
        Ok(Placing::Done(
            placed,
            match (way, data) {
                (Way::Gathered(blocks), Some(data)) => {
                    state.gather(file, data, blocks);
                    Way::Gathered(Vec::new())
                }
                (way, _) => {
                    state.files[file].writes += 1;
                    way
                }
            },
        ))
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
            let count = (file.end % BLOCK_BYTES + len).div_ceil(STAGED_BYTES as u64);
            if let Some(blocks) = self.staging.take(count as usize) {
                return Some(Way::Staged(blocks));
            }
        }
        Some(Way::Straight)
    }

    /// Makes a file for a tensor, unless another thread has made it meanwhile.
    async fn make_file(self: &Arc<Self>, wanted: &Wanted<'_>) -> Result<()> {
        let data = Arc::clone(self);
        let (declared, within, group, len) = (wanted.declared.clone(), wanted.within.cloned(), wanted.group.to_owned(), wanted.len);
        let made = self.engine.run_blocking(move || {
            let _making = data.making.lock().unwrap_or_else(PoisonError::into_inner);
            let wanted = Wanted { declared: &declared, within: within.as_ref(), group: &group, len };
            let mut state = data.lock();
            if state.find(&wanted).is_some() {
                return Ok(());
            }
            let class = wanted.class();
            let before = state.files.iter().filter(|file| file.group == group && !file.names.is_empty()).map(|file| file.start).max();
            let room = before.map_or(ROOM_BYTES_MIN, |before| (2 * before).clamp(ROOM_BYTES_MIN, ROOM_BYTES_MAX));
            let (header, sharding) = header_bytes(&wanted, 0);
            let room = room.max((BASE_BYTES + header + sharding).next_multiple_of(BLOCK_BYTES));
            let name = state.next_name(data.origin.writer, &group);
            drop(state);
            let replacement = data.engine.replace(data.directory.join(&name), data.options(0)).wait()?;
            let file = DataFile::new(name, group.clone(), class, replacement, room);
            data.lock().files.push(file);
            Ok(())
        });
        made.await?
    }

    /// Writes a tensor from the caller's memory.
    async fn write<B: IoBuf>(&self, placed: Placed, data: B, name: &str) -> Result<B> {
        let parts: Vec<Bytes> = chunks(data.len() as u64, CHUNK_BYTES).map(|(at, len)| Bytes { tensor: placed.tensor, at, len }).collect();
        let pieces: Vec<Piece> =
            parts.iter().map(|part| Piece::new(placed.position + part.at, part.at as usize, part.len as usize)).collect();
        let ended = placed.replacement.file().write_gather_with(data, &pieces, ManyOptions::new().checksums(true)).await;
        let (written, _) = ended.ok().map_err(|error| Error::io(error, Some(name)))?;
        self.lock().written(placed.file, &parts, written.checksums().unwrap_or_default());
        Ok(written.buf)
    }

    /// Copies a tensor into blocks, and leaves them to be written.
    async fn stage<B: IoBuf>(self: &Arc<Self>, placed: Placed, data: B, blocks: Vec<Buffer>) -> Result<B> {
        let state = Arc::clone(self);
        let copy = move || {
            let mut run = Run::new(&state, placed.file, placed.replacement, blocks);
            run.copy(placed.tensor, placed.position, &data);
            run.end();
            // The block that was counted when it got its place.
            state.lock().files[placed.file].writes -= 1;
            data
        };
        Ok(self.engine.run_blocking(copy).await?)
    }

    /// Waits for the oldest write that nothing else waits for. False: there is none, not even one that could begin.
    async fn settle_first(&self) -> Result<bool> {
        let first = {
            let mut state = self.lock();
            if state.pending.is_empty()
                && let Some(file) = state.files.iter().position(|file| file.block.is_some())
            {
                state.flush_block(file);
            }
            state.pending.pop_front()
        };
        match first {
            None => Ok(false),
            Some(pending) => self.settle(pending).await.map(|()| true),
        }
    }

    /// A place for a tensor whose bytes come from another file, with these checksums.
    pub(super) async fn reserve(self: &Arc<Self>, declared: &Declared, within: Option<&Within>, group: &str) -> Result<Placed> {
        self.check()?;
        self.claim(&[(&declared.name, within.is_some())])?;
        let wanted = Wanted { declared, within, group, len: declared.bytes()? };
        loop {
            match self.place::<Vec<u8>>(&wanted, None)? {
                Placing::Done(placed, _) => return Ok(placed),
                _ => self.make_file(&wanted).await?,
            }
        }
    }

    /// The bytes of a reserved place are there.
    pub(super) fn filled(&self, placed: &Placed, len: u64, crcs: &[u32]) {
        let parts: Vec<Bytes> = chunks(len, CHUNK_BYTES).map(|(at, len)| Bytes { tensor: placed.tensor, at, len }).collect();
        self.lock().written(placed.file, &parts, crcs);
    }
}
