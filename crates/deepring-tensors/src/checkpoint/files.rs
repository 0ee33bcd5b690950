//! The files that a writer has begun: which tensors each has, where, and what of them is written.

use super::block::{Block, Bytes, Filling, Pending};
use super::names::{Member, Origin};
use super::part::{CHUNK_BYTES, PartFile, RANK_MAX};
use crate::error::{Error, Result, quoted};
use crate::layout::{BLOCK_BYTES, Declared, Layout, Order, Rules, push_entry};
use crate::split::Tile;
use deepring::{Buffer, Engine, IoBuf, ManyOptions, Piece, Replacement, Task, crc32c, crc32c_combine};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

/// A file takes no more tensors beyond this: copies over networks, and other libraries, have trouble with larger ones.
pub(super) const FILE_BYTES_MAX: u64 = 50_000_000_000;

/// Room for the header of the first file of a group, and the most of those that follow: 600 tensors, 150 000 tensors.
const ROOM_BYTES_MIN: u64 = 64 << 10;
const ROOM_BYTES_MAX: u64 = 16 << 20;

/// A header without its tensors is no longer.
const BASE_BYTES: u64 = 512;

/// Where a piece is in its tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Within {
    /// Extents of the whole tensor.
    pub(super) shape: Vec<u64>,
    /// Where the piece begins.
    pub(super) start: Vec<u64>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) files: Vec<DataFile>,
    /// Writes that nothing waits for yet, the oldest first.
    pub(super) pending: VecDeque<Pending>,
    /// Files that are being made, and blocks that are being handed over to the engine.
    pub(super) behind: Vec<Task<()>>,
    pub(super) failure: Option<Failure>,
    /// Files of each group.
    pub(super) groups: HashMap<String, u32>,
    /// All names, and whether the tensor is in pieces.
    pub(super) names: HashMap<String, bool>,
}

/// Why nothing can come of it any more.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    Io(deepring::Error, Option<String>),
    /// The job that wrote this tensor was dropped.
    Dropped(String),
    Other(String),
}

impl Failure {
    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::Io { error, tensor } => Self::Io(error.clone(), tensor.clone()),
            other => Self::Other(other.to_string()),
        }
    }

    pub(super) fn error(self) -> Error {
        match self {
            Self::Io(error, tensor) => Error::Io { error, tensor },
            Self::Dropped(name) => {
                Error::Argument(format!("the checkpoint has failed: tensor {} was not written to its end", quoted(&name)))
            }
            Self::Other(text) => Error::Argument(format!("the checkpoint has failed: {text}")),
        }
    }
}

/// Which tensors a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Those that fill whole blocks.
    Blocks,
    Rest,
}

#[derive(Debug)]
pub(super) struct DataFile {
    pub(super) name: String,
    pub(super) group: String,
    pub(super) class: Class,
    /// What other generations have of it, for a file of theirs that was taken over.
    pub(super) adopted: Option<PartFile>,
    /// Held by the thread that makes the file.
    pub(super) making: Arc<Mutex<()>>,
    /// There once it is made, and until it is committed.
    pub(super) replacement: Option<Arc<Replacement>>,
    /// Bytes that are reserved when it is made.
    pub(super) size: u64,
    /// Blocks that are full, and written once it is made.
    pub(super) waiting: Vec<Block>,
    /// All in front of the data, if that is known from the beginning.
    pub(super) header: Option<Vec<u8>>,
    pub(super) declared: Vec<Declared>,
    /// Of each tensor, by the order of their bytes.
    pub(super) extents: Vec<Extent>,
    pub(super) names: HashSet<String>,
    /// Where the data begins, and where it ends by now.
    pub(super) start: u64,
    pub(super) end: u64,
    /// Bytes of the header for its tensors, and for the places of pieces.
    pub(super) header_bytes: u64,
    pub(super) sharding_bytes: u64,
    pub(super) is_split: bool,
    pub(super) block: Option<Block>,
    /// It takes no more tensors.
    pub(super) is_full: bool,
    /// The checksum of the header, once it is written.
    pub(super) header_crc: Option<u32>,
    /// Its writes that have not ended.
    pub(super) writes: usize,
}

