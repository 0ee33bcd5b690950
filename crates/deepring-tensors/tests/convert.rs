//! Conversions against exact arithmetic in `f64`, and against the tables of `ml_dtypes`.

use deepring_tensors::DType;
use deepring_tensors::convert::{ConvertError, convert_into, converts};
use proptest::prelude::*;

/// A binary format by its definition: exponent, then mantissa, below a sign.
#[derive(Debug, Clone, Copy)]
struct Format {
    exponent_bits: u32,
    mantissa_bits: u32,
    bias: i32,
}

const E4M3: Format = Format { exponent_bits: 4, mantissa_bits: 3, bias: 7 };
const E5M2: Format = Format { exponent_bits: 5, mantissa_bits: 2, bias: 15 };
const F16: Format = Format { exponent_bits: 5, mantissa_bits: 10, bias: 15 };
const BF16: Format = Format { exponent_bits: 8, mantissa_bits: 7, bias: 127 };
const F32: Format = Format { exponent_bits: 8, mantissa_bits: 23, bias: 127 };

/// The types of 16 and 32 bits, which everything is converted to.
const TARGETS: [(DType, Format); 3] = [(DType::F32, F32), (DType::F16, F16), (DType::BF16, BF16)];

/// The 8-bit types.
const FLOAT8: [DType; 5] = [DType::F8E4M3, DType::F8E5M2, DType::F8E8M0, DType::F8E4M3FNUZ, DType::F8E5M2FNUZ];

/// 2^`exponent`, exactly.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(u64::try_from(1023 + exponent).expect("a normal number") << 52)
}

impl Format {
    fn sign_bit(self) -> u32 {
        1 << (self.exponent_bits + self.mantissa_bits)
    }

    /// The code of infinity, where there is one.
    fn infinity(self) -> u32 {
        ((1 << self.exponent_bits) - 1) << self.mantissa_bits
    }

    fn quiet_bit(self) -> u32 {
        1 << (self.mantissa_bits - 1)
    }

    fn is_nan(self, code: u32) -> bool {
        code & (self.sign_bit() - 1) > self.infinity()
    }

    /// What a code without special values stands for. Infinity is the power of two that would come next, which is where
    /// rounding has it.
    fn number(self, code: u32) -> f64 {
        let fraction = f64::from(code & ((1 << self.mantissa_bits) - 1)) / power_of_two(self.mantissa_bits as i32);
        let exponent = (code >> self.mantissa_bits & ((1 << self.exponent_bits) - 1)) as i32;
        let magnitude = match exponent {
            0 => fraction * power_of_two(1 - self.bias),
            _ => (1.0 + fraction) * power_of_two(exponent - self.bias),
        };
        if code & self.sign_bit() == 0 { magnitude } else { -magnitude }
    }

    /// What a code stands for in a format with infinities and NaN.
    fn value(self, code: u32) -> f64 {
        match code & (self.sign_bit() - 1) {
            magnitude if magnitude > self.infinity() => f64::NAN,
            magnitude if magnitude == self.infinity() => f64::INFINITY.copysign(self.number(code)),
            _ => self.number(code),
        }
    }

    /// Whether no neighbor of this code is nearer, or as near and even. Exact: halfway between two neighbors is an `f64`.
    fn is_nearest(self, code: u32, value: f64) -> bool {
        if value.is_nan() || self.is_nan(code) {
            return value.is_nan() && self.is_nan(code);
        }
        let (magnitude, even, value_magnitude) = (code & (self.sign_bit() - 1), code & 1 == 0, value.abs());
        let halfway = |lower: u32| f64::midpoint(self.number(lower), self.number(lower + 1));
        let within = |distance: f64| distance > 0.0 || distance == 0.0 && even;
        (code & self.sign_bit() != 0) == value.is_sign_negative()
            && (magnitude == 0 || within(value_magnitude - halfway(magnitude - 1)))
            && (magnitude == self.infinity() || within(halfway(magnitude) - value_magnitude))
    }
}

