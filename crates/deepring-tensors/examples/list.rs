//! Lists the tensors of a model: `cargo run -p deepring-tensors --example list -- MODEL [--json | --verify]`.
//!
//! A model is a safetensors file, an index of several (`*.index.json`), or a directory with either. Only headers are read.
//! With `--verify` all bytes are, and compared with the checksums that the files state. With `--json` each tensor is one object
//! in a line.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program talks to its terminal")]

use deepring::Engine;
use deepring_tensors::{Result, Safetensors};
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let (path, form) = match &arguments[..] {
        [path] => (path, Form::Text),
        [path, option] if option == "--verify" => (path, Form::Verified),
        [path, option] if option == "--json" => (path, Form::Json),
        _ => {
            eprintln!("usage: list MODEL [--json | --verify]");
            return ExitCode::from(2);
        }
    };
    match list(path.as_ref(), form) {
        Ok((text, whole)) => {
            print!("{text}");
            if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("list: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What is printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Json,
    Verified,
}

/// A line for each tensor and one for all, and whether nothing is damaged.
pub(crate) fn list(path: &Path, form: Form) -> Result<(String, bool)> {
    let engine = Engine::builder().build()?;
    let model = Safetensors::open(&engine, path).wait()?;
    let table = model.table();
    let mut text = String::new();
    if form == Form::Json {
        for info in table.iter() {
            let (shape, path) = (info.shape, info.path.to_string_lossy());
            let object = serde_json::json!({
                "name": info.name, "dtype": info.dtype_name, "shape": shape, "path": path, "position": info.position, "bytes": info.len,
            });
            let _ = writeln!(text, "{object}");
        }
        return Ok((text, true));
    }
    for info in table.iter() {
        // Writing into a string does not fail.
        let _ = writeln!(text, "{:12} {:8} {:?} {}", info.len, info.dtype_name, info.shape, info.name);
    }
    let _ = writeln!(text, "{:12} bytes in {} tensors and {} files", table.bytes(), table.len(), table.paths().count());
    if form == Form::Text {
        return Ok((text, true));
    }
    let found = model.verify(None).wait()?;
    for damage in &found.damaged {
        let what = damage.tensor.as_deref().unwrap_or("the header");
        let _ = writeln!(text, "DAMAGED {what}, {} bytes at {} of {}", damage.len, damage.position, damage.path.display());
    }
    let _ = writeln!(text, "{} tensors verified, {} without a checksum", found.verified, found.unverifiable);
    Ok((text, found.damaged.is_empty()))
}
