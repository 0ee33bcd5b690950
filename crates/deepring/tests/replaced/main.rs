//! Promise: a file that is replaced is the old one or the new one, whole, under its name, and what fails leaves the old one and
//! no temporary file.

mod admitted;
mod ends;
mod faults;
#[path = "../harness/mod.rs"]
mod harness;
mod names;
mod whole;

use deepring::{Engine, ReplaceOptions, Replacement};
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// What is in a directory, sorted.
fn names(directory: &Path) -> Vec<OsString> {
    let entries = std::fs::read_dir(directory).expect("the directory");
    let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
    names.sort();
    names
}

fn begin(engine: &Engine, path: &Path, options: ReplaceOptions) -> Replacement {
    engine.replace(path, options).wait().expect("a temporary file")
}

/// Replaces a file by these bytes.
fn replace(engine: &Engine, path: &Path, content: &[u8], options: ReplaceOptions) {
    let replacement = begin(engine, path, options);
    replacement.file().write_at(content.to_vec(), 0).wait().result.expect("a write");
    replacement.commit().wait().expect("a commit");
}