/// What the definition of an 8-bit type says about a code.
fn float8(dtype: DType, code: u8) -> f64 {
    let (bits, magnitude) = (u32::from(code), code & 0x7f);
    match dtype {
        DType::F8E4M3 if magnitude == 0x7f => f64::NAN,
        DType::F8E4M3 => E4M3.number(bits),
        DType::F8E5M2 => E5M2.value(bits),
        DType::F8E4M3FNUZ | DType::F8E5M2FNUZ if code == 0x80 => f64::NAN,
        DType::F8E4M3FNUZ => Format { bias: 8, ..E4M3 }.number(bits),
        DType::F8E5M2FNUZ => Format { bias: 16, ..E5M2 }.number(bits),
        DType::F8E8M0 if code == 0xff => f64::NAN,
        DType::F8E8M0 => power_of_two(i32::from(code) - 127),
        _ => unreachable!("not an 8-bit float: {dtype:?}"),
    }
}

fn bytes_of(dtype: DType) -> usize {
    dtype.bits() as usize / 8
}

fn converted(from: DType, source: &[u8], to: DType) -> Vec<u8> {
    let mut target = vec![0xa5; source.len() / bytes_of(from) * bytes_of(to)];
    convert_into(from, source, to, &mut target).expect("a conversion");
    target
}

/// The codes of elements.
fn codes(dtype: DType, bytes: &[u8]) -> Vec<u32> {
    let code = |bytes: &[u8]| bytes.iter().rev().fold(0, |code, &byte| code << 8 | u32::from(byte));
    bytes.chunks_exact(bytes_of(dtype)).map(code).collect()
}

fn from_f32(bits: &[u32], to: DType) -> Vec<u32> {
    codes(to, &converted(DType::F32, &bits.iter().flat_map(|bits| bits.to_le_bytes()).collect::<Vec<_>>(), to))
}

fn from_f64(values: &[f64], to: DType) -> Vec<u32> {
    codes(to, &converted(DType::F64, &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>(), to))
}

/// All codes of a 16-bit type.
fn all_16_bit_codes() -> Vec<u8> {
    (0..=u16::MAX).flat_map(u16::to_le_bytes).collect()
}

#[test]
fn every_f16_widens_exactly_and_comes_back() {
    let wide = converted(DType::F16, &all_16_bit_codes(), DType::F32);
    let back = codes(DType::F16, &converted(DType::F32, &wide, DType::F16));
    for (code, bits) in (0..).zip(codes(DType::F32, &wide)) {
        assert_eq!(half::f16::from_bits(code as u16).to_f32_const().to_bits(), bits, "{code:#06x} on every processor");
        if F16.is_nan(code) {
            let quiet = (code & 0x8000) << 16 | 0x7fc0_0000 | (code & 0x3ff) << 13;
            assert_eq!((bits, back[code as usize]), (quiet, code | F16.quiet_bit()), "{code:#06x}");
        } else {
            assert_eq!(f64::from(f32::from_bits(bits)).to_bits(), F16.value(code).to_bits(), "{code:#06x}");
            assert_eq!(back[code as usize], code);
        }
    }
}

#[test]
fn every_bf16_widens_exactly_and_comes_back() {
    let wide = converted(DType::BF16, &all_16_bit_codes(), DType::F32);
    let back = codes(DType::BF16, &converted(DType::F32, &wide, DType::BF16));
    for (code, bits) in (0..).zip(codes(DType::F32, &wide)) {
        assert_eq!(bits, code << 16, "also a NaN keeps its bits");
        if BF16.is_nan(code) {
            assert_eq!(back[code as usize], code | BF16.quiet_bit(), "{code:#06x}");
        } else {
            assert_eq!(f64::from(f32::from_bits(bits)).to_bits(), BF16.value(code).to_bits(), "{code:#06x}");
            assert_eq!(back[code as usize], code);
        }
    }
}

#[test]
fn every_16_bit_float_becomes_the_nearest_of_the_other_type() {
    for ((from, source), (to, target)) in [((DType::F16, F16), (DType::BF16, BF16)), ((DType::BF16, BF16), (DType::F16, F16))] {
        let results = codes(to, &converted(from, &all_16_bit_codes(), to));
        for (code, result) in (0..).zip(results) {
            assert!(target.is_nearest(result, source.value(code)), "{from:?} {code:#06x} is not {to:?} {result:#06x}");
            assert_eq!(result >> 15, code >> 15, "the sign of {from:?} {code:#06x}, also of NaN");
        }
    }
}

