//! Hostile headers and indices, and the reference crate as oracle: the bodies of the fuzz targets. Not part of the public API.
//!
//! ```text
//!   header   bytes as the JSON of a header            ─► the table, or the reason   ┐ against the reference crate,
//!   nearly   tensors that are nearly right, as JSON   ─► the same                   ┘ with the differences argued in `oracle`
//!   index    bytes as an index                        ─► the files of the tensors, all below the directory
//! ```
//!
//! A target builds an input from bytes and panics if a promise does not hold. In `npm run fuzz` libFuzzer searches for such
//! bytes (`crates/deepring-tensors/fuzz`). Without libFuzzer, the tests here run each target on the corpus that it left, and
//! on mutations of it.

mod nearly;
mod oracle;
mod tree;

use crate::index;
use std::path::{Component, Path};

/// A target: panics on a broken promise.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: &[(&str, Target)] = &[("header", header), ("nearly", nearly::check), ("index", check_index)];

/// The target with a planted bug, which must fail: a reader that takes files that were cut.
pub const PLANTED: (&str, Target) = ("planted", nearly::planted);

/// Runs a target by its name.
///
/// # Panics
/// If a promise does not hold, or `name` is not a target.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().chain([&PLANTED]).find(|(known, _)| *known == name);
    let (_, check) = target.unwrap_or_else(|| panic!("there is no target {name}"));
    check(bytes);
}

/// A header as it is: the last byte of the input chooses the size of the data.
fn header(bytes: &[u8]) {
    let Some((&size, json)) = bytes.split_last() else { return };
    // Twice, because most headers are of tensors whose bytes end somewhere else.
    oracle::check(json, size.into(), crate::header::parse);
    if let Some(end) = oracle::last_end(json) {
        oracle::check(json, end, crate::header::parse);
    }
}

/// An index: what is accepted stays below the directory, and is what `serde_json` finds.
fn check_index(bytes: &[u8]) {
    let Ok(index) = index::parse(bytes) else { return };
    let files: Vec<&str> = index.numbers.keys().map(String::as_str).collect();
    for file in &files {
        let joined = Path::new("/directory").join(file);
        let below = joined.strip_prefix("/directory").is_ok_and(|rest| rest.components().all(|part| matches!(part, Component::Normal(_))));
        assert!(below && !file.is_empty() && !file.contains('\0'), "{file:?} leaves the directory");
    }
    // What is skipped can be of any depth, and have unpaired surrogates.
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
    let map = value["weight_map"].as_object().expect("a map");
    assert_eq!(index.names.len(), map.len(), "as many names");
    for (name, file) in map {
        let found = index.names.find(name).expect("a name of the map");
        assert_eq!(Some(files[index.files[found] as usize]), file.as_str(), "the file of {name:?}");
    }
}

#[cfg(test)]
mod tests;
