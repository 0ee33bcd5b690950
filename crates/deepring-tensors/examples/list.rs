//! Lists the tensors of a model: `cargo run -p deepring-tensors --example list -- MODEL [--verify]`.
//!
//! A model is a safetensors file, an index of several (`*.index.json`), or a directory with either. Only headers are read.
//! With `--verify` all bytes are, and compared with the checksums that the files state.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program talks to its terminal")]

use deepring::Engine;
use deepring_tensors::{Result, Safetensors};
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let (path, verify) = match &arguments[..] {
        [path] => (path, false),
        [path, option] if option == "--verify" => (path, true),
        _ => {
            eprintln!("usage: list MODEL [--verify]");
            return ExitCode::from(2);
        }
    };
    match list(path.as_ref(), verify) {
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

/// A line for each tensor and one for all, and whether nothing is damaged.
pub(crate) fn list(path: &Path, verify: bool) -> Result<(String, bool)> {
    let engine = Engine::builder().build()?;
    let model = Safetensors::open(&engine, path).wait()?;
    let table = model.table();
    let mut text = String::new();
    for info in table.iter() {
        // Writing into a string does not fail.
        let _ = writeln!(text, "{:12} {:8} {:?} {}", info.len, info.dtype_name, info.shape, info.name);
    }
    let _ = writeln!(text, "{:12} bytes in {} tensors and {} files", table.bytes(), table.len(), table.paths().count());
    if !verify {
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
