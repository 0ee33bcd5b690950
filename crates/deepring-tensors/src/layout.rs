//! [`Layout`]: the header of a file that is to be written, and where its tensors go. Pure.

use crate::checksums;
use crate::error::{Error, Result, quoted};
use crate::header::{HEADER_BYTES_MAX, LENGTH_BYTES, METADATA};
pub(crate) use crate::order::BLOCK_BYTES;
use crate::order::in_order;
pub use crate::order::{Declared, Order};
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::ops::Range;

/// Where everything of a file goes.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// The bytes of the file in front of the data. Checksums are zeros.
    pub(crate) header: Vec<u8>,
    /// The indices of the tensors in the order of their bytes.
    pub(crate) order: Vec<u32>,
    /// Where each begins in the file, by its index.
    pub(crate) positions: Vec<u64>,
    /// Bytes of each, by its index.
    pub(crate) lens: Vec<u64>,
    /// Bytes of the file.
    pub(crate) size: u64,
}

/// What is said of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<'m> {
    pub(crate) metadata: &'m BTreeMap<String, String>,
    /// The data begins on a multiple of this.
    pub(crate) align: u64,
    pub(crate) order: Order,
    /// There is room for checksums.
    pub(crate) checksums: bool,
}

impl Layout {
    pub(crate) fn new(tensors: &[Declared], rules: Rules<'_>) -> Result<Self> {
        let lens = check(tensors)?;
        let order = in_order(tensors, &lens, rules.order);
        let header = header(tensors, &lens, &order, rules)?;
        let mut positions = vec![0; tensors.len()];
        let mut position = header.len() as u64;
        for &index in &order {
            positions[index as usize] = position;
            position += lens[index as usize];
        }
        Ok(Self { header, order, positions, lens, size: position })
    }

    /// Where the data begins.
    pub(crate) fn start(&self) -> u64 {
        self.header.len() as u64
    }

    /// The header with these checksums, in the order of the bytes.
    pub(crate) fn sealed(mut self, checksums: &[u32]) -> Vec<u8> {
        // With the key: other metadata can have the same text.
        let value = |checksums: &[u32]| format!("\"{}\":\"{}\"", checksums::KEY, checksums::text(checksums));
        let (empty, full) = (value(&vec![0; checksums.len()]), value(checksums));
        let found = self.header.windows(empty.len()).position(|window| window == empty.as_bytes());
        if let Some(at) = found {
            self.header[at..at + full.len()].copy_from_slice(full.as_bytes());
            checksums::seal(&mut self.header);
        }
        self.header
    }
}

/// Checks that every tensor has a name of its own.
pub(crate) fn check_names(tensors: &[Declared]) -> Result<()> {
    let mut names = HashSet::with_capacity(tensors.len());
    match tensors.iter().find(|tensor| !names.insert(tensor.name.as_str())) {
        None => Ok(()),
        Some(tensor) => Err(Error::Argument(format!("two tensors have the name {}", quoted(&tensor.name)))),
    }
}

/// Whether a tensor can have this name.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if name == METADATA {
        return Err(Error::Argument("no tensor can have the name __metadata__".into()));
    }
    Ok(())
}

/// Bytes of each tensor, if all can be written.
fn check(tensors: &[Declared]) -> Result<Vec<u64>> {
    check_names(tensors)?;
    let mut total = 0u64;
    let mut lens = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let Declared { name, shape, .. } = tensor;
        check_name(name)?;
        let len = tensor.bytes()?;
        total = total.saturating_add(len);
        if total >= 1 << 53 || shape.iter().any(|&extent| extent >= 1 << 53) {
            return Err(Error::Argument(format!("the file or the tensor {} is larger than 2^53", quoted(name))));
        }
        lens.push(len);
    }
    Ok(lens)
}

/// What a header says of a tensor, behind others.
pub(crate) fn push_entry(json: &mut String, tensor: &Declared, offsets: Range<u64>) {
    let Declared { name, dtype, shape } = tensor;
    let name = serde_json::Value::from(name.as_str());
    let shape = shape.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    let Range { start, end } = offsets;
    let _ = write!(json, ",{name}:{{\"dtype\":\"{dtype}\",\"shape\":[{shape}],\"data_offsets\":[{start},{end}]}}");
}

/// The length, the JSON, and spaces up to the data.
fn header(tensors: &[Declared], lens: &[u64], order: &[u32], rules: Rules<'_>) -> Result<Vec<u8>> {
    let mut metadata = rules.metadata.clone();
    // Programs on PyTorch refuse files without it.
    metadata.entry("format".into()).or_insert_with(|| "pt".into());
    // Those of another file.
    metadata.remove(checksums::KEY);
    if rules.checksums {
        metadata.insert(checksums::KEY.into(), checksums::text(&vec![0; tensors.len()]));
    }
    let text = |value: &str| serde_json::Value::from(value).to_string();
    let mut json = format!("{{\"{METADATA}\":{{");
    for (nth, (key, value)) in metadata.iter().enumerate() {
        let comma = if nth == 0 { "" } else { "," };
        let _ = write!(json, "{comma}{}:{}", text(key), text(value));
    }
    json.push('}');
    let mut begin = 0;
    for &index in order {
        let end = begin + lens[index as usize];
        push_entry(&mut json, &tensors[index as usize], begin..end);
        begin = end;
    }
    json.push('}');
    let start = (LENGTH_BYTES + json.len() as u64).next_multiple_of(rules.align);
    let len = start - LENGTH_BYTES;
    if len > HEADER_BYTES_MAX {
        let detail = format!("the header would have {len} bytes, and readers allow {HEADER_BYTES_MAX}: write several files");
        return Err(Error::Argument(detail));
    }
    let mut header = len.to_le_bytes().to_vec();
    header.extend_from_slice(json.as_bytes());
    header.resize(start as usize, b' ');
    Ok(header)
}
