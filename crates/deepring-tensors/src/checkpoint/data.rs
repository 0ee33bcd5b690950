//! [`Data`]: the data files of one writer.
//!
//! Tensors that are known together get a file with an exact layout. Single ones are appended to an open file of their group,
//! whose header has room for more:
//!
//! ```text
//!   put ──► room in an open file? ──no──► a new file, whose room for a header is twice that of the one before
//!    │ yes
//!    ├─ small, or of a size that fills no blocks ──► copied into a block of 4 MiB, which is written when it is full
//!    ├─ while staging lasts ───────────────────────► copied into blocks of its own, which are written behind the caller
//!    └─ else ──────────────────────────────────────► written from the caller's memory
//! ```
//!
//! Tensors that fill whole blocks of the file system have files of their own, in which every one begins on a block. In every
//! file, the bytes have no holes: what has a place must be written, or the checkpoint has failed. Where the tensors are is
//! written in front of them at the end.

use super::agree::Listed;
use super::files::{
    BASE_BYTES, Block, Bytes, Class, DataFile, Extent, FILE_BYTES_MAX, Failure, Filling, Pending, Placed, State, Wanted, Within,
    check_piece, header_bytes, metadata,
};
use super::names::Origin;
use super::part::{CHUNK_BYTES, Part, PartFile, SplitPiece, SplitTensor};
use super::staging::{STAGED_BYTES, Staging};
use crate::error::{Error, Result, quoted};
use crate::layout::{BLOCK_BYTES, Declared, Layout, Order, Rules, check_names};
use crate::save::{Source, Sums, begin_writes, chunks, split};
use crate::shards::shards_of;
use deepring::{Buffer, Direct, Engine, IoBuf, ManyOptions, Piece, ReplaceOptions, Replacement, crc32c};
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Room for the header of the first file of a group, and the most of those that follow: 600 tensors, 150 000 tensors.
const ROOM_BYTES_MIN: u64 = 64 << 10;
const ROOM_BYTES_MAX: u64 = 16 << 20;

/// Smaller tensors are always copied into a block: that costs less than an operation.
const GATHERED_BYTES: u64 = 256 << 10;

/// Files that are complete and still open. Of more, the first are flushed before the commit.
const COMPLETE_MAX: usize = 32;

/// See the module.
#[derive(Debug)]
pub(super) struct Data {
    pub(super) engine: Engine,
    directory: PathBuf,
    origin: Origin,
    direct: Direct,
    /// Whether the files are flushed. Off with a planted bug.
    durable: bool,
    staging: Arc<Staging>,
    state: Mutex<State>,
    /// Held by the thread that makes a file, so that others wait for it rather than make their own.
    making: Mutex<()>,
}

/// How a tensor gets into its file.
enum Way {
    /// Through the block that is being filled, and blocks that follow it.
    Gathered(Vec<Buffer>),
    /// Through blocks of its own.
    Staged(Vec<Buffer>),
    Straight,
}

