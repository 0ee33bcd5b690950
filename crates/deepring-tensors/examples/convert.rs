//! Converts a model into one safetensors file of another float type:
//! `cargo run -p deepring-tensors --example convert -- MODEL OUT F32|F16|BF16`.
//!
//! A model is a safetensors file, an index of several (`*.index.json`), or a directory with either: so this also merges
//! shards. The model is streamed, so it can be larger than memory. Floats of 16 bits and more are converted, and all else is
//! copied. OUT has a checksum of each tensor, and appears, or is replaced, as a whole at the end.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program talks to its terminal")]

use deepring::Engine;
use deepring_tensors::convert::convert_into;
use deepring_tensors::{DType, Declared, Error, Result, Safetensors, SaveOptions, SaveReceipt, StreamOptions, Writer};
use std::path::Path;
use std::process::ExitCode;

/// What is read ahead. The tensor that is converted comes on top, in the new type.
const STREAM_BYTES: u64 = 256 << 20;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [source, target, dtype] = &arguments[..] else {
        eprintln!("usage: convert MODEL OUT F32|F16|BF16");
        return ExitCode::from(2);
    };
    let Some(to @ (DType::F32 | DType::F16 | DType::BF16)) = dtype.to_str().and_then(DType::of) else {
        eprintln!("convert: {} is not F32, F16 or BF16", dtype.display());
        return ExitCode::from(2);
    };
    match convert(source.as_ref(), target.as_ref(), to) {
        Ok(SaveReceipt { bytes, .. }) => {
            println!("{bytes} bytes written");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("convert: {error}");
            ExitCode::FAILURE
        }
    }
}

pub(crate) fn convert(source: &Path, target: &Path, to: DType) -> Result<SaveReceipt> {
    let engine = Engine::builder().build()?;
    let model = Safetensors::open(&engine, source).wait()?;
    let table = model.table();
    let declared = table.iter().map(|info| match info.dtype {
        Some(from) => Ok(Declared { name: info.name.into(), dtype: converted(from, to).unwrap_or(from), shape: info.shape }),
        None => Err(Error::Argument(format!("{} is not an element type that can be written", info.dtype_name))),
    });
    let layout = declared.collect::<Result<Vec<_>>>()?;
    let options = SaveOptions::new().metadata(model.metadata()).checksums(true);
    let writer = Writer::create(&engine, target, layout, options).wait()?;

    // With less than its largest tensor, a model cannot be streamed.
    let memory = STREAM_BYTES.max(table.largest());
    let mut stream = model.stream(&table.all(), &StreamOptions::new().memory(memory))?;
    while let Some(tensor) = stream.wait_next() {
        let tensor = tensor?;
        match tensor.dtype().and_then(|from| Some((from, converted(from, to)?))) {
            Some((from, to)) => {
                let mut data = vec![0; tensor.bytes().len() / (from.bits() / 8) as usize * (to.bits() / 8) as usize];
                convert_into(from, tensor.bytes(), to, &mut data)?;
                writer.write(tensor.name(), data, 0).wait()?;
            }
            None => {
                writer.write(tensor.name(), tensor.to_buffer(), 0).wait()?;
            }
        }
    }
    writer.finish().wait()
}

/// The new element type, if this one is converted. Narrow floats stay, because their scales are tensors of their own.
fn converted(from: DType, to: DType) -> Option<DType> {
    (from != to && matches!(from, DType::F64 | DType::F32 | DType::F16 | DType::BF16)).then_some(to)
}
