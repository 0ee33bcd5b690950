//! The form that parts and manifests share: one JSON object in one line, whose last field is the CRC-32C of all bytes before it.
//!
//! ```text
//!   {"format":"deepring-checkpoint","version":1, fields ,"crc32c":"xxxxxxxx"}\n
//! ```
//!
//! Beginning and end have one form, so no byte of them can change unseen. Other formats of this crate have the same form, and
//! their own name in it.

use crate::error::{Fault, Reason};
use deepring::crc32c;

/// The name of the format of checkpoints.
const CHECKPOINT: &str = "deepring-checkpoint";

/// The one version that there is, up to the first field.
const VERSION: &str = "1,";

/// Bytes of the end, from the comma in front of the checksum on.
const END_BYTES: usize = r#","crc32c":"xxxxxxxx"}"#.len() + 1;

/// How every text of a format begins, up to the number of its version.
fn beginning(format: &str) -> String {
    format!("{{\"format\":\"{format}\",\"version\":")
}

/// The text of a checkpoint with these fields, which are JSON without the braces.
pub(crate) fn seal(fields: &str) -> String {
    seal_as(CHECKPOINT, fields)
}

/// The same of another format.
pub(crate) fn seal_as(format: &str, fields: &str) -> String {
    let mut text = format!("{}{VERSION}{fields}", beginning(format));
    text.push_str(&end(text.as_bytes()));
    text
}

/// The JSON of a text of a checkpoint, if it has the form and the checksum holds. `reason` says what it is that is wrong.
pub(crate) fn open(bytes: &[u8], bytes_max: u64, reason: Reason) -> Result<&str, Fault> {
    open_as(CHECKPOINT, bytes, bytes_max, reason)
}

/// The same of another format.
pub(crate) fn open_as<'b>(format: &str, bytes: &'b [u8], bytes_max: u64, reason: Reason) -> Result<&'b str, Fault> {
    if bytes.len() as u64 > bytes_max {
        return Err(Fault::new(Reason::TooLarge, format!("it has {} bytes, and {bytes_max} are allowed", bytes.len())));
    }
    let (front, back) = bytes.split_at(bytes.len().saturating_sub(END_BYTES));
    if back != end(front).as_bytes() {
        return Err(Fault::new(reason, "it does not end in the checksum of its bytes: it was changed or cut"));
    }
    let text = str::from_utf8(bytes).map_err(|error| Fault::new(reason, format!("it is not valid UTF-8: {error}")))?;
    let beginning = beginning(format);
    let Some(version) = text.strip_prefix(beginning.as_str()) else {
        return Err(Fault::new(reason, format!("it does not begin with {beginning}")));
    };
    if !version.starts_with(VERSION) {
        return Err(Fault::new(Reason::Version, "its version is not 1: a newer release wrote it"));
    }
    Ok(text)
}

/// The end of a text that begins with these bytes.
fn end(front: &[u8]) -> String {
    format!(",\"crc32c\":\"{}\"}}\n", digits(crc32c(front)))
}

/// A checksum as text: eight hexadecimal digits.
pub(crate) fn digits(crc: u32) -> String {
    format!("{crc:08x}")
}

/// A checksum from its digits, in their one form.
pub(crate) fn of_digits(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 16).ok().filter(|&crc| digits(crc) == text)
}

#[cfg(test)]
mod tests {
    use super::{of_digits, open, open_as, seal, seal_as};
    use crate::error::Reason;
    use proptest::prelude::*;

    fn reason(bytes: &[u8]) -> Reason {
        open(bytes, 1 << 20, Reason::Part).expect_err("wrong").reason
    }

    #[test]
    fn the_form_is_that_of_the_format() {
        let text = seal(r#""a":1"#);
        let crc = deepring::crc32c(br#"{"format":"deepring-checkpoint","version":1,"a":1"#);
        assert_eq!(text, format!("{{\"format\":\"deepring-checkpoint\",\"version\":1,\"a\":1,\"crc32c\":\"{crc:08x}\"}}\n"));
        assert_eq!(open(text.as_bytes(), text.len() as u64, Reason::Part), Ok(text.as_str()));
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
    }

    #[test]
    fn another_version_another_format_and_a_large_text_have_their_reasons() {
        let resealed = |front: &str| [front.as_bytes(), super::end(front.as_bytes()).as_bytes()].concat();
        assert_eq!(reason(&resealed(r#"{"format":"deepring-checkpoint","version":2,"a":1"#)), Reason::Version);
        assert_eq!(reason(&resealed(r#"{"format":"deepring-checkpoint","version":10,"a":1"#)), Reason::Version);
        assert_eq!(reason(&resealed(r#"{"version":1,"format":"deepring-checkpoint","a":1"#)), Reason::Part);
        assert_eq!(reason(&resealed("")), Reason::Part);
        assert_eq!(reason(b""), Reason::Part);
        let text = seal(r#""a":1"#);
        let large = open(text.as_bytes(), text.len() as u64 - 1, Reason::Part).expect_err("too large");
        assert_eq!(large.reason, Reason::TooLarge);
    }

    #[test]
    fn a_text_of_one_format_is_none_of_another() {
        let text = seal_as("deepring-optimizer", r#""a":1"#);
        assert_eq!(open_as("deepring-optimizer", text.as_bytes(), 1 << 20, Reason::Index), Ok(text.as_str()));
        assert_eq!(open_as("deepring-swap", text.as_bytes(), 1 << 20, Reason::Index).expect_err("another").reason, Reason::Index);
    }

    #[test]
    fn a_text_that_is_not_utf8_is_refused() {
        let front = [br#"{"format":"deepring-checkpoint","version":1,"a":""#.as_slice(), b"\xff\""].concat();
        assert_eq!(reason(&[&front, super::end(&front).as_bytes()].concat()), Reason::Part);
    }

    proptest! {
        #[test]
        fn no_byte_changes_and_no_end_is_cut_unseen(value in ".{0,40}", at in any::<prop::sample::Index>(), change in 1..=255u8) {
            let text = seal(&format!("\"a\":{}", serde_json::Value::from(value)));
            let mut bytes = text.into_bytes();
            prop_assert!(open(&bytes, 1 << 20, Reason::Part).is_ok());
            let at = at.index(bytes.len());
            prop_assert_eq!(reason(&bytes[..at]), Reason::Part);
            bytes[at] ^= change;
            prop_assert_eq!(reason(&bytes), Reason::Part);
        }

        #[test]
        fn a_checksum_has_one_text(crc in any::<u32>(), text in "[+0-9a-fA-F]{7,9}") {
            prop_assert_eq!(of_digits(&super::digits(crc)), Some(crc));
            if let Some(crc) = of_digits(&text) { prop_assert_eq!(super::digits(crc), text); }
        }
    }
}
