//! [`Part`]: the tables of one writer of a generation: its data files with their sums, and the tensors that are split.
//!
//! ```text
//!   "id":"…","writer":0,"chunk":1048576,
//!   "files":[{"name":"data-00000-main-00000.safetensors","bytes":8192,"id":"…:0","headerCrc":"xxxxxxxx","crcs":"base64"}],
//!   "tensors":{"name":{"shape":[4,2],"parts":[{"file":0,"start":[0,0],"shape":[2,2]}]}}
//! ```
//!
//! Whole tensors are in the headers of the files alone. The sums of a file are those of every tensor in the order of its
//! bytes, one for each chunk of it, four bytes each, the lowest first. Names and the files of a tensor ascend.

use super::names::{Id, Member, Origin, WRITERS_MAX};
use crate::error::{Error, Fault, Reason};
use crate::json::{Field, Value};
use crate::sealed;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::HashSet;
use std::fmt::Write as _;

/// The largest part: sums of 11 TB, or pieces of some 400 000 tensors.
pub(crate) const PART_BYTES_MAX: u64 = 64 << 20;

/// Bytes of a chunk, if nothing else is said.
pub(crate) const CHUNK_BYTES: u64 = 1 << 20;

/// The largest chunk, which is read as a whole to be checked.
const CHUNK_BYTES_MAX: u64 = 1 << 30;

/// The most dimensions of a tensor that is split.
pub(crate) const RANK_MAX: usize = 64;

/// The tables of one writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) id: Id,
    pub(crate) writer: u32,
    /// Bytes that one sum covers: a power of two.
    pub(crate) chunk: u64,
    pub(crate) files: Vec<PartFile>,
    pub(crate) split: Vec<SplitTensor>,
}

/// A data file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartFile {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// What its own header says: of an older generation, if the file is shared with that.
    pub(crate) origin: Origin,
    /// Of all bytes in front of the data.
    pub(crate) header_crc: u32,
    pub(crate) crcs: Vec<u32>,
}

/// A tensor of which the writer has pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SplitTensor {
    pub(crate) name: String,
    /// Of the whole tensor.
    pub(crate) shape: Vec<u64>,
    pub(crate) pieces: Vec<SplitPiece>,
}

/// A piece of a tensor, under the name of the tensor in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SplitPiece {
    /// The index of the file in the part.
    pub(crate) file: u32,
    pub(crate) start: Vec<u64>,
    pub(crate) shape: Vec<u64>,
}

impl Part {
    /// The text of the file. Tensors and their pieces are put in order, so equal tables have equal texts.
    pub(crate) fn text(&self) -> Result<String, Error> {
        let Self { id, writer, chunk, files, split } = self;
        let mut text = format!("\"id\":\"{id}\",\"writer\":{writer},\"chunk\":{chunk},\"files\":[");
        for (nth, PartFile { name, bytes, origin, header_crc, crcs }) in files.iter().enumerate() {
            let _ = write!(text, "{}{{\"name\":\"{name}\",\"bytes\":{bytes},\"id\":\"{origin}\",", comma(nth));
            let _ = write!(text, "\"headerCrc\":\"{}\",\"crcs\":\"", sealed::digits(*header_crc));
            let crcs: Vec<u8> = crcs.iter().flat_map(|crc| crc.to_le_bytes()).collect();
            STANDARD.encode_string(crcs, &mut text);
            text.push_str("\"}");
        }
        text.push_str("],\"tensors\":{");
        let mut tensors: Vec<&SplitTensor> = split.iter().collect();
        tensors.sort_unstable_by_key(|tensor| &tensor.name);
        for (nth, SplitTensor { name, shape, pieces }) in tensors.into_iter().enumerate() {
            let name = serde_json::Value::from(name.as_str());
            let _ = write!(text, "{}{name}:{{\"shape\":{},\"parts\":[", comma(nth), numbers(shape));
            let mut pieces: Vec<&SplitPiece> = pieces.iter().collect();
            pieces.sort_unstable_by_key(|piece| piece.file);
            for (nth, SplitPiece { file, start, shape }) in pieces.into_iter().enumerate() {
                let (comma, start, shape) = (comma(nth), numbers(start), numbers(shape));
                let _ = write!(text, "{comma}{{\"file\":{file},\"start\":{start},\"shape\":{shape}}}");
            }
            text.push_str("]}");
        }
        text.push('}');
        let text = sealed::seal(&text);
        if text.len() as u64 > PART_BYTES_MAX {
            let len = text.len();
            let detail =
                format!("the tables of writer {writer} would have {len} bytes, and {PART_BYTES_MAX} are allowed: use more writers");
            return Err(Error::Argument(detail));
        }
        Ok(text)
    }