#[test]
fn every_8_bit_float_widens_to_the_value_of_its_definition() {
    let all: Vec<u8> = (0..=u8::MAX).collect();
    for from in FLOAT8 {
        for (to, target) in TARGETS {
            for (&code, result) in all.iter().zip(codes(to, &converted(from, &all, to))) {
                let value = float8(from, code);
                assert!(target.is_nearest(result, value), "{from:?} {code:#04x} is not {to:?} {result:#x}");
                let exact = to != DType::F16 || from != DType::F8E8M0;
                assert!(!exact || value.is_nan() || target.value(result).to_bits() == value.to_bits(), "{from:?} {code:#04x} is exact");
            }
        }
    }
}

/// Made by `ml_dtypes`, which has the same types as its own implementation. The file says how.
#[test]
fn every_8_bit_float_widens_as_in_ml_dtypes() {
    let golden: serde_json::Value = serde_json::from_str(include_str!("golden/float8.json")).expect("JSON");
    let all: Vec<u8> = (0..=u8::MAX).collect();
    for from in FLOAT8 {
        for (to, target) in TARGETS {
            let rows = golden["tables"][from.name()][to.name()].as_array().expect("a table");
            let expected: Vec<_> = rows.iter().flat_map(|row| row.as_str().expect("a row").split(' ')).collect();
            assert_eq!(expected.len(), 256);
            for (code, result) in codes(to, &converted(from, &all, to)).into_iter().enumerate() {
                let expected = u32::from_str_radix(expected[code], 16).expect("a code");
                // A NaN has another payload there.
                let nan = target.is_nan(result) && target.is_nan(expected);
                assert!(nan || result == expected, "{from:?} {code:#04x} is {to:?} {expected:#x}, not {result:#x}");
            }
        }
    }
}

#[test]
fn a_nan_of_8_bits_has_the_bits_that_torch_gives_it() {
    // Results as F32, F16 and BF16. (c10/util: Float8_e4m3fn.h, Float8_e5m2.h, Float8_fnuz_cvt.h, Float8_e8m0fnu-inl.h.)
    for (from, code, expected) in [
        (DType::F8E4M3, 0x7f, [0x7ff0_0000, 0x7f80, 0x7ff0]),
        (DType::F8E4M3, 0xff, [0xfff0_0000, 0xff80, 0xfff0]),
        (DType::F8E5M2, 0x7d, [0x7fe0_0000, 0x7f00, 0x7fe0]),
        (DType::F8E5M2, 0x7e, [0x7fc0_0000, 0x7e00, 0x7fc0]),
        (DType::F8E5M2, 0xff, [0xffe0_0000, 0xff00, 0xffe0]),
        (DType::F8E4M3FNUZ, 0x80, [0x7f80_0001, 0x7e00, 0x7fc0]),
        (DType::F8E5M2FNUZ, 0x80, [0x7f80_0001, 0x7e00, 0x7fc0]),
        (DType::F8E8M0, 0xff, [0x7f80_0001, 0x7e00, 0x7fc0]),
    ] {
        let results = TARGETS.map(|(to, _)| codes(to, &converted(from, &[code], to))[0]);
        assert_eq!(results, expected, "{from:?} {code:#04x}");
    }
}

#[test]
fn a_power_of_two_outside_of_f16_is_infinite_subnormal_or_zero() {
    // 2^15, 2^16, 2^-14, 2^-15, 2^-24; halfway below the smallest, 2^-25, the even neighbor is 0.
    let results = codes(DType::F16, &converted(DType::F8E8M0, &[142, 143, 113, 112, 103, 102, 101, 0, 254], DType::F16));
    assert_eq!(results, [0x7800, 0x7c00, 0x0400, 0x0200, 0x0001, 0, 0, 0, 0x7c00]);
}

