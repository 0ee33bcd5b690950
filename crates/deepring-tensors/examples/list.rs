//! Lists the tensors of a model: a file, an index, or a directory.
//!
//! ```text
//! cargo run -p deepring-tensors --example list -- MODEL         a line for each tensor
//! cargo run -p deepring-tensors --example list -- MODEL --json  the same as JSON, one object a line
//! ```

#![allow(clippy::print_stdout, reason = "that is what this program is for")]

use deepring::Engine;
use deepring_tensors::Safetensors;
use std::error::Error;
use std::io::{Write, stdout};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("Usage: list MODEL [--json]")?;
    let json = arguments.next().is_some_and(|argument| argument == "--json");
    let engine = Engine::builder().build()?;
    let model = Safetensors::open(&engine, path).wait()?;
    let mut out = std::io::BufWriter::new(stdout().lock());
    for info in model.table().iter() {
        if json {
            let line = serde_json::json!({
                "name": info.name, "dtype": info.dtype_name, "shape": info.shape,
                "path": info.path, "position": info.position, "bytes": info.len,
            });
            writeln!(out, "{line}")?;
        } else {
            // A name can have any characters, also those that move a cursor.
            writeln!(out, "{:>14}  {:8} {:?}  {:?}", info.len, info.dtype_name, info.name, info.shape)?;
        }
    }
    if !json {
        writeln!(out, "{} tensors, {} bytes", model.table().len(), model.table().bytes())?;
    }
    out.flush()?;
    Ok(())
}