    /// Reads the text of a file. Everything that it says of itself is checked; what its files say is not known here.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let all = Value::new(sealed::open(bytes, PART_BYTES_MAX, Reason::Part)?, Reason::Part);
        let (mut id, mut writer, mut chunk) = (Field::new("id"), Field::new("writer"), Field::new("chunk"));
        let (mut files, mut tensors) = (Field::new("files"), Field::new("tensors"));
        all.object(|key, value| match &*key {
            "id" => id.set(value, value.known("an id", Id::parse)?),
            "writer" => writer.set(value, writer_of(value)?),
            "chunk" => chunk.set(value, chunk_of(value)?),
            "files" => files.set(value, value),
            "tensors" => tensors.set(value, value),
            _ => Ok(()),
        })?;
        let (id, writer, chunk) = (id.take(all)?, writer.take(all)?, chunk.take(all)?);
        let files = files_of(files.take(all)?, writer)?;
        let split = split_of(tensors.take(all)?, files.len())?;
        Ok(Self { id, writer, chunk, files, split })
    }
}

impl PartFile {
    /// Where the sums of each tensor begin among those of the file, and where the last ones end. `lens` are the bytes of the
    /// tensors in the order of the file.
    pub(crate) fn places(&self, chunk: u64, lens: impl IntoIterator<Item = u64>) -> Result<Vec<usize>, Fault> {
        let mut places = vec![0];
        let mut end = 0u64;
        for len in lens {
            end = end.saturating_add(len.div_ceil(chunk));
            places.push(end as usize);
        }
        if end != self.crcs.len() as u64 {
            let detail = format!("{} has {end} chunks, and the part has {} sums", self.name, self.crcs.len());
            return Err(Fault::new(Reason::Part, detail));
        }
        Ok(places)
    }
}

fn writer_of(value: Value<'_>) -> Result<u32, Fault> {
    let writer = value.number()?;
    u32::try_from(writer).ok().filter(|&writer| writer < WRITERS_MAX).ok_or_else(|| value.fault(format!("there is no writer {writer}")))
}

fn chunk_of(value: Value<'_>) -> Result<u64, Fault> {
    let chunk = value.number()?;
    if chunk.is_power_of_two() && chunk <= CHUNK_BYTES_MAX {
        return Ok(chunk);
    }
    Err(value.fault(format!("chunk is {chunk}, not a power of two up to {CHUNK_BYTES_MAX}")))
}

fn files_of(value: Value<'_>, writer: u32) -> Result<Vec<PartFile>, Fault> {
    let mut files = Vec::new();
    value.array(|file| {
        files.push(file_of(file, writer)?);
        Ok(())
    })?;
    let mut names = HashSet::with_capacity(files.len());
    match files.iter().find(|file| !names.insert(&file.name)) {
        None => Ok(files),
        Some(file) => Err(value.fault(format!("the file {} is there twice", file.name))),
    }
}

fn file_of(file: Value<'_>, writer: u32) -> Result<PartFile, Fault> {
    let (mut name, mut bytes, mut origin) = (Field::new("name"), Field::new("bytes"), Field::new("id"));
    let (mut header_crc, mut crcs) = (Field::new("headerCrc"), Field::new("crcs"));
    file.object(|key, value| match &*key {
        "name" => {
            let own = |name: &str| matches!(Member::parse(name), Some(Member::Data { writer: found, .. }) if found == writer);
            let parse = |name: &str| own(name).then(|| name.to_owned());
            name.set(value, value.known(&format!("the name of a data file of writer {writer}"), parse)?)
        }
        "bytes" => bytes.set(value, value.number()?),
        "id" => origin.set(value, value.known("the id of a data file", Origin::parse)?),
        "headerCrc" => header_crc.set(value, value.known("a checksum", sealed::of_digits)?),
        "crcs" => crcs.set(value, value.known("a list of checksums", crcs_of)?),
        _ => Ok(()),
    })?;
    let (name, bytes, origin) = (name.take(file)?, bytes.take(file)?, origin.take(file)?);
    let (header_crc, crcs) = (header_crc.take(file)?, crcs.take(file)?);
    if crcs.len() as u64 > bytes {
        return Err(file.fault(format!("{name} has {bytes} bytes, and {} sums", crcs.len())));
    }
    Ok(PartFile { name, bytes, origin, header_crc, crcs })
}

