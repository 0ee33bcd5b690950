//! The files that a writer has begun: which tensors each has, where, and what of them is written.

use super::block::{Block, Bytes, Filling, Pending};
use super::names::{Member, Origin};
use super::part::{CHUNK_BYTES, PartFile, RANK_MAX};
use crate::error::{Error, Result, quoted};
use crate::layout::{BLOCK_BYTES, Declared, Layout, Order, Rules, push_entry};
use crate::split::Tile;
use deepring::{Buffer, IoBuf, ManyOptions, Piece, Replacement, crc32c_combine};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// A file takes no more tensors beyond this: copies over networks, and other libraries, have trouble with larger ones.
pub(super) const FILE_BYTES_MAX: u64 = 50_000_000_000;

/// A header without its tensors is no longer.
pub(super) const BASE_BYTES: u64 = 512;

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
    pub(super) replacement: Option<Arc<Replacement>>,
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
    pub(super) replacement: Arc<Replacement>,
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

    /// Adds a tensor to the end of a file.
    pub(super) fn reserve(&mut self, number: usize, wanted: &Wanted<'_>) -> Result<Placed> {
        let file = &mut self.files[number];
        let Some(replacement) = file.replacement.clone() else { return Err(Error::Argument("the file is complete".into())) };
        let (header, sharding) = header_bytes(wanted, file.end - file.start);
        file.header_bytes += header;
        file.sharding_bytes += sharding;
        file.is_split |= wanted.within.is_some();
        file.names.insert(wanted.declared.name.clone());
        file.declared.push(wanted.declared.clone());
        file.extents.push(Extent { begin: file.end, len: wanted.len, within: wanted.within.cloned(), sums: Vec::new() });
        let position = file.end;
        file.end += wanted.len;
        Ok(Placed { file: number, tensor: file.extents.len() - 1, position, replacement })
    }

    /// Copies the last tensor of a file into its block, and into these.
    pub(super) fn gather<B: IoBuf>(&mut self, number: usize, data: &B, spare: Vec<Buffer>) {
        if self.files[number].block.as_ref().is_some_and(|block| block.room_for_next() == 0) {
            self.flush_block(number);
        }
        let file = &mut self.files[number];
        let (Some(replacement), Some(extent)) = (file.replacement.clone(), file.extents.last()) else { return };
        let (tensor, position) = (file.extents.len() - 1, extent.begin);
        let mut filling = Filling { block: file.block.take(), spare };
        filling.copy(tensor, position, data, |block| self.write_block(number, &replacement, block));
        self.files[number].block = filling.block;
    }

    /// Writes what is in the block of a file.
    pub(super) fn flush_block(&mut self, number: usize) {
        let file = &mut self.files[number];
        if let (Some(block), Some(replacement)) = (file.block.take(), file.replacement.clone()) {
            self.write_block(number, &replacement, block);
        }
    }

    pub(super) fn write_block(&mut self, number: usize, replacement: &Replacement, block: Block) {
        let Block { buffer, position, from, parts, .. } = block;
        let mut offset = 0;
        let pieces: Vec<Piece> = parts
            .iter()
            .map(|part| {
                let piece = Piece::new(position + offset, from + offset as usize, part.len as usize);
                offset += part.len;
                piece
            })
            .collect();
        let op = replacement.file().write_gather_with(buffer, &pieces, ManyOptions::new().checksums(true));
        self.files[number].writes += 1;
        self.pending.push_back(Pending { file: number, parts, op });
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
    pub(super) fn new(name: String, group: String, class: Class, replacement: Replacement, start: u64) -> Self {
        Self {
            name,
            group,
            class,
            adopted: None,
            replacement: Some(Arc::new(replacement)),
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
pub(super) fn header_bytes(wanted: &Wanted<'_>, begin: u64) -> (u64, u64) {
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
