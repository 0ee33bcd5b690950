//! [`Shift`]: what it takes to put a checksum in front of another.
//!
//! A CRC is a remainder of polynomials over GF(2). To append `n` bytes to a text multiplies its
//! polynomial by `x^(8n)`, so the checksum of two pieces is `a * x^(8n) + b`, modulo the generator
//! polynomial. The inversions before and after cancel out. (As in zlib's `crc32_combine`, but without
//! a table: the powers of `x` are squared when they are needed.)

/// Castagnoli's polynomial. Bit 31 is the coefficient of `x^0`, bit 0 that of `x^31`.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The polynomials 1 and `x^8`.
const ONE: u32 = 1 << 31;
const BYTE: u32 = 1 << 23;

/// `x^n` modulo the generator repeats after this many powers: it is `(x + 1)` times a primitive
/// polynomial of degree 31.
const PERIOD: u64 = (1 << 31) - 1;

/// A multiplication by `x^(8n)`: to be kept where many pieces have one length. Combining with it
/// takes a tenth of the time of finding it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shift(u32);

impl Shift {
    /// The shift over `bytes` bytes.
    pub(super) fn over(bytes: u64) -> Self {
        let mut left = bytes % PERIOD;
        let (mut shift, mut power) = (ONE, BYTE);
        while left > 0 {
            if left & 1 == 1 {
                shift = multiply(shift, power);
            }
            left >>= 1;
            if left > 0 {
                power = multiply(power, power);
            }
        }
        Self(shift)
    }

    /// The checksum of two pieces, of which the second has the length of this shift.
    pub(super) fn combine(self, a: u32, b: u32) -> u32 {
        multiply(self.0, a) ^ b
    }
}

/// The product modulo the generator. Without branches on the bits, which are random.
fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    for bit in (0..32).rev() {
        product ^= b & 0u32.wrapping_sub(a >> bit & 1);
        b = b >> 1 ^ POLYNOMIAL & 0u32.wrapping_sub(b & 1);
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_shift_over_nothing_changes_nothing() {
        assert_eq!(Shift::over(0), Shift(ONE));
        assert_eq!(Shift::over(0).combine(0x1234_5678, 0), 0x1234_5678);
    }

    #[test]
    fn shifts_repeat_after_their_period() {
        // x^(8 * PERIOD) is 1 only if the period divides 8 * PERIOD, whatever `over` makes of the number.
        let power = (0..31).fold(BYTE, |power, _| multiply(power, power));
        assert_eq!(power, BYTE, "x^(8 * 2^31) is x^8");
        assert_eq!(Shift::over(PERIOD + 5), Shift::over(5));
        assert_eq!(Shift::over(u64::MAX), Shift::over(u64::MAX % PERIOD));
    }

    proptest! {
        #[test]
        fn one_shift_after_another_is_the_shift_over_both(a in any::<u32>(), first in 0u64..1 << 62, second in 0u64..1 << 62) {
            let both = Shift::over(first + second).combine(a, 0);
            prop_assert_eq!(Shift::over(second).combine(Shift::over(first).combine(a, 0), 0), both);
        }

        #[test]
        fn the_product_does_not_depend_on_the_order(a in any::<u32>(), b in any::<u32>(), c in any::<u32>()) {
            prop_assert_eq!(multiply(a, b), multiply(b, a));
            prop_assert_eq!(multiply(a, multiply(b, c)), multiply(multiply(a, b), c));
            prop_assert_eq!(multiply(a, b ^ c), multiply(a, b) ^ multiply(a, c));
        }
    }
}
