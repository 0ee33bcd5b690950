//! Checksums in the metadata of a file: one CRC-32C of each tensor, in the order of their bytes, and one of the header.
//!
//! The value of `deepring.crc32c` is `1;`, the base64 of the checksums of the tensors, four bytes each, the lowest first,
//! `;`, and the checksum of the header in eight hexadecimal digits. The header is summed from the first byte of the file up
//! to its data, with eight `0` in the place of these digits. The length of the value depends on the number of tensors alone,
//! so that a header has its final size before the checksums are known.

use crate::header::Header;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deepring::crc32c;

/// The key in the metadata.
pub(crate) const KEY: &str = "deepring.crc32c";

/// The form of the value.
const VERSION: &str = "1;";

/// Digits of the checksum of a header.
const DIGITS: usize = 8;

/// What stands for them while the header is summed.
const NO_DIGITS: &[u8; DIGITS] = b"00000000";

/// The value for these checksums of tensors, without that of the header.
pub(crate) fn text(checksums: &[u32]) -> String {
    let bytes: Vec<u8> = checksums.iter().flat_map(|crc| crc.to_le_bytes()).collect();
    format!("{VERSION}{};00000000", STANDARD.encode(bytes))
}

/// The place of the digits in a header, from the first byte of the file on.
pub(crate) fn place_of(header: &[u8]) -> Option<usize> {
    let key = format!("\"{KEY}\":\"{VERSION}");
    let start = header.windows(key.len()).position(|window| window == key.as_bytes())? + key.len();
    let separator = header[start..].iter().position(|&byte| byte == b';' || byte == b'"')?;
    let place = start + separator + 1;
    (header.get(place - 1) == Some(&b';') && header.get(place + DIGITS) == Some(&b'"')).then_some(place)
}

/// The checksum of a header whose digits are at `place`; they are replaced.
pub(crate) fn of_header(header: &mut [u8], place: usize) -> u32 {
    header[place..place + DIGITS].copy_from_slice(NO_DIGITS);
    crc32c(header)
}

/// Writes the checksum of a header into it.
pub(crate) fn seal(header: &mut [u8]) {
    if let Some(place) = place_of(header) {
        let digits = format!("{:08x}", of_header(header, place));
        header[place..place + DIGITS].copy_from_slice(digits.as_bytes());
    }
}

/// The checksums of a header: of its tensors, and of itself. `None` if it has none for just these tensors: a program that
/// does not know them can have copied the metadata of another file.
pub(crate) fn of(header: &Header) -> Option<(Vec<u32>, u32)> {
    let (tensors, own) = header.metadata.get(KEY)?.strip_prefix(VERSION)?.split_once(';')?;
    let bytes = STANDARD.decode(tensors).ok()?;
    // One form only, so that no change of a digit stays unseen.
    let own = u32::from_str_radix(own, 16).ok().filter(|crc| own == format!("{crc:08x}"))?;
    let fits = bytes.len() == header.columns.len() * 4;
    fits.then(|| (bytes.chunks_exact(4).map(|crc| u32::from_le_bytes([crc[0], crc[1], crc[2], crc[3]])).collect(), own))
}
