//! Conversion of elements between floating-point types.
//!
//! | from | to |
//! |---|---|
//! | F64, F32, F16, BF16 | F32, F16, BF16 |
//! | `F8_E4M3`, `F8_E5M2`, `F8_E8M0`, `F8_E4M3FNUZ`, `F8_E5M2FNUZ` | F32, F16, BF16 |
//! | any type | the same type: a copy |
//!
//! Nothing is narrowed to fewer than 16 bits: that needs a scale, which only the model knows.
//!
//! A result is the nearest value, and of two that are equally near the one whose last bit is 0, in one rounding, also from
//! F64. Subnormals are kept, infinities and the sign of a zero too. What is too large becomes an infinity: from
//! half a step above the largest value on, so 65520 as F16 is infinite, and 65519.99 is 65504. This is what torch does,
//! but for F64, which torch rounds to F32 first.
//!
//! **NaN** stays NaN with its sign and the leading bits of its payload, and becomes quiet, as in the instructions of
//! processors. From BF16 to F32 its bits are kept as they are. Of `F8_E8M0` and the `FNUZ` types, whose NaN has no
//! payload, it is 0x7F800001 as an F32. So the result has the same bits as in torch wherever torch has one answer. From
//! F32 to F16 and BF16 it has several, depending on the processor and on the place of the element.

mod block;
mod error;
mod float16;
mod float32;
mod float64;
mod float8;
mod pieces;

use crate::DType;
use block::{Target, convert};
pub use error::ConvertError;
pub use pieces::pieces;

/// Whether there is a conversion.
///
/// ```
/// use deepring_tensors::{DType, convert::converts};
/// assert!(converts(DType::F8E4M3, DType::BF16));
/// assert!(!converts(DType::BF16, DType::F8E4M3)); // needs a scale
/// ```
pub fn converts(from: DType, to: DType) -> bool {
    conversion(from, to).is_some()
}

/// Converts all elements of `source`, little endian, into `target`. Both can be at any address.
///
/// # Errors
///
/// [`ConvertError`] if there is no such conversion, if the source does not end with an element, or if the target has not the
/// exact size; then the target is untouched.
///
/// ```
/// use deepring_tensors::{DType, convert::convert_into};
/// let mut target = [0; 4];
/// convert_into(DType::F32, &[0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc0], DType::F16, &mut target)?;
/// assert_eq!(target, [0x00, 0x3c, 0x00, 0xc1]); // 1 and -2.5
/// # Ok::<(), deepring_tensors::ConvertError>(())
/// ```
pub fn convert_into(from: DType, source: &[u8], to: DType, target: &mut [u8]) -> Result<(), ConvertError> {
    let conversion = conversion(from, to).ok_or(ConvertError::Unsupported { from, to })?;
    let unit_of_source = unit(from);
    if !source.len().is_multiple_of(unit_of_source.bytes) {
        return Err(ConvertError::Partial { dtype: from, bytes: source.len() });
    }
    // Types that are converted have whole bytes, so a unit is one element on both sides; else the types are the same.
    let expected = (source.len() / unit_of_source.bytes).saturating_mul(unit(to).bytes);
    if target.len() != expected {
        return Err(ConvertError::Length { expected, actual: target.len() });
    }
    conversion(source, target);
    Ok(())
}

/// Converts elements from bytes into as many elements.
type Conversion = fn(&[u8], &mut [u8]);

/// The one place that knows which conversions there are.
fn conversion(from: DType, to: DType) -> Option<Conversion> {
    match to {
        _ if from == to => Some(|source, target| target.copy_from_slice(source)),
        DType::F32 => conversion_to::<float32::F32>(from),
        DType::F16 => conversion_to::<float16::F16>(from),
        DType::BF16 => conversion_to::<float16::BF16>(from),
        _ => None,
    }
}

fn conversion_to<T: Target>(from: DType) -> Option<Conversion> {
    Some(match from {
        DType::F64 if T::ROUNDS => convert::<float64::ToOdd, T>,
        DType::F64 => convert::<float64::ToNearest, T>,
        DType::F32 => convert::<float32::F32, T>,
        DType::F16 => convert::<float16::F16, T>,
        DType::BF16 => convert::<float16::BF16, T>,
        DType::F8E4M3 => convert::<float8::E4M3, T>,
        DType::F8E5M2 => convert::<float8::E5M2, T>,
        DType::F8E8M0 => convert::<float8::E8M0, T>,
        DType::F8E4M3FNUZ => convert::<float8::E4M3Fnuz, T>,
        DType::F8E5M2FNUZ => convert::<float8::E5M2Fnuz, T>,
        _ => return None,
    })
}

/// The fewest elements that fill whole bytes: one, unless elements are packed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unit {
    pub(crate) elements: usize,
    pub(crate) bytes: usize,
}

pub(crate) fn unit(dtype: DType) -> Unit {
    let elements = 8 >> dtype.bits().trailing_zeros().min(3);
    Unit { elements, bytes: elements * dtype.bits() as usize / 8 }
}
