//! CRC-32C: of bytes, and of bytes whose parts were summed apart, in any order.
//!
//! CRC-32C (Castagnoli, as in iSCSI, ext4 and NVMe): reflected, with all bits inverted before and
//! after. The checksum of `"123456789"` is `0xE306_9283`, that of nothing is 0. It finds accidents,
//! not attackers: bytes with a wanted checksum are easy to make.
//!
//! * [`mod@shift`]: the arithmetic that puts two checksums together;
//! * [`sums`]: the checksum of a range whose parts arrive in any order.

mod shift;
mod sums;

use crate::error::ErrorKind;
use crate::planted::{PlantedBug, planted};
use shift::Shift;
pub(crate) use sums::Sums;

/// What a transfer is asked to do about the checksum of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Checksum {
    /// Nothing.
    #[default]
    None,
    /// Sum the bytes, for [`Receipt::checksum`](crate::Receipt::checksum).
    Sum,
    /// The same, and fail with [`ErrorKind::Checksum`](crate::ErrorKind::Checksum) if the checksum is
    /// another.
    Expect(u32),
}

impl Checksum {
    /// Whether the bytes are summed.
    pub(crate) fn is_asked(self) -> bool {
        self != Self::None
    }

    /// Compares the checksum of the bytes with the one that is expected, if one is.
    pub(crate) fn check(self, actual: u32) -> Result<(), ErrorKind> {
        match self {
            Self::Expect(expected) if expected != actual && !planted(PlantedBug::ForgetsExpected) => {
                Err(ErrorKind::Checksum { expected, actual })
            }
            _ => Ok(()),
        }
    }
}

/// The CRC-32C of `bytes`.
///
/// ```
/// assert_eq!(deepring::crc32c(b"123456789"), 0xE306_9283);
/// assert_eq!(deepring::crc32c(b""), 0);
/// ```
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// The CRC-32C of bytes that end with `bytes`, where `crc` is that of what is before them.
///
/// ```
/// use deepring::{crc32c, crc32c_append};
/// assert_eq!(crc32c_append(crc32c(b"12345"), b"6789"), crc32c(b"123456789"));
/// ```
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, bytes)
}

/// The CRC-32C of two pieces one after the other: `a` is that of the first, `b` that of the second,
/// which has `len_b` bytes. Takes about a microsecond at most, whatever the length.
///
/// ```
/// use deepring::{crc32c, crc32c_combine};
/// let (a, b) = (crc32c(b"12345"), crc32c(b"6789"));
/// assert_eq!(crc32c_combine(a, b, 4), crc32c(b"123456789"));
/// ```
pub fn crc32c_combine(a: u32, b: u32, len_b: u64) -> u32 {
    Shift::over(len_b).combine(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One bit at a time, as the definition has it.
    fn bit_by_bit(bytes: &[u8]) -> u32 {
        let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
    }

    #[test]
    fn the_check_values_are_those_of_crc_32c() {
        assert_eq!((crc32c(b""), crc32c(b"123456789")), (0, 0xe306_9283));
        // RFC 3720, B.4.
        assert_eq!((crc32c(&[0; 32]), crc32c(&[0xff; 32])), (0x8a91_36aa, 0x62a8_ab43));
    }

    #[test]
    fn any_split_of_10_mb_combines_to_the_sum_of_all() {
        let bytes: Vec<u8> = (0..10_000_000u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let whole = crc32c(&bytes);
        for cut in [0, 1, 7, 4096, 65_537, 4 << 20, 5_000_000, 9_999_999, 10_000_000] {
            let (a, b) = bytes.split_at(cut);
            assert_eq!(crc32c_combine(crc32c(a), crc32c(b), b.len() as u64), whole, "cut at {cut}");
            assert_eq!(crc32c_append(crc32c(a), b), whole, "cut at {cut}");
        }
    }

    #[test]
    fn lengths_beyond_32_bits_combine() {
        // Zeros: 4 GiB by doubling and 1 GiB by one pass, against 5 GiB by one pass.
        let zeros = vec![0; 1 << 20];
        let pass = |mebibytes: u32| (0..mebibytes).fold(0, |crc, _| crc32c_append(crc, &zeros));
        let four = (0..12).fold(crc32c(&zeros), |crc, doubling| crc32c_combine(crc, crc, (1 << 20) << doubling));
        assert_eq!(crc32c_combine(four, pass(1 << 10), 1 << 30), pass(5 << 10));
        assert_eq!(crc32c_combine(pass(1 << 10), four, 4 << 30), pass(5 << 10));
    }

    proptest! {
        #[test]
        fn it_is_the_sum_by_definition(bytes in proptest::collection::vec(any::<u8>(), 0..5000), cut in any::<prop::sample::Index>()) {
            let (a, b) = bytes.split_at(cut.index(bytes.len() + 1));
            let whole = bit_by_bit(&bytes);
            prop_assert_eq!(crc32c(&bytes), whole);
            prop_assert_eq!(crc32c_append(crc32c(a), b), whole);
            prop_assert_eq!(crc32c_combine(crc32c(a), crc32c(b), b.len() as u64), whole);
        }
    }
}
