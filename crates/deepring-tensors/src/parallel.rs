//! Conversion of large tensors on threads of the engine.

use crate::convert::{ConvertError, convert_into, converts, pieces, unit};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::job::Job;
use deepring::{Buffer, Engine, SharedBuffer, Task};

/// Bytes of a piece: enough that waking a thread costs nothing beside it, and few enough that all threads get some.
const PIECE_BYTES: usize = 4 << 20;

/// Converts all elements of `source`, in pieces of 4 MiB, on several threads of the engine at once.
///
/// The job fails with [`Error::Convert`] as [`convert_into`], and if there is no memory.
///
/// ```
/// use deepring_tensors::{DType, convert_shared};
/// let engine = deepring::Engine::builder().build()?;
/// let mut ones = engine.buffer(2000)?;
/// ones.chunks_exact_mut(2).for_each(|one| one.copy_from_slice(&0x3f80u16.to_le_bytes()));
/// let converted = convert_shared(&engine, DType::BF16, ones.freeze(), DType::F32).wait()?;
/// assert_eq!((converted.len(), &converted[..4]), (4000, &1f32.to_le_bytes()[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn convert_shared(engine: &Engine, from: DType, source: SharedBuffer, to: DType) -> Job<Result<Buffer>> {
    let engine = engine.clone();
    Job::new(async move {
        if !converts(from, to) {
            return Err(ConvertError::Unsupported { from, to }.into());
        }
        let (units, rest) = (source.len() / unit(from).bytes, source.len() % unit(from).bytes);
        if rest > 0 {
            return Err(ConvertError::Partial { dtype: from, bytes: source.len() }.into());
        }
        let elements = units * unit(from).elements;
        let mut whole = engine.pooled_buffer(elements / unit(to).elements * unit(to).bytes)?;
        let mut parts: Vec<Task<std::result::Result<Buffer, ConvertError>>> = Vec::new();
        // From the end, so that each piece is split off what is left.
        for (input, output) in pieces(from, to, elements, PIECE_BYTES).rev() {
            let mut part = whole.split_off(output.start);
            let piece = source.slice(input);
            let job = move || convert_into(from, &piece, to, &mut part).map(|()| part);
            parts.push(engine.run_blocking(job));
        }
        for task in parts.into_iter().rev() {
            let part = task.await??;
            // The parts of one buffer, in their order.
            whole.unsplit(part).map_err(|_| Error::Argument("a piece is out of its place".into()))?;
        }
        Ok(whole)
    })
}
