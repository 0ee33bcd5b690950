//! The 16-bit floats.
//!
//! The crate `half` converts F16, by instructions of the processor where it has them (F16C, FP16). BF16 is the upper half of
//! an F32, so its conversions are written out here: to F32 because `half` makes every NaN quiet and torch does not, and from
//! F32 because this takes two thirds of the time and gives the same bits.

use super::block::{BLOCK, Source, Target};
use half::{f16, slice::HalfFloatSliceExt};

/// IEEE 754 half precision: 5 exponent bits, 10 of the mantissa.
pub(super) struct F16;

impl Source for F16 {
    const BYTES: usize = 2;

    fn load(bytes: &[u8], values: &mut [f32]) {
        let mut halves = [f16::ZERO; BLOCK];
        let halves = &mut halves[..values.len()];
        for (half, bytes) in halves.iter_mut().zip(bytes.as_chunks().0) {
            *half = f16::from_le_bytes(*bytes);
        }
        halves.convert_to_f32_slice(values);
    }
}

impl Target for F16 {
    const BYTES: usize = 2;
    const ROUNDS: bool = true;

    fn store(values: &[f32], bytes: &mut [u8]) {
        let mut halves = [f16::ZERO; BLOCK];
        let halves = &mut halves[..values.len()];
        halves.convert_from_f32_slice(values);
        for (half, bytes) in halves.iter().zip(bytes.as_chunks_mut().0) {
            *bytes = half.to_le_bytes();
        }
    }
}

/// The upper half of a single-precision float: 8 exponent bits, 7 of the mantissa.
pub(super) struct BF16;

impl Source for BF16 {
    const BYTES: usize = 2;

    fn load(bytes: &[u8], values: &mut [f32]) {
        for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
            *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
        }
    }
}

impl Target for BF16 {
    const BYTES: usize = 2;
    const ROUNDS: bool = true;

    fn store(values: &[f32], bytes: &mut [u8]) {
        for (value, bytes) in values.iter().zip(bytes.as_chunks_mut().0) {
            *bytes = upper_half(value.to_bits()).to_le_bytes();
        }
    }
}

/// The nearest BF16 of an F32, as bits.
fn upper_half(bits: u32) -> u16 {
    // Adds just less than a half, or a half if that makes the last digit even. A carry out of the mantissa raises the
    // exponent, up to infinity, as it has to.
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    // The carry would destroy a NaN. Its payload can vanish with the lower half; the quiet bit keeps it a NaN.
    let nan = bits | 0x40_0000;
    let chosen = if bits & 0x7fff_ffff > 0x7f80_0000 { nan } else { rounded };
    (chosen >> 16) as u16
}