#[test]
fn values_at_the_borders_of_f16_are_rounded_to_the_even_neighbor() {
    let (smallest, normal) = (power_of_two(-24), power_of_two(-14));
    for (value, code) in [
        (65504.0, 0x7bff),
        (65519.996, 0x7bff),
        (65520.0, 0x7c00),
        (1e38, 0x7c00),
        (f64::INFINITY, 0x7c00),
        (smallest, 0x0001),
        (smallest / 2.0, 0x0000),
        (smallest / 2.0 * (1.0 + power_of_two(-23)), 0x0001),
        (smallest * 1.5, 0x0002),
        (smallest * 2.5, 0x0002),
        (f64::from(f32::from_bits(1)), 0x0000),
        (normal, 0x0400),
        (normal - smallest, 0x03ff),
        (normal - smallest / 2.0, 0x0400),
        (1.0 + power_of_two(-11), 0x3c00),
        (1.0 + power_of_two(-11) + power_of_two(-23), 0x3c01),
        (1.0 + 3.0 * power_of_two(-11), 0x3c02),
        (0.0, 0x0000),
    ] {
        for (value, code) in [(value, code), (-value, code | 0x8000)] {
            assert_eq!(from_f32(&[(value as f32).to_bits()], DType::F16), [code], "{value:e} from F32");
            assert_eq!(from_f64(&[value], DType::F16), [code], "{value:e} from F64");
        }
    }
}

#[test]
fn values_at_the_borders_of_bf16_are_rounded_to_the_even_neighbor() {
    let (max, smallest) = (BF16.number(0x7f7f), power_of_two(-133));
    for (value, code) in [
        (max, 0x7f7f),
        (max + power_of_two(119) - power_of_two(104), 0x7f7f),
        (max + power_of_two(119), 0x7f80),
        (f64::from(f32::MAX), 0x7f80),
        (f64::INFINITY, 0x7f80),
        (smallest, 0x0001),
        (smallest / 2.0, 0x0000),
        (smallest / 2.0 + power_of_two(-149), 0x0001),
        (smallest * 1.5, 0x0002),
        (power_of_two(-126) - smallest, 0x007f),
        (power_of_two(-126) - smallest / 2.0, 0x0080),
        (1.0 + power_of_two(-8), 0x3f80),
        (1.0 + power_of_two(-8) + power_of_two(-23), 0x3f81),
        (1.0 + 3.0 * power_of_two(-8), 0x3f82),
        (0.0, 0x0000),
    ] {
        for (value, code) in [(value, code), (-value, code | 0x8000)] {
            assert_eq!(from_f32(&[(value as f32).to_bits()], DType::BF16), [code], "{value:e} from F32");
            assert_eq!(from_f64(&[value], DType::BF16), [code], "{value:e} from F64");
        }
    }
}

#[test]
fn a_nan_keeps_its_sign_and_the_leading_bits_of_its_payload() {
    // A payload of which nothing is left must not make an infinity of it.
    for (bits, f16, bf16) in [
        (0x7fc0_0000, 0x7e00, 0x7fc0),
        (0xffc0_0000, 0xfe00, 0xffc0),
        (0x7f80_0001, 0x7e00, 0x7fc0),
        (0xff80_1fff, 0xfe00, 0xffc0),
        (0x7fff_ffff, 0x7fff, 0x7fff),
        (0xffff_ffff, 0xffff, 0xffff),
        (0x7f81_2345, 0x7e09, 0x7fc1),
    ] {
        assert_eq!((from_f32(&[bits], DType::F16), from_f32(&[bits], DType::BF16)), (vec![f16], vec![bf16]), "{bits:#x}");
        let wide = u64::from(bits & 0x8000_0000) << 32 | 0x7ff0_0000_0000_0000 | u64::from(bits & 0x7f_ffff) << 29;
        let results = [DType::F32, DType::F16, DType::BF16].map(|to| from_f64(&[f64::from_bits(wide)], to)[0]);
        assert_eq!(results, [bits | 0x40_0000, f16, bf16], "{wide:#x}");
    }
    assert_eq!(from_f64(&[f64::from_bits(0x7ff0_0000_0000_0001)], DType::F32), [0x7fc0_0000]);
}