fn crcs_of(text: &str) -> Option<Vec<u32>> {
    let bytes = STANDARD.decode(text).ok()?;
    let crcs = bytes.chunks_exact(4).map(|crc| u32::from_le_bytes([crc[0], crc[1], crc[2], crc[3]])).collect();
    bytes.len().is_multiple_of(4).then_some(crcs)
}

fn split_of(value: Value<'_>, files: usize) -> Result<Vec<SplitTensor>, Fault> {
    let mut split: Vec<SplitTensor> = Vec::new();
    value.object(|name, tensor| {
        if split.last().is_some_and(|last| *last.name >= *name) {
            return Err(Fault::of(Reason::Part, &name, "the names of the tensors do not ascend, or one is there twice"));
        }
        let name = name.into_owned();
        let (shape, pieces) = tensor_of(tensor, files).map_err(|fault| Fault { tensor: Some(name.clone()), ..fault })?;
        split.push(SplitTensor { name, shape, pieces });
        Ok(())
    })?;
    Ok(split)
}

fn tensor_of(tensor: Value<'_>, files: usize) -> Result<(Vec<u64>, Vec<SplitPiece>), Fault> {
    let (mut shape, mut parts) = (Field::new("shape"), Field::new("parts"));
    tensor.object(|key, value| match &*key {
        "shape" => shape.set(value, value.numbers(RANK_MAX)?),
        "parts" => parts.set(value, value),
        _ => Ok(()),
    })?;
    let (shape, parts) = (shape.take(tensor)?, parts.take(tensor)?);
    if shape.iter().try_fold(1u64, |elements, &extent| elements.checked_mul(extent)).is_none() {
        return Err(tensor.fault(format!("a tensor of shape {shape:?} has more elements than can be counted")));
    }
    let mut pieces: Vec<SplitPiece> = Vec::new();
    parts.array(|value| {
        let piece = piece_of(value, &shape, files)?;
        if pieces.last().is_some_and(|last| last.file >= piece.file) {
            return Err(value.fault("the files of the pieces do not ascend, or one has two of them"));
        }
        pieces.push(piece);
        Ok(())
    })?;
    if pieces.is_empty() {
        return Err(tensor.fault("there is no piece of it"));
    }
    pieces.shrink_to_fit();
    Ok((shape, pieces))
}

fn piece_of(piece: Value<'_>, whole: &[u64], files: usize) -> Result<SplitPiece, Fault> {
    let (mut file, mut start, mut shape) = (Field::new("file"), Field::new("start"), Field::new("shape"));
    piece.object(|key, value| match &*key {
        "file" => file.set(value, value.number()?),
        "start" => start.set(value, value.numbers(whole.len())?),
        "shape" => shape.set(value, value.numbers(whole.len())?),
        _ => Ok(()),
    })?;
    let (file, start, shape) = (file.take(piece)?, start.take(piece)?, shape.take(piece)?);
    if file >= files as u64 {
        return Err(piece.fault(format!("it is in file {file} of {files}")));
    }
    let inside = start.len() == whole.len() && shape.len() == whole.len();
    // Both are below 2^53.
    if !inside || start.iter().zip(&shape).zip(whole).any(|((start, extent), whole)| start + extent > *whole) {
        return Err(piece.fault(format!("the piece of shape {shape:?} at {start:?} is not inside of {whole:?}")));
    }
    Ok(SplitPiece { file: file as u32, start, shape })
}

fn comma(nth: usize) -> &'static str {
    if nth == 0 { "" } else { "," }
}

fn numbers(list: &[u64]) -> String {
    format!("[{}]", list.iter().map(u64::to_string).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests;