#[derive(Debug)]
pub(super) struct Extent {
    pub(super) begin: u64,
    pub(super) len: u64,
    pub(super) within: Option<Within>,
    /// Checksums of what was written: where it begins in the tensor, its length.
    pub(super) sums: Vec<(u64, u32, u32)>,
}

/// The place of a tensor.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) file: usize,
    pub(super) tensor: usize,
    pub(super) position: u64,
}

/// What is known of a tensor before it has a place.
pub(super) struct Wanted<'t> {
    pub(super) declared: &'t Declared,
    pub(super) within: Option<&'t Within>,
    pub(super) group: &'t str,
    pub(super) len: u64,
}

impl Wanted<'_> {
    pub(super) fn class(&self) -> Class {
        if self.len.is_multiple_of(BLOCK_BYTES) { Class::Blocks } else { Class::Rest }
    }
}

impl State {
    /// A file that has room for a tensor, and none of its name.
    pub(super) fn find(&mut self, wanted: &Wanted<'_>) -> Option<usize> {
        let class = wanted.class();
        let mut full = Vec::new();
        let found = self.files.iter_mut().enumerate().find_map(|(number, file)| {
            let fits = !file.is_full && file.class == class && file.group == wanted.group;
            if !fits || file.names.contains(&wanted.declared.name) {
                return None;
            }
            if !file.has_room_for_header(wanted) {
                file.is_full = true;
                full.push(number);
                return None;
            }
            let data = file.end - file.start;
            (data == 0 || data + wanted.len <= FILE_BYTES_MAX).then_some(number)
        });
        for number in full {
            self.flush_block(number);
        }
        found
    }

    /// Begins another file, for this tensor. It is not made yet.
    pub(super) fn begin(&mut self, wanted: &Wanted<'_>, writer: u32) -> usize {
        let before = self.files.iter().filter(|file| file.group == wanted.group && !file.names.is_empty()).map(|file| file.start).max();
        let room = before.map_or(ROOM_BYTES_MIN, |before| (2 * before).clamp(ROOM_BYTES_MIN, ROOM_BYTES_MAX));
        let (header, sharding) = header_bytes(wanted, 0);
        let room = room.max((BASE_BYTES + header + sharding).next_multiple_of(BLOCK_BYTES));
        let name = self.next_name(writer, wanted.group);
        self.files.push(DataFile::new(name, wanted.group.to_owned(), wanted.class(), room));
        self.files.len() - 1
    }

    /// Adds a tensor to the end of a file.
    pub(super) fn reserve(&mut self, number: usize, wanted: &Wanted<'_>) -> Placed {
        let file = &mut self.files[number];
        let (header, sharding) = header_bytes(wanted, file.end - file.start);
        file.header_bytes += header;
        file.sharding_bytes += sharding;
        file.is_split |= wanted.within.is_some();
        file.names.insert(wanted.declared.name.clone());
        file.declared.push(wanted.declared.clone());
        file.extents.push(Extent { begin: file.end, len: wanted.len, within: wanted.within.cloned(), sums: Vec::new() });
        let position = file.end;
        file.end += wanted.len;
        Placed { file: number, tensor: file.extents.len() - 1, position }
    }

    /// Copies the last tensor of a file into its block, and into these.
    pub(super) fn gather<B: IoBuf>(&mut self, number: usize, data: &B, spare: Vec<Buffer>) {
        if self.files[number].block.as_ref().is_some_and(|block| block.room_for_next() == 0) {
            self.flush_block(number);
        }
        let file = &mut self.files[number];
        let Some(extent) = file.extents.last() else { return };
        let (tensor, position) = (file.extents.len() - 1, extent.begin);
        let mut filling = Filling { block: file.block.take(), spare };
        filling.copy(tensor, position, data, |block| self.leave(number, vec![block]));
        self.files[number].block = filling.block;
    }

    /// Leaves what is in the block of a file to be written.
    pub(super) fn flush_block(&mut self, number: usize) {
        let block = self.files[number].block.take();
        self.leave(number, block.into_iter().collect());
    }

    /// Leaves blocks to be written: now, or once their file is made.
    pub(super) fn leave(&mut self, number: usize, blocks: Vec<Block>) {
        let file = &mut self.files[number];
        file.writes += blocks.len();
        file.waiting.extend(blocks);
        self.write_waiting(number);
    }

