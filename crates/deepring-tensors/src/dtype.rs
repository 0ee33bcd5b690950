//! [`DType`]: the element types of safetensors files.

use std::fmt;

/// Declares the element types: name in Rust, name in a file, bits, alignment of a view in bytes.
macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident $name:literal $bits:literal $align:literal,)*) => {
        /// The type of a tensor's elements, as safetensors files name it.
        ///
        /// ```
        /// use deepring_tensors::DType;
        /// assert_eq!((DType::of("BF16"), DType::BF16.bits(), DType::F4.bits()), (Some(DType::BF16), 16, 4));
        /// assert_eq!(DType::of("U3"), None);
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(non_camel_case_types, reason = "the names are those of the format")]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum DType {
            $($(#[$doc])* $variant,)*
        }

        impl DType {
            /// All of them, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in a file, such as `F8_E4M3`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Bits of an element. Elements of fewer than 8 bits are packed, without padding between them.
            pub const fn bits(self) -> u32 {
                match self { $(Self::$variant => $bits,)* }
            }

            /// The alignment in bytes of a view of such elements: 1, 2, 4 or 8.
            pub const fn align(self) -> usize {
                match self { $(Self::$variant => $align,)* }
            }

            /// The type of this name.
            pub fn of(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

dtypes! {
    /// One byte: 0 or 1.
    Bool "BOOL" 8 1,
    /// 4-bit float with 2 exponent bits and 1 mantissa bit; two in a byte.
    F4 "F4" 4 1,
    /// 6-bit float with 2 exponent and 3 mantissa bits; four in three bytes.
    F6E2M3 "F6_E2M3" 6 1,
    /// 6-bit float with 3 exponent and 2 mantissa bits; four in three bytes.
    F6E3M2 "F6_E3M2" 6 1,
    /// Unsigned 8-bit integer.
    U8 "U8" 8 1,
    /// Signed 8-bit integer.
    I8 "I8" 8 1,
    /// 8-bit float with 5 exponent and 2 mantissa bits.
    F8E5M2 "F8_E5M2" 8 1,
    /// 8-bit float with 4 exponent and 3 mantissa bits, without infinities.
    F8E4M3 "F8_E4M3" 8 1,
    /// An exponent alone: a power of two.
    F8E8M0 "F8_E8M0" 8 1,
    /// As [`DType::F8E4M3`], without a negative zero, and with another bias.
    F8E4M3FNUZ "F8_E4M3FNUZ" 8 1,
    /// As [`DType::F8E5M2`], without infinities and a negative zero, and with another bias.
    F8E5M2FNUZ "F8_E5M2FNUZ" 8 1,
    /// Signed 16-bit integer.
    I16 "I16" 16 2,
    /// Unsigned 16-bit integer.
    U16 "U16" 16 2,
    /// IEEE 754 half precision.
    F16 "F16" 16 2,
    /// The upper half of a single-precision float.
    BF16 "BF16" 16 2,
    /// Signed 32-bit integer.
    I32 "I32" 32 4,
    /// Unsigned 32-bit integer.
    U32 "U32" 32 4,
    /// IEEE 754 single precision.
    F32 "F32" 32 4,
    /// A complex number: two of [`DType::F32`], the real part first.
    C64 "C64" 64 4,
    /// IEEE 754 double precision.
    F64 "F64" 64 8,
    /// Signed 64-bit integer.
    I64 "I64" 64 8,
    /// Unsigned 64-bit integer.
    U64 "U64" 64 8,
}

impl DType {
    /// Bytes of this many elements. `None` if they do not fill whole bytes, or cannot be counted.
    pub fn bytes_of(self, elements: u64) -> Option<u64> {
        let bits = elements.checked_mul(self.bits().into())?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::DType;

    #[test]
    fn every_type_has_the_size_that_the_reference_gives_it() {
        for &dtype in DType::ALL {
            let name = format!("\"{dtype}\"");
            let reference: safetensors::Dtype = serde_json::from_str(&name).expect("a type of the reference");
            assert_eq!(dtype.bits() as usize, reference.bitsize(), "{dtype}");
            assert_eq!(DType::of(dtype.name()), Some(dtype));
        }
    }

    #[test]
    fn packed_elements_must_fill_whole_bytes() {
        assert_eq!((DType::F4.bytes_of(3), DType::F4.bytes_of(4)), (None, Some(2)));
        assert_eq!((DType::F6E2M3.bytes_of(2), DType::F6E2M3.bytes_of(4)), (None, Some(3)));
        assert_eq!(DType::F64.bytes_of(u64::MAX / 8), None);
    }
}
