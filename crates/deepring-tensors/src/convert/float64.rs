//! Double precision, rounded to an `f32` once or for a second rounding.
//!
//! A double that is rounded to the nearest `f32` and from there to the nearest 16-bit float can end beside the nearest one:
//! just above halfway between two F16, it becomes exactly halfway, and then the even neighbor, which can be the lower one.
//! *Rounding to odd* makes the second rounding right: an inexact result takes the neighbor whose last bit is 1, which is
//! never halfway, and stays on the side of halfway where the double was. The `f32` needs two digits more than the
//! result, and it has more. (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums: proved algorithms using
//! rounding to odd", 2008.)

use super::block::Source;

/// IEEE 754 double precision, rounded to the nearest `f32`.
pub(super) struct ToNearest;

/// IEEE 754 double precision, rounded to an odd `f32`, which is rounded again.
pub(super) struct ToOdd;

impl Source for ToNearest {
    const BYTES: usize = 8;

    fn load(bytes: &[u8], values: &mut [f32]) {
        for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
            *value = f32::from_bits(nearest(f64::from_le_bytes(*bytes)));
        }
    }
}

impl Source for ToOdd {
    const BYTES: usize = 8;

    fn load(bytes: &[u8], values: &mut [f32]) {
        for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
            *value = f32::from_bits(odd(f64::from_le_bytes(*bytes)));
        }
    }
}

/// The nearest `f32`, as bits.
fn nearest(value: f64) -> u32 {
    if value.is_nan() { nan(value) } else { (value as f32).to_bits() }
}

/// The same `f32` if there is one, else that of the two beside it whose last bit is 1; as bits.
fn odd(value: f64) -> u32 {
    let nearest = nearest(value);
    // Bits count magnitudes, so one step away from zero is 1. Neither comparison holds for NaN.
    let magnitude = f64::from(f32::from_bits(nearest)).abs();
    let even = nearest & 1 == 0;
    let up = u32::from(even & (magnitude < value.abs()));
    let down = u32::from(even & (magnitude > value.abs()));
    nearest.wrapping_add(up).wrapping_sub(down)
}

/// A quiet NaN with the sign and the leading bits of the payload. The language leaves both open in casts.
fn nan(value: f64) -> u32 {
    let bits = value.to_bits();
    (bits >> 32) as u32 & 0x8000_0000 | 0x7fc0_0000 | (bits >> 29) as u32 & 0x3f_ffff
}
