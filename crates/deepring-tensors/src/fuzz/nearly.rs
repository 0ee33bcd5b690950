//! Headers that are nearly right: tensors one behind the other, of which a few numbers, names and tokens are changed.
//! Random bytes hardly ever get that far.

use super::oracle::{self, Parse};
use crate::dtype::DType;
use crate::header;
use arbitrary::{Result, Unstructured};
use std::fmt::Write as _;

const TENSORS_MAX: usize = 6;

/// Tokens where another one belongs.
const TOKENS: &[&str] = &[
    "null",
    "true",
    "-1",
    "-0",
    "1.0",
    "1e3",
    "1e999",
    "\"\"",
    "\"4\"",
    "[]",
    "{}",
    "[0]",
    "[0,1,2]",
    "{\"F32\":null}",
    "{\"F32\":{}}",
    "9007199254740991",
    "9007199254740992",
    "18446744073709551615",
    "18446744073709551616",
    "\"\\ud800\"",
    "\"\\u0000\"",
    "",
    ",",
    " ",
    "{\"a\":\"b\"}",
    "{\"a\":\"b\",\"a\":\"c\"}",
];

/// Names, some of which are likely to meet.
const NAMES: &[&str] = &["a", "b", "\\u0061", "", "__metadata__", "__proto__", "\\n", "é", "\\u005f_metadata__", "x", "y", "z"];

/// Fields beside those of a tensor.
const FIELDS: &[&str] = &["x", "dtype", "shape", "data_offsets", "", "d\\u0074ype"];

/// Types that are no types.
const TYPES: &[&str] = &["U3", "f32", "", "F32 ", "BOOLEAN"];

pub(super) fn check(bytes: &[u8]) {
    // Too few bytes make no header.
    let _ = check_with(bytes, header::parse);
}

/// A reader with a planted bug: it does not compare the end of the tensors with the end of the file.
pub(super) fn planted(bytes: &[u8]) {
    let _ = check_with(bytes, |json, data_bytes, strict| {
        header::parse(json, data_bytes, strict).or_else(|fault| match fault.reason {
            crate::error::Reason::Truncated => header::parse(json, 1 << 52, false),
            _ => Err(fault),
        })
    });
}

fn check_with(bytes: &[u8], parse: Parse) -> Result<()> {
    let mut input = Unstructured::new(bytes);
    let (json, end) = nearly_right(&mut input)?;
    let size = if rarely(&mut input) { end.wrapping_add(input.arbitrary::<u8>().map_or(1, u64::from)).wrapping_sub(8) } else { end };
    oracle::check(json.as_bytes(), size, parse);
    Ok(())
}

/// A header, and where its data end.
fn nearly_right(input: &mut Unstructured<'_>) -> Result<(String, u64)> {
    let mut members = Vec::new();
    let mut end = 0;
    for index in 0..input.int_in_range(0..=TENSORS_MAX)? {
        let name = if rarely(input) { (*input.choose(NAMES)?).to_owned() } else { format!("t{index}") };
        members.push(format!("\"{name}\":{}", tensor(input, &mut end)?));
    }
    if input.arbitrary()? {
        let value = if rarely(input) { *input.choose(TOKENS)? } else { "{\"format\":\"pt\"}" };
        members.push(format!("\"__metadata__\":{value}"));
    }
    // Any order is legal.
    if members.len() > 1 && input.arbitrary()? {
        let at = input.choose_index(members.len())?;
        members.rotate_left(at);
    }
    let mut json = format!("{{{}}}", members.join(","));
    if rarely(input) {
        let at = input.choose_index(json.len() + 1)?;
        if json.is_char_boundary(at) {
            json.insert_str(at, input.choose(TOKENS)?);
        }
    }
    Ok((json, end))
}

fn tensor(input: &mut Unstructured<'_>, end: &mut u64) -> Result<String> {
    let dtype = *input.choose(DType::ALL)?;
    let mut shape = Vec::new();
    for _ in 0..input.int_in_range(0..=3)? {
        shape.push(extent(input)?);
    }
    let elements = shape.iter().try_fold(1u64, |elements, &extent| elements.checked_mul(extent));
    // What fills no whole bytes is rounded, which is wrong.
    let len = elements.and_then(|elements| elements.checked_mul(dtype.bits().into())).map_or(8, |bits| bits / 8);
    let (mut begin, mut stop) = (*end, end.wrapping_add(len));
    if rarely(input) {
        begin = begin.wrapping_add(input.int_in_range(0..=4u64)?).wrapping_sub(2);
    }
    if rarely(input) {
        stop = stop.wrapping_add(input.int_in_range(0..=4u64)?).wrapping_sub(2);
    }
    // Tensors that share bytes do not move it.
    if !rarely(input) {
        *end = stop.max(*end);
    }
    let name = if rarely(input) { input.choose(TYPES)? } else { dtype.name() };
    let texts: Vec<String> = shape.iter().map(u64::to_string).collect();
    let mut fields =
        vec![format!("\"dtype\":\"{name}\""), format!("\"shape\":[{}]", texts.join(",")), format!("\"data_offsets\":[{begin},{stop}]")];
    if rarely(input) {
        let field = input.choose_index(fields.len())?;
        let (key, _) = fields[field].split_once(':').unwrap_or_default();
        fields[field] = format!("{key}:{}", input.choose(TOKENS)?);
    }
    if rarely(input) {
        fields.push(format!("\"{}\":{}", input.choose(FIELDS)?, input.choose(TOKENS)?));
    }
    if rarely(input) {
        fields.swap_remove(0);
    }
    if rarely(input) {
        return Ok(format!("[\"{name}\",[{}],[{begin},{stop}]]", texts.join(",")));
    }
    let mut text = String::from("{");
    for (nth, field) in fields.iter().enumerate() {
        let comma = if nth == 0 { "" } else { "," };
        let _ = write!(text, "{comma}{field}");
    }
    text.push('}');
    Ok(text)
}

/// Mostly small, and sometimes close to a power of two.
fn extent(input: &mut Unstructured<'_>) -> Result<u64> {
    let small = input.int_in_range(0..=8u64)?;
    if !rarely(input) {
        return Ok(small);
    }
    let power = input.int_in_range(3..=63u32)?;
    Ok((1u64 << power).wrapping_add(small).wrapping_sub(4))
}

/// Once in sixteen times; never if the input has ended.
fn rarely(input: &mut Unstructured<'_>) -> bool {
    input.int_in_range(0..=15u8).is_ok_and(|number| number == 1)
}
