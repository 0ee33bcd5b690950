//! Single precision: moved, not converted.

use super::block::{Source, Target};

/// IEEE 754 single precision.
pub(super) struct F32;

impl Source for F32 {
    const BYTES: usize = 4;

    fn load(bytes: &[u8], values: &mut [f32]) {
        for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
            *value = f32::from_le_bytes(*bytes);
        }
    }
}

impl Target for F32 {
    const BYTES: usize = 4;
    const ROUNDS: bool = false;

    fn store(values: &[f32], bytes: &mut [u8]) {
        for (value, bytes) in values.iter().zip(bytes.as_chunks_mut().0) {
            *bytes = value.to_le_bytes();
        }
    }
}