    /// Hands over to the engine what waits for a file, if that is made.
    pub(super) fn write_waiting(&mut self, number: usize) {
        let Some(replacement) = self.files[number].replacement.clone() else { return };
        let blocks = std::mem::take(&mut self.files[number].waiting);
        let writes = blocks.into_iter().map(|Block { buffer, position, from, parts, .. }| {
            let mut offset = 0;
            let piece = |part: &Bytes| {
                let piece = Piece::new(position + offset, from + offset as usize, part.len as usize);
                offset += part.len;
                piece
            };
            let pieces: Vec<Piece> = parts.iter().map(piece).collect();
            let op = replacement.file().write_gather_with(buffer, &pieces, ManyOptions::new().checksums(true));
            Pending { file: number, parts, op }
        });
        self.pending.extend(writes);
    }

    /// Hands over to the engine the header of a file that is made, if it is known by now.
    pub(super) fn write_header(&mut self, number: usize, engine: &Engine) -> Result<()> {
        let file = &mut self.files[number];
        let (Some(header), Some(replacement)) = (file.header.take(), &file.replacement) else { return Ok(()) };
        let mut buffer = engine.pooled_buffer(header.len())?;
        buffer.copy_from_slice(&header);
        let piece = Piece::new(0, 0, header.len());
        let op = replacement.file().write_gather_with(buffer, &[piece], ManyOptions::new());
        (file.header_crc, file.writes) = (Some(crc32c(&header)), file.writes + 1);
        self.pending.push_back(Pending { file: number, parts: Vec::new(), op });
        Ok(())
    }

    /// A write has ended.
    pub(super) fn written(&mut self, number: usize, parts: &[Bytes], crcs: &[u32]) {
        let file = &mut self.files[number];
        file.writes -= 1;
        for (part, &crc) in parts.iter().zip(crcs) {
            file.extents[part.tensor].sums.push((part.at, part.len as u32, crc));
        }
    }

    pub(super) fn next_name(&mut self, writer: u32, group: &str) -> String {
        let next = self.groups.entry(group.to_owned()).or_default();
        let file = *next;
        *next += 1;
        Member::Data { writer, group, file }.to_string()
    }

    /// The headers of files that have none yet.
    pub(super) fn headers(&self, origin: Origin) -> Result<Vec<(usize, Vec<u8>)>> {
        let mut headers = Vec::new();
        for (number, file) in self.files.iter().enumerate() {
            if let Some(lost) = file.extents.iter().position(|extent| file.adopted.is_none() && !extent.is_whole()) {
                return Err(Error::Argument(format!("the bytes of tensor {} were not written", quoted(&file.declared[lost].name))));
            }
            if file.header_crc.is_some() {
                continue;
            }
            let metadata = metadata(origin, file.is_split.then(|| file.sharding()));
            let rules = Rules { metadata: &metadata, align: file.start, order: Order::Given, checksums: false };
            let layout = Layout::new(&file.declared, rules)?;
            if layout.start() != file.start {
                return Err(Error::Argument(format!(
                    "the header of {} has {} bytes, and room for {}",
                    file.name,
                    layout.start(),
                    file.start
                )));
            }
            headers.push((number, layout.header));
        }
        Ok(headers)
    }
}

impl DataFile {
    /// A file that is to be made, whose data begins here.
    pub(super) fn new(name: String, group: String, class: Class, start: u64) -> Self {
        Self {
            name,
            group,
            class,
            adopted: None,
            making: Arc::default(),
            replacement: None,
            size: 0,
            waiting: Vec::new(),
            header: None,
            declared: Vec::new(),
            extents: Vec::new(),
            names: HashSet::new(),
            start,
            end: start,
            header_bytes: 0,
            sharding_bytes: 0,
            is_split: false,
            block: None,
            is_full: false,
            header_crc: None,
            writes: 0,
        }
    }

    fn has_room_for_header(&self, wanted: &Wanted<'_>) -> bool {
        let (header, sharding) = header_bytes(wanted, self.end - self.start);
        let sharding = if self.is_split || wanted.within.is_some() { self.sharding_bytes + sharding } else { 0 };
        BASE_BYTES + self.header_bytes + header + sharding <= self.start
    }

