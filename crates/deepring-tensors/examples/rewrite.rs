//! Writes a model again, as one file or as several: to put its tensors on blocks, to give them checksums, to split or join it.
//!
//! ```text
//! cargo run -p deepring-tensors --example rewrite -- FROM TO [OPTION...]
//!
//!   --order blocks|reference|given   the order of the tensors; default: blocks
//!   --align BYTES                    the data begins on a multiple of this; default: 4096
//!   --checksums                      the header has a CRC-32C of each tensor
//!   --shard BYTES                    TO is a directory, whose files have no more data than this
//! ```

#![allow(clippy::print_stdout, reason = "that is what this program is for")]

use deepring::{Engine, SharedBuffer};
use deepring_tensors::{Declared, Order, Safetensors, SaveOptions, Source, TensorMap, save, save_sharded};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(from), Some(to)) = (arguments.next(), arguments.next()) else { return Err("Usage: rewrite FROM TO [OPTION...]".into()) };
    let (mut options, mut shard) = (SaveOptions::new(), None);
    while let Some(option) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{option} needs a value"));
        match option.as_str() {
            "--checksums" => options = options.checksums(true),
            "--align" => options = options.align(value()?.parse()?),
            "--shard" => shard = Some(value()?.parse()?),
            "--order" => {
                options = options.order(match value()?.as_str() {
                    "blocks" => Order::Blocks,
                    "reference" => Order::Reference,
                    "given" => Order::Given,
                    other => return Err(format!("there is no order {other}").into()),
                });
            }
            _ => return Err(format!("there is no option {option}").into()),
        }
    }
    let engine = Engine::builder().build()?;
    let model = Safetensors::open(&engine, from).wait()?;
    options = options.metadata(model.metadata());
    let loaded = model.load(&model.table().all()).wait()?;
    let tensors = sources(&loaded)?;
    let receipt = match shard {
        Some(bytes) => save_sharded(&engine, &to, tensors, bytes, options).wait()?,
        None => save(&engine, &to, tensors, options).wait()?,
    };
    println!("{} tensors, {} bytes in {} files", loaded.len(), receipt.bytes, receipt.files);
    Ok(())
}

/// The tensors of a model, without a copy.
fn sources(loaded: &TensorMap) -> Result<Vec<Source<SharedBuffer>>, Box<dyn Error>> {
    let source = |tensor: deepring_tensors::Tensor| {
        let dtype = tensor.dtype().ok_or_else(|| format!("{:?} has the unknown type {:?}", tensor.name(), tensor.dtype_name()))?;
        let shape = tensor.shape().iter().map(|&extent| extent as u64).collect();
        Ok(Source { declared: Declared { name: tensor.name().into(), dtype, shape }, data: tensor.to_buffer() })
    };
    loaded.iter().map(source).collect()
}