impl Data {
    pub(super) fn new(
        engine: &Engine,
        directory: PathBuf,
        origin: Origin,
        direct: Direct,
        durable: bool,
        staging: Arc<Staging>,
    ) -> Arc<Self> {
        let (engine, state, making) = (engine.clone(), Mutex::default(), Mutex::new(()));
        Arc::new(Self { engine, directory, origin, direct, durable, staging, state, making })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails if it has failed before.
    pub(super) fn check(&self) -> Result<()> {
        self.lock().failure.clone().map_or(Ok(()), |failure| Err(failure.error()))
    }

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

    /// Takes names, all or none: of whole tensors, or of pieces.
    pub(super) fn claim(&self, names: &[(&str, bool)]) -> Result<()> {
        let mut state = self.lock();
        let is_taken = |&&(name, is_piece): &&(&str, bool)| state.names.get(name).is_some_and(|&other| !(other && is_piece));
        if let Some((name, _)) = names.iter().find(is_taken) {
            return Err(Error::Argument(format!("two tensors have the name {}", quoted(name))));
        }
        state.names.extend(names.iter().map(|&(name, is_piece)| (name.to_owned(), is_piece)));
        Ok(())
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

    /// How a file is made: it is new, and its name is flushed with all others.
    fn options(&self, size: u64) -> ReplaceOptions {
        ReplaceOptions::new().size(size).keep_existing(true).sync_directory(false).durable(self.durable).direct(self.direct)
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

    async fn settle(&self, pending: Pending) -> Result<()> {
        let Pending { file, parts, op } = pending;
        let name = |index: usize| {
            let part = parts.get(index).or(parts.first())?;
            self.lock().files[file].declared.get(part.tensor).map(|declared| declared.name.clone())
        };
        let whole = Whole::new(self, &name(0).unwrap_or_default());
        let settled = match op.await.ok() {
            Ok((written, _)) => {
                self.lock().written(file, &parts, written.checksums().unwrap_or_default());
                self.staging.give(written.buf);
                Ok(())
            }
            Err(error) => {
                let tensor = name(error.index().map_or(0, |index| index as usize));
                Err(Error::io(error, tensor.as_deref()))
            }
        };
        whole.end(settled)
    }

    /// Writes many tensors into one file, or as many as they need.
    pub(super) async fn put_all<B: IoBuf>(self: &Arc<Self>, tensors: Vec<Source<B>>, group: &str) -> Result<Vec<B>> {
        let (declared, data) = split(tensors)?;
        self.check()?;
        let files = shards_of(&declared, FILE_BYTES_MAX)?;
        let origin = self.origin;
        let plan = self.engine.run_blocking(move || {
            check_names(&declared)?;
            let metadata = metadata(origin, None);
            let rules = Rules { metadata: &metadata, align: BLOCK_BYTES, order: Order::Blocks, checksums: false };
            let plan = files.into_iter().map(|tensors| {
                let layout = Layout::new(&declared[tensors.clone()], rules)?;
                let crc = crc32c(&layout.header);
                Ok((tensors, layout, crc))
            });
            plan.collect::<Result<Vec<_>>>().map(|plan| (declared, plan))
        });
        let (declared, plan) = plan.await??;
        if declared.is_empty() {
            return Ok(data);
        }
        self.claim(&declared.iter().map(|tensor| (tensor.name.as_str(), false)).collect::<Vec<_>>())?;
        let whole = Whole::new(self, &declared[0].name);
        let put = self.put_files(&declared, data, plan, group).await;
        whole.end(put)
    }

    async fn put_files<B: IoBuf>(
        self: &Arc<Self>,
        declared: &[Declared],
        data: Vec<B>,
        plan: Vec<(Range<usize>, Layout, u32)>,
        group: &str,
    ) -> Result<Vec<B>> {
        let mut data: Vec<Option<B>> = data.into_iter().map(Some).collect();
        for (tensors, layout, crc) in plan {
            self.put_file(&declared[tensors.clone()], &mut data[tensors], layout, crc, group).await?;
        }
        self.commit_early().await?;
        Ok(data.into_iter().flatten().collect())
    }

    /// Writes a file that has just these tensors.
    async fn put_file<B: IoBuf>(
        self: &Arc<Self>,
        declared: &[Declared],
        data: &mut [Option<B>],
        layout: Layout,
        header_crc: u32,
        group: &str,
    ) -> Result<()> {
        let name = self.lock().next_name(self.origin.writer, group);
        let replacement = self.engine.replace(self.directory.join(&name), self.options(layout.size)).await?;
        let mut file = DataFile::new(name, group.to_owned(), Class::Rest, replacement, layout.start());
        let replacement = file.replacement.clone().ok_or_else(|| Error::Argument("the file is gone".into()))?;
        for &index in &layout.order {
            let (tensor, len) = (&declared[index as usize], layout.lens[index as usize]);
            file.declared.push(tensor.clone());
            file.extents.push(Extent { begin: layout.positions[index as usize], len, within: None, sums: Vec::new() });
        }
        (file.end, file.is_full, file.header_crc, file.writes) = (layout.size, true, Some(header_crc), 1);
        let number = {
            let mut state = self.lock();
            state.files.push(file);
            state.files.len() - 1
        };
        let header = replacement.file().write_at(layout.header.clone(), 0);
        let (staged, blocks) = self.staged_tensors(&layout);
        // Behind those that are copied; the drive works on them meanwhile.
        let writes = begin_writes(replacement.file(), &layout, staged..layout.order.len(), data, Sums::Chunks(CHUNK_BYTES));
        if staged > 0 {
            let copied: Vec<(u32, B)> =
                layout.order[..staged].iter().filter_map(|&index| Some((index, data[index as usize].take()?))).collect();
            let (this, replacement) = (Arc::clone(self), Arc::clone(&replacement));
            let positions: Vec<u64> = layout.order[..staged].iter().map(|&index| layout.positions[index as usize]).collect();
            let copy = move || {
                let mut run = Run::new(&this, number, replacement, blocks);
                for (tensor, ((_, data), position)) in copied.iter().zip(positions).enumerate() {
                    run.copy(tensor, position, data);
                }
                run.end();
                copied
            };
            for (index, buf) in self.engine.run_blocking(copy).await? {
                data[index as usize] = Some(buf);
            }
        }
        for write in writes {
            let written = write.end().await?;
            let parts = written.which.clone().flat_map(|tensor| {
                let len = layout.lens[layout.order[tensor] as usize];
                // A tensor without bytes has a checksum here.
                chunks(len.max(1), CHUNK_BYTES).map(move |(at, chunk)| Bytes { tensor, at, len: chunk.min(len) })
            });
            let parts: Vec<Bytes> = parts.collect();
            let mut state = self.lock();
            // The file's own count ends below.
            state.files[number].writes += 1;
            state.written(number, &parts, &written.sums);
            drop(state);
            for (&index, buf) in layout.order[written.which].iter().zip(written.data) {
                data[index as usize] = Some(buf);
            }
        }
        header.await.ok()?;
        self.lock().files[number].writes -= 1;
        Ok(())
    }

    /// How many tensors of a layout are copied first, and blocks for them.
    fn staged_tensors(&self, layout: &Layout) -> (usize, Vec<Buffer>) {
        if !self.staging.is_asked() {
            return (0, Vec::new());
        }
        let room = (self.staging.free() * STAGED_BYTES) as u64;
        let end = |&index: &u32| layout.positions[index as usize] + layout.lens[index as usize] - layout.start();
        let count = layout.order.iter().take_while(|index| end(index) <= room).count();
        let bytes = layout.order[..count].last().map_or(0, end);
        // Another call can have taken them meanwhile.
        self.staging.take(bytes.div_ceil(STAGED_BYTES as u64) as usize).map_or((0, Vec::new()), |blocks| (count, blocks))
    }

    /// Gives back descriptors of files that are complete, the first ones first.
    async fn commit_early(&self) -> Result<()> {
        loop {
            let replacement = {
                let mut state = self.lock();
                let complete = |file: &DataFile| file.replacement.is_some() && file.header_crc.is_some() && file.writes == 0;
                if state.files.iter().filter(|file| complete(file)).count() <= COMPLETE_MAX {
                    return Ok(());
                }
                state.files.iter_mut().find(|file| complete(file)).and_then(|file| file.replacement.take())
            };
            if let Some(replacement) = replacement.and_then(Arc::into_inner) {
                replacement.commit().await?;
            }
        }
    }

    /// Ends all writes, and writes the headers.
    pub(super) async fn complete(self: &Arc<Self>) -> Result<()> {
        {
            let mut state = self.lock();
            for file in 0..state.files.len() {
                state.flush_block(file);
            }
        }
        // All of them are awaited, so that the first failure is the one of the oldest.
        let mut failed = Ok(());
        while let Some(pending) = { self.lock().pending.pop_front() } {
            failed = failed.and(self.settle(pending).await);
        }
        failed?;
        self.check()?;
        let this = Arc::clone(self);
        let headers = self.engine.run_blocking(move || this.lock().headers(this.origin)).await??;
        let writes: Vec<_> = headers
            .into_iter()
            .map(|(file, header)| {
                let crc = crc32c(&header);
                let replacement = self.lock().files[file].replacement.clone();
                (file, crc, replacement.map(|replacement| replacement.file().write_at(header, 0)))
            })
            .collect();
        for (file, crc, write) in writes {
            if let Some(write) = write {
                write.await.ok()?;
            }
            self.lock().files[file].header_crc = Some(crc);
        }
        Ok(())
    }

    /// Flushes all files, at once, and gives them their names.
    pub(super) async fn commit(&self) -> Result<()> {
        let replacements: Vec<_> = self.lock().files.iter_mut().filter_map(|file| file.replacement.take()).collect();
        let commits: Option<Vec<_>> = replacements.into_iter().map(|file| Arc::into_inner(file).map(Replacement::commit)).collect();
        let commits = commits.ok_or_else(|| Error::Argument("a write has not ended".into()))?;
        let mut result = Ok(());
        for commit in commits {
            result = result.and(commit.await);
        }
        Ok(result?)
    }

    /// Removes all files that do not have their names yet.
    pub(super) async fn abandon(&self) -> Result<()> {
        let (pending, replacements): (Vec<_>, Vec<_>) = {
            let mut state = self.lock();
            let replacements = state.files.iter_mut().filter_map(|file| file.replacement.take()).collect();
            (state.pending.drain(..).collect(), replacements)
        };
        for Pending { op, .. } in pending {
            // What comes of it does not matter any more.
            let _ = op.await;
        }
        for replacement in replacements.into_iter().filter_map(Arc::into_inner) {
            replacement.abandon().await?;
        }
        Ok(())
    }

    /// The tables of what was written. All headers must be.
    pub(super) fn part(&self) -> Part {
        let state = self.lock();
        let mut split: BTreeMap<&str, SplitTensor> = BTreeMap::new();
        let mut files = Vec::with_capacity(state.files.len());
        for (number, file) in state.files.iter().enumerate() {
            for (declared, extent) in file.declared.iter().zip(&file.extents) {
                let Some(Within { shape, start }) = &extent.within else { continue };
                let tensor = split.entry(&declared.name).or_insert_with(|| SplitTensor {
                    name: declared.name.clone(),
                    shape: shape.clone(),
                    pieces: Vec::new(),
                });
                tensor.pieces.push(SplitPiece { file: number as u32, start: start.clone(), shape: declared.shape.clone() });
            }
            files.push(file.adopted.clone().unwrap_or_else(|| PartFile {
                name: file.name.clone(),
                bytes: file.end,
                origin: self.origin,
                header_crc: file.header_crc.unwrap_or_default(),
                crcs: file.extents.iter().flat_map(Extent::crcs).collect(),
            }));
        }
        Part { id: self.origin.id, writer: self.origin.writer, chunk: CHUNK_BYTES, files, split: split.into_values().collect() }
    }

    /// All tensors, and where they are.
    pub(super) fn listed(&self) -> Vec<Listed> {
        let state = self.lock();
        let listed = state.files.iter().flat_map(|file| {
            file.declared.iter().zip(&file.extents).map(|(Declared { name, dtype, shape }, extent)| Listed {
                name: name.clone(),
                dtype: Some(*dtype),
                shape: shape.clone(),
                bytes: extent.len,
                within: extent.within.clone(),
                writer: self.origin.writer,
                file: file.name.clone(),
            })
        });
        listed.collect()
    }

    /// A name for a file that is linked or copied into the directory.
    pub(super) fn name_for(&self, group: &str) -> String {
        self.lock().next_name(self.origin.writer, group)
    }

    /// Adds a file of another generation that has this name now, with its tensors.
    pub(super) fn adopt(&self, file: PartFile, group: &str, tensors: Vec<(Declared, Option<Within>)>) -> Result<()> {
        let (mut declared, mut extents) = (Vec::with_capacity(tensors.len()), Vec::with_capacity(tensors.len()));
        for (tensor, within) in tensors {
            extents.push(Extent { begin: 0, len: tensor.bytes()?, within, sums: Vec::new() });
            declared.push(tensor);
        }
        let adopted = DataFile {
            name: file.name.clone(),
            group: group.to_owned(),
            class: Class::Rest,
            replacement: None,
            declared,
            extents,
            names: HashSet::new(),
            start: 0,
            end: file.bytes,
            header_bytes: 0,
            sharding_bytes: 0,
            is_split: false,
            block: None,
            is_full: true,
            header_crc: Some(file.header_crc),
            writes: 0,
            adopted: Some(file),
        };
        self.lock().files.push(adopted);
        Ok(())
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

enum Placing {
    Done(Placed, Way),
    NoFile,
    NoBlock,
}

/// A tensor that has a place. If this is dropped before it has ended, the file has a hole, and the checkpoint has failed.
pub(super) struct Whole<'d> {
    data: &'d Data,
    name: String,
    has_ended: bool,
}

impl<'d> Whole<'d> {
    pub(super) fn new(data: &'d Data, name: &str) -> Self {
        Self { data, name: name.to_owned(), has_ended: false }
    }

    /// It was written, or the checkpoint has failed with this error.
    pub(super) fn end<T>(mut self, result: Result<T>) -> Result<T> {
        self.has_ended = true;
        if let Err(error) = &result {
            self.data.lock().failure.get_or_insert(Failure::of(error));
        }
        result
    }
}

impl Drop for Whole<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            let name = std::mem::take(&mut self.name);
            self.data.lock().failure.get_or_insert(Failure::Dropped(name));
        }
    }
}

/// Tensors of a file that are copied into blocks, which are written as they are full.
struct Run<'d> {
    data: &'d Data,
    file: usize,
    replacement: Arc<Replacement>,
    filling: Filling,
}

impl<'d> Run<'d> {
    fn new(data: &'d Data, file: usize, replacement: Arc<Replacement>, spare: Vec<Buffer>) -> Self {
        Self { data, file, replacement, filling: Filling { block: None, spare } }
    }

    fn copy<B: IoBuf>(&mut self, tensor: usize, position: u64, data: &B) {
        let Self { data: owner, file, replacement, filling } = self;
        filling.copy(tensor, position, data, |block| owner.lock().write_block(*file, replacement, block));
    }

    fn end(self) {
        let mut state = self.data.lock();
        if let Some(block) = self.filling.block {
            state.write_block(self.file, &self.replacement, block);
        }
        drop(state);
        for block in self.filling.spare {
            self.data.staging.give(block);
        }
    }
}
