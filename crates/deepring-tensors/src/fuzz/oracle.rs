//! The reference crate as oracle: both read the same header, and every difference is one of those that are named here.
//!
//! * It accepts, and we refuse: [`STRICTER`].
//! * We accept, and it refuses: an element type that it does not know ([`has_unknown_type`]), and bytes behind the last
//!   tensor, where a program allows them.
//! * Both accept: the same table.

use super::tree::Tree;
use crate::dtype::DType;
use crate::error::{Fault, Reason};
use crate::header::{Header, METADATA};
use safetensors::tensor::Metadata;

/// A reader of headers, or one with a planted bug.
pub(super) type Parse = fn(&[u8], u64, bool) -> Result<Header, Fault>;

/// What the reference accepts and we refuse: a name, the reasons that we give, and how it looks.
type Difference = (&'static str, &'static [Reason], fn(&Tree) -> bool);

/// The first of two tensors of one name can be wrong by itself, which the reference never sees.
const TWICE: &[Reason] = &[Reason::Duplicate, Reason::Bits, Reason::Offsets, Reason::Order, Reason::Overflow, Reason::Size];

/// See [`Difference`].
const STRICTER: &[Difference] = &[
    // The reference keeps the last of two. Programs that keep the first would see another model in the same file.
    ("a name or a key of the metadata is there twice", TWICE, |tree| tree.repeats() || tree.get(METADATA).is_some_and(Tree::repeats)),
    // The reference buffers tensors before it knows their form, and its buffer also accepts the fields in their order.
    ("a tensor is an array of its fields", &[Reason::Field], |tree| tensors(tree).any(|tensor| matches!(tensor, Tree::List(_)))),
    // The same buffer accepts {"F32": null} for a type.
    ("an element type is an object", &[Reason::Field], |tree| {
        tensors(tree).any(|tensor| matches!(tensor.get("dtype"), Some(Tree::Object(_))))
    }),
    // No number of JavaScript counts it. The reference accepts it where an extent of 0 stands in front of it, or where a
    // file would have more than 2^53 bytes.
    ("a number is larger than 2^53 - 1", &[Reason::Overflow, Reason::Offsets], |tree| {
        let lists = tensors(tree).flat_map(|tensor| ["shape", "data_offsets"].map(|field| tensor.get(field)));
        lists.flatten().flat_map(Tree::numbers).any(|number| number >= 1 << 53)
    }),
];

/// The tensors of a header.
fn tensors(tree: &Tree) -> impl Iterator<Item = &Tree> {
    tree.members().iter().filter(|(name, _)| name != METADATA).map(|(_, tensor)| tensor)
}

/// Whether a tensor has an element type that the reference does not know.
fn has_unknown_type(header: &Header) -> bool {
    (0..header.columns.len()).any(|index| header.columns.dtype(index).is_none())
}

/// Where the last tensor of a header ends, by its own word.
pub(super) fn last_end(json: &[u8]) -> Option<u64> {
    let tree = Tree::of(json)?;
    let ends = tensors(&tree).filter_map(|tensor| tensor.get("data_offsets")?.numbers().last());
    ends.max()
}

/// Both read a header of a file with this many bytes of data.
pub(super) fn check(json: &[u8], data_bytes: u64, parse: Parse) {
    let reference = ask(json, data_bytes);
    let strict = parse(json, data_bytes, true);
    match (&strict, &reference) {
        (Ok(header), Some(metadata)) => same(header, metadata),
        (Ok(header), None) => {
            assert!(has_unknown_type(header), "only we accept {:?} with {data_bytes} bytes of data", shown(json));
            // With types that it knows, it must accept.
            let rewritten = rewrite(header);
            let metadata = ask(rewritten.as_bytes(), data_bytes).unwrap_or_else(|| panic!("only we accept {rewritten}"));
            assert_eq!(metadata.tensors().len(), header.columns.len());
        }
        (Err(fault), Some(_)) => {
            let tree = Tree::of(json).expect("the reference has read it");
            let argued = STRICTER.iter().any(|(_, reasons, looks)| reasons.contains(&fault.reason) && looks(&tree));
            assert!(argued, "only the reference accepts {:?} with {data_bytes} bytes of data: {fault:?}", shown(json));
        }
        (Err(fault), None) => assert!(fault.detail.len() < 4096, "a long message: {} bytes", fault.detail.len()),
    }
    let lenient = parse(json, data_bytes, false);
    match (strict, lenient) {
        (Ok(_), Ok(header)) => assert_eq!(header.trailing, 0),
        (Ok(_), Err(fault)) => panic!("refused where bytes can follow the last tensor: {fault:?}"),
        (Err(strict), Err(lenient)) => assert_eq!(strict, lenient),
        (Err(fault), Ok(header)) => {
            assert_eq!(fault.reason, Reason::Trailing);
            assert!((1..=data_bytes).contains(&header.trailing));
            // Without these bytes, it is right.
            check(json, data_bytes - header.trailing, parse);
        }
    }
}

/// What the reference finds in a file with this header.
fn ask(json: &[u8], data_bytes: u64) -> Option<Metadata> {
    let metadata: Metadata = serde_json::from_str(std::str::from_utf8(json).ok()?).ok()?;
    (metadata.data_len() as u64 == data_bytes).then_some(metadata)
}

/// Both have the same tensors and metadata.
fn same(header: &Header, metadata: &Metadata) {
    let columns = &header.columns;
    let tensors = metadata.tensors();
    assert_eq!(tensors.len(), columns.len(), "as many tensors");
    for index in 0..columns.len() {
        let name = columns.names.get(index);
        assert_eq!(columns.names.find(name), Some(index));
        let info = tensors.get(name).unwrap_or_else(|| panic!("the reference has no {name:?}"));
        let shape: Vec<u64> = info.shape.iter().map(|&extent| extent as u64).collect();
        let offsets = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
        let dtype = columns.dtype(index).map(|dtype: DType| format!("{dtype:?}").to_uppercase());
        assert_eq!(dtype, Some(format!("{:?}", info.dtype).to_uppercase().replace('_', "")), "the type of {name:?}");
        assert_eq!(
            (columns.shapes.get(index).collect::<Vec<_>>(), (columns.begins[index], columns.end(index))),
            (shape, offsets),
            "{name:?}"
        );
    }
    let ours: Vec<(String, String)> = header.metadata.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let mut theirs: Vec<(String, String)> = metadata.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    theirs.sort();
    assert_eq!(ours, theirs, "the metadata");
}

/// The same header with unknown types as bytes.
fn rewrite(header: &Header) -> String {
    let columns = &header.columns;
    let tensors = (0..columns.len()).map(|index| {
        let (dtype, shape) = match columns.dtype(index) {
            Some(dtype) => (dtype.name(), columns.shapes.get(index).collect()),
            None => ("U8", vec![columns.lens[index]]),
        };
        let value = serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": [columns.begins[index], columns.end(index)] });
        (columns.names.get(index).to_owned(), value)
    });
    serde_json::Value::Object(tensors.collect()).to_string()
}

fn shown(json: &[u8]) -> String {
    String::from_utf8_lossy(json).into_owned()
}