#[test]
fn a_double_is_rounded_once() {
    // Rounded to F32 first, the first would be halfway, and then go to the even neighbor below.
    let just_above = 1.0 + power_of_two(-11) + power_of_two(-40);
    let just_below = 1.0 + 3.0 * power_of_two(-11) - power_of_two(-40);
    assert_eq!(from_f64(&[just_above, just_below], DType::F16), [0x3c01, 0x3c01]);
    // An F32 that is halfway is beside these too, but is not the nearest.
    let step = 0.75 * power_of_two(-23);
    assert_eq!(from_f64(&[1.0 + power_of_two(-11) + step, 1.0 + 3.0 * power_of_two(-11) - step], DType::F16), [0x3c01, 0x3c01]);
    // The same among the subnormals of BF16, which are subnormals of F32 too.
    let half = power_of_two(-134);
    assert_eq!(from_f64(&[half, half * (1.0 + power_of_two(-50)), half * 3.0 * (1.0 - power_of_two(-50))], DType::BF16), [0, 1, 1]);
    // Nothing an F32 could hold.
    let values = [1e300, -1e300, f64::from_bits(1), -f64::from_bits(1)];
    assert_eq!(from_f64(&values, DType::F16), [0x7c00, 0xfc00, 0, 0x8000]);
    assert_eq!(from_f64(&values, DType::BF16), [0x7f80, 0xff80, 0, 0x8000]);
    assert_eq!(from_f64(&values, DType::F32), [0x7f80_0000, 0xff80_0000, 0, 0x8000_0000]);
}

/// A number near a code of the format, near halfway to the next, or anywhere.
fn number(format: Format) -> impl Strategy<Value = f64> {
    let near =
        (0..format.infinity(), any::<bool>(), any::<bool>(), -7i64..=7, 0u32..50).prop_map(move |(code, half, negative, ulps, shift)| {
            let start = if half { f64::midpoint(format.number(code), format.number(code + 1)) } else { format.number(code) };
            let moved = f64::from_bits(start.to_bits().saturating_add_signed(ulps << shift));
            if negative { -moved } else { moved }
        });
    prop_oneof![4 => near, 1 => any::<u64>().prop_map(f64::from_bits), 1 => any::<u32>().prop_map(|bits| f64::from(f32::from_bits(bits)))]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_result_is_the_nearest_even(values in TARGETS.map(|(_, format)| prop::collection::vec(number(format), 1..40))) {
        for ((to, format), values) in TARGETS.into_iter().zip(values) {
            for (&value, result) in values.iter().zip(from_f64(&values, to)) {
                prop_assert!(format.is_nearest(result, value), "{:e} from F64 is not {:?} {:#x}", value, to, result);
            }
            let singles: Vec<_> = values.iter().map(|&value| (value as f32).to_bits()).collect();
            for (&bits, result) in singles.iter().zip(from_f32(&singles, to)) {
                let value = f64::from(f32::from_bits(bits));
                prop_assert!(format.is_nearest(result, value), "{:e} from F32 is not {:?} {:#x}", value, to, result);
            }
        }
    }

    /// Its constant functions use no instructions for 16-bit floats.
    #[test]
    fn every_processor_has_the_same_result(bits in prop::collection::vec(any::<u32>(), 1..600)) {
        let singles: Vec<_> = bits.iter().map(|&bits| f32::from_bits(bits)).collect();
        let f16: Vec<u32> = singles.iter().map(|&value| half::f16::from_f32_const(value).to_bits().into()).collect();
        let bf16: Vec<u32> = singles.iter().map(|&value| half::bf16::from_f32_const(value).to_bits().into()).collect();
        prop_assert_eq!(from_f32(&bits, DType::F16), f16);
        prop_assert_eq!(from_f32(&bits, DType::BF16), bf16);
    }
}

#[test]
fn floats_convert_to_16_and_32_bits_and_nothing_else_converts() {
    let mut conversions = 0;
    for &from in DType::ALL {
        for &to in DType::ALL {
            let float = FLOAT8.contains(&from) || [DType::F16, DType::BF16, DType::F32, DType::F64].contains(&from);
            let expected = from == to || float && [DType::F16, DType::BF16, DType::F32].contains(&to);
            assert_eq!(converts(from, to), expected, "{from:?} to {to:?}");
            if !expected {
                assert_eq!(convert_into(from, &[], to, &mut []), Err(ConvertError::Unsupported { from, to }));
            }
            conversions += usize::from(expected);
        }
    }
    assert_eq!(conversions, 22 + 5 * 3 + 3 * 2 + 3);
}

