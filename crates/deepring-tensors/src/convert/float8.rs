//! The 8-bit floats: a table of 256 values for each.
//!
//! | type | exponent bits | mantissa bits | bias | infinity | NaN | -0 |
//! |---|---|---|---|---|---|---|
//! | `F8_E4M3` | 4 | 3 | 7 | | 0x7F, 0xFF | 0x80 |
//! | `F8_E5M2` | 5 | 2 | 15 | 0x7C, 0xFC | 0x7D to 0x7F, 0xFD to 0xFF | 0x80 |
//! | `F8_E4M3FNUZ` | 4 | 3 | 8 | | 0x80 | |
//! | `F8_E5M2FNUZ` | 5 | 2 | 16 | | 0x80 | |
//! | `F8_E8M0` | 8 | 0 | 127 | | 0xFF | |
//!
//! The first four have a sign and subnormals. `F8_E8M0` has neither, nor a zero: it is the scale of a block of other
//! elements, 2^-127 to 2^127.

use super::block::Source;

/// What the largest exponent, or the code of a negative zero, stands for.
#[derive(Clone, Copy)]
enum Special {
    /// As in IEEE 754: infinity, or NaN if the mantissa is not 0.
    Infinities,
    /// Numbers, but for NaN where all bits of the mantissa are set.
    Finite,
    /// Numbers; the code of a negative zero is NaN.
    FiniteUnsignedZero,
}

/// The values of a format with a sign.
const fn signed(mantissa_bits: u32, bias: i32, special: Special) -> [f32; 256] {
    let mut table = [0.0; 256];
    let mut code = 0;
    while code < 256 {
        table[code as usize] = value(code, mantissa_bits, bias, special);
        code += 1;
    }
    table
}

/// The value of one code.
const fn value(code: u32, mantissa_bits: u32, bias: i32, special: Special) -> f32 {
    let mantissas = 1 << mantissa_bits;
    let (exponent, mantissa) = ((code & 0x7f) >> mantissa_bits, code & (mantissas - 1));
    let largest = exponent == 0x7f >> mantissa_bits;
    let magnitude = match special {
        Special::Infinities if largest && mantissa == 0 => f32::INFINITY,
        Special::Infinities if largest => nan(mantissa << (23 - mantissa_bits)),
        Special::Finite if largest && mantissa == mantissas - 1 => nan(mantissa << (23 - mantissa_bits)),
        Special::FiniteUnsignedZero if code == 0x80 => return NAN_WITHOUT_PAYLOAD,
        _ => {
            // Subnormals have the exponent of the smallest normal numbers, without their leading digit.
            let digits = if exponent == 0 { mantissa } else { mantissas + mantissa };
            let exponent = if exponent == 0 { 1 } else { exponent as i32 };
            digits as f32 * power_of_two(exponent - bias - mantissa_bits as i32)
        }
    };
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

/// The values of a format that has an exponent alone.
const fn exponents() -> [f32; 256] {
    let mut table = [NAN_WITHOUT_PAYLOAD; 256];
    let mut code = 0;
    while code < 255 {
        table[code as usize] = power_of_two(code - 127);
        code += 1;
    }
    table
}

/// 2^`exponent`, from 2^-127, which is subnormal, to 2^127.
const fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(if exponent == -127 { 1 << 22 } else { ((exponent + 127) as u32) << 23 })
}

/// A quiet NaN with this payload.
const fn nan(payload: u32) -> f32 {
    f32::from_bits(0x7fc0_0000 | payload)
}

/// What a format with one NaN widens to, in torch and so here.
const NAN_WITHOUT_PAYLOAD: f32 = f32::from_bits(0x7f80_0001);

/// Declares a type for each format, with its table.
macro_rules! formats {
    ($($(#[$doc:meta])* $name:ident = $table:expr;)*) => {$(
        $(#[$doc])*
        pub(super) struct $name;

        impl Source for $name {
            const BYTES: usize = 1;

            fn load(bytes: &[u8], values: &mut [f32]) {
                static TABLE: [f32; 256] = $table;
                for (value, &code) in values.iter_mut().zip(bytes) {
                    *value = TABLE[usize::from(code)];
                }
            }
        }
    )*};
}

formats! {
    /// `F8_E4M3`, in other libraries `float8_e4m3fn`.
    E4M3 = signed(3, 7, Special::Finite);
    /// `F8_E5M2`.
    E5M2 = signed(2, 15, Special::Infinities);
    /// `F8_E4M3FNUZ`.
    E4M3Fnuz = signed(3, 8, Special::FiniteUnsignedZero);
    /// `F8_E5M2FNUZ`.
    E5M2Fnuz = signed(2, 16, Special::FiniteUnsignedZero);
    /// `F8_E8M0`, in other libraries `float8_e8m0fnu`.
    E8M0 = exponents();
}
