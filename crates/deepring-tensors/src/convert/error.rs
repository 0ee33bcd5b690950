//! [`ConvertError`]: why nothing was converted.

use crate::DType;

/// Why [`convert_into`](super::convert_into) has refused. The target is untouched.
///
/// ```
/// use deepring_tensors::DType;
/// use deepring_tensors::convert::{ConvertError, convert_into};
/// let error = convert_into(DType::F32, &[0; 8], DType::F16, &mut [0; 8]).unwrap_err();
/// assert_eq!(error, ConvertError::Length { expected: 4, actual: 8 });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// There is no conversion between these types: see [`converts`](super::converts).
    #[error("there is no conversion from {} to {}", .from.name(), .to.name())]
    Unsupported {
        /// The type of the source.
        from: DType,
        /// The type that was asked for.
        to: DType,
    },
    /// The source ends inside an element.
    #[error("{bytes} bytes are not a whole number of {} elements", .dtype.name())]
    Partial {
        /// The type of the source.
        dtype: DType,
        /// Bytes of the source.
        bytes: usize,
    },
    /// The target has another size than the converted elements.
    #[error("the elements take {expected} bytes, and the target has {actual}")]
    Length {
        /// Bytes of the converted elements.
        expected: usize,
        /// Bytes of the target.
        actual: usize,
    },
}