    /// Where each tensor is in the whole one, as readers of distributed checkpoints of `PyTorch` look for it.
    fn sharding(&self) -> String {
        let entries: Vec<String> =
            self.declared.iter().zip(&self.extents).map(|(declared, extent)| sharding_entry(declared, extent.within.as_ref())).collect();
        format!("{{{}}}", entries.join(","))
    }
}

impl Extent {
    /// Whether all of it was written.
    fn is_whole(&self) -> bool {
        self.sums.iter().map(|&(_, len, _)| u64::from(len)).sum::<u64>() == self.len
    }

    /// The checksum of each chunk.
    pub(super) fn crcs(&self) -> Vec<u32> {
        let mut sums = self.sums.clone();
        sums.sort_unstable();
        let mut crcs: Vec<u32> = Vec::with_capacity(self.len.div_ceil(CHUNK_BYTES) as usize);
        for (at, len, crc) in sums.into_iter().filter(|&(_, len, _)| len > 0) {
            match crcs.last_mut() {
                Some(last) if !at.is_multiple_of(CHUNK_BYTES) => *last = crc32c_combine(*last, crc, len.into()),
                _ => crcs.push(crc),
            }
        }
        crcs
    }
}

/// Bytes of a header for a tensor whose data begins here, and for its place in a whole one.
fn header_bytes(wanted: &Wanted<'_>, begin: u64) -> (u64, u64) {
    let mut entry = String::new();
    push_entry(&mut entry, wanted.declared, begin..begin + wanted.len);
    // It is a string in JSON, with a comma.
    let sharding = serde_json::Value::from(sharding_entry(wanted.declared, wanted.within)).to_string().len() - 1;
    (entry.len() as u64, sharding as u64)
}

pub(super) fn sharding_entry(declared: &Declared, within: Option<&Within>) -> String {
    let list = |numbers: &[u64]| numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    let name = serde_json::Value::from(declared.name.as_str());
    let zeros = vec![0; declared.shape.len()];
    let (start, shape) = within.map_or((&zeros, &declared.shape), |within| (&within.start, &within.shape));
    format!("{name}:{{\"saved_offsets\":[{}],\"global_shape\":[{}]}}", list(start), list(shape))
}

/// What every data file says of itself.
pub(super) fn metadata(origin: Origin, sharding: Option<String>) -> BTreeMap<String, String> {
    let mut metadata = BTreeMap::from([("deepring".to_owned(), origin.to_string())]);
    if let Some(sharding) = sharding {
        metadata.insert("DCP_SHARDING_INFO".into(), sharding);
        metadata.insert("DCP_VERSION".into(), "1.0".into());
    }
    metadata
}

/// Checks that a piece lies in its tensor, and that both can be read again.
pub(super) fn check_piece(declared: &Declared, within: Option<&Within>) -> Result<()> {
    let Some(Within { shape, start }) = within else { return Ok(()) };
    let piece = &declared.shape;
    if shape.len() > RANK_MAX || shape.iter().any(|&extent| extent >= 1 << 53) {
        let name = quoted(&declared.name);
        return Err(Error::Argument(format!("a tensor in pieces has at most {RANK_MAX} extents below 2^53, tensor {name}")));
    }
    let whole = Declared { name: declared.name.clone(), dtype: declared.dtype, shape: shape.clone() };
    whole.bytes()?;
    let fits = |dimension: usize| start[dimension].checked_add(piece[dimension]).is_some_and(|end| end <= shape[dimension]);
    if shape.len() != piece.len() || start.len() != piece.len() || !(0..piece.len()).all(fits) {
        let name = quoted(&declared.name);
        return Err(Error::Argument(format!("a piece of shape {piece:?} at {start:?} is not in {shape:?}, tensor {name}")));
    }
    let tile = Tile { file: 0, position: 0, len: 0, start: start.clone().into(), shape: piece.clone().into() };
    tile.fits(shape, declared.dtype).map_err(|detail| Error::Argument(format!("{detail}, tensor {}", quoted(&declared.name))))
}