#[test]
fn sizes_that_do_not_agree_are_refused() {
    for (from, bytes, to, target, expected) in [
        (DType::F32, 7, DType::F16, 2, ConvertError::Partial { dtype: DType::F32, bytes: 7 }),
        (DType::F64, 4, DType::F64, 4, ConvertError::Partial { dtype: DType::F64, bytes: 4 }),
        (DType::F6E2M3, 4, DType::F6E2M3, 4, ConvertError::Partial { dtype: DType::F6E2M3, bytes: 4 }),
        (DType::F32, 8, DType::F16, 3, ConvertError::Length { expected: 4, actual: 3 }),
        (DType::F8E4M3, 3, DType::F32, 0, ConvertError::Length { expected: 12, actual: 0 }),
        (DType::F4, 3, DType::F4, 4, ConvertError::Length { expected: 3, actual: 4 }),
        (DType::F32, 0, DType::F16, 1, ConvertError::Length { expected: 0, actual: 1 }),
    ] {
        let mut memory = vec![0xa5; target];
        assert_eq!(convert_into(from, &vec![0; bytes], to, &mut memory), Err(expected));
        assert!(memory.iter().all(|&byte| byte == 0xa5), "the target is untouched");
    }
}

#[test]
fn the_same_type_is_copied_bit_for_bit() {
    for &dtype in DType::ALL {
        // Whole elements of every type, packed ones too; as floats, some of them are signaling NaN.
        let source: Vec<u8> = (0..24u8).map(|byte| 0xff - byte % 8 * 3).collect();
        let mut target = vec![0; source.len()];
        assert_eq!((convert_into(dtype, &source, dtype, &mut target), &target), (Ok(()), &source), "{dtype:?}");
    }
}

#[test]
fn neither_the_address_nor_the_length_makes_a_difference() {
    for &from in DType::ALL {
        for (to, _) in TARGETS.into_iter().filter(|&(to, _)| converts(from, to)) {
            for elements in [0, 1, 2, 3, 7, 255, 256, 257, 511, 513] {
                let source: Vec<u8> = (0..elements * bytes_of(from)).map(|index| (index * 37) as u8 ^ (index >> 8) as u8).collect();
                // One element at a time.
                let expected: Vec<u8> = source.chunks(bytes_of(from)).flat_map(|element| converted(from, element, to)).collect();
                for (start, target_start) in (0..=8).flat_map(|start| (0..=8).map(move |target_start| (start, target_start))) {
                    let moved = [vec![0; start], source.clone()].concat();
                    let mut target = vec![0xa5; target_start + expected.len() + 1];
                    let inner = &mut target[target_start..target_start + expected.len()];
                    convert_into(from, &moved[start..], to, inner).expect("a conversion");
                    assert_eq!(
                        target,
                        [vec![0xa5; target_start], expected.clone(), vec![0xa5]].concat(),
                        "{from:?} to {to:?}, {elements} elements"
                    );
                }
            }
        }
    }
}

#[test]
fn a_large_tensor_is_converted_in_pieces_as_in_one() {
    use deepring_tensors::convert_shared;
    let engine = deepring::Engine::builder().build().expect("an engine");
    for elements in [0, 1, (1 << 20) + 1, 5_000_001] {
        let mut source = engine.buffer(elements * 2).expect("memory");
        for (code, bytes) in source.chunks_exact_mut(2).enumerate() {
            bytes.copy_from_slice(&(code as u16).to_le_bytes());
        }
        let mut expected = vec![0; elements * 4];
        convert_into(DType::BF16, &source, DType::F32, &mut expected).expect("converted");
        let source = source.freeze();
        let converted = convert_shared(&engine, DType::BF16, source.clone(), DType::F32).wait().expect("converted");
        assert_eq!(&converted[..], &expected[..], "{elements} elements");
        assert!(convert_shared(&engine, DType::BF16, source, DType::F4).wait().is_err());
    }
    let odd = engine.buffer(3).expect("memory").freeze();
    assert!(convert_shared(&engine, DType::BF16, odd, DType::F32).wait().is_err());
}
