//! Writes the bytes of tensors to standard output, one behind the other, within 256 MiB of memory.
//!
//! ```text
//! cargo run -p deepring-tensors --example cat -- MODEL          all tensors, in the order of their bytes
//! cargo run -p deepring-tensors --example cat -- MODEL NAME...  these, in this order
//! ```

use deepring::Engine;
use deepring_tensors::{Safetensors, StreamOptions};
use std::error::Error;
use std::io::{Write, stdout};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("Usage: cat MODEL [NAME...]")?;
    let names: Vec<String> = arguments.collect();
    let engine = Engine::builder().build()?;
    let model = Safetensors::open(&engine, path).wait()?;
    let selection = if names.is_empty() { model.table().all() } else { model.table().select(names.iter().map(String::as_str))? };
    let mut stream = model.stream(&selection, &StreamOptions::new().in_order(true))?;
    let mut out = stdout().lock();
    while let Some(tensor) = stream.wait_next() {
        out.write_all(tensor?.bytes())?;
    }
    out.flush()?;
    Ok(())
}
