//! The text of a profile: lines of `key = value`. Pure.
//!
//! Empty lines, and lines that begin with `#`, say nothing. The version comes first, so that what another one has added
//! is not taken for damage. Every other key is known, stands once, and has a value in its range: a profile of which one
//! line makes no sense is not believed in the others.

use super::{Seed, Seeds};
use crate::config::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN};

/// The version of the format.
const VERSION: &str = "1";

/// The largest window: more than the memory of most machines.
const WINDOW_BYTES_MAX: u64 = 1 << 40;
const BLOCKS_MAX: u64 = 1 << 16;

/// Lines that are for people.
const REMARKS: [&str; 4] = ["tuned", "by", "for", "confidence"];

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) device: String,
    pub(super) kernel: String,
    pub(super) seeds: Seeds,
}

/// Parses a profile, or says why it is none.
pub(super) fn parse(text: &str) -> Result<Profile, String> {
    let mut profile = Profile::default();
    let mut seen: Vec<&str> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let damaged = |what: &str| format!("damaged: line {} {what}", index + 1);
        let (key, value) = line.split_once('=').ok_or_else(|| damaged("is not 'key = value'"))?;
        let (key, value) = (key.trim(), value.trim());
        if seen.is_empty() && key != "version" {
            return Err(damaged("comes before the version"));
        }
        if seen.contains(&key) {
            return Err(damaged("has the key of another one"));
        }
        seen.push(key);
        match key {
            "version" if value == VERSION => {}
            "version" => return Err(format!("of another version: {value}, not {VERSION}")),
            "device" => value.clone_into(&mut profile.device),
            "kernel" => value.clone_into(&mut profile.kernel),
            remark if REMARKS.contains(&remark) => {}
            key => {
                let (place, range) = place_of(&mut profile.seeds, key).ok_or_else(|| damaged("has a key that no profile has"))?;
                let number = value.parse().ok().filter(|number| range.contains(number));
                *place = Some(number.ok_or_else(|| damaged(&format!("is not a number from {} to {}", range.start(), range.end())))?);
            }
        }
    }
    for (key, value) in [("version", VERSION), ("device", &profile.device), ("kernel", &profile.kernel)] {
        if !seen.contains(&key) || value.is_empty() {
            return Err(format!("damaged: it has no {key}"));
        }
    }
    Ok(profile)
}

/// Where the number of a key goes, and its range.
fn place_of<'seeds>(seeds: &'seeds mut Seeds, key: &str) -> Option<(&'seeds mut Option<u64>, std::ops::RangeInclusive<u64>)> {
    let (direction, what) = key.split_once('.')?;
    let [read, write] = seeds;
    let seed: &mut Seed = match direction {
        "read" => read,
        "write" => write,
        _ => return None,
    };
    Some(match what {
        "window" => (&mut seed.window, BLOCK_BYTES_MIN..=WINDOW_BYTES_MAX),
        "shared" => (&mut seed.shared, BLOCK_BYTES_MIN..=WINDOW_BYTES_MAX),
        "blocks" => (&mut seed.blocks, 1..=BLOCKS_MAX),
        "block" => (&mut seed.block, BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX),
        "gap" => (&mut seed.gap, 0..=BLOCK_BYTES_MAX),
        _ => return None,
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WHOLE: &str = "# deepring tune\nversion = 1\ndevice = SSD 1\nkernel = 6.18\ntuned = 2026-11-30\nfor = latency\nconfidence = 0.97\n\n\
                         read.window = 16777216\nread.shared=8388608\n read.blocks = 64 \nread.block = 1048576\nread.gap = 0\nwrite.window = 4096\n";

    #[test]
    fn all_keys_are_read() {
        let read = Seed { window: Some(16 << 20), shared: Some(8 << 20), blocks: Some(64), block: Some(1 << 20), gap: Some(0) };
        let write = Seed { window: Some(4096), ..Seed::default() };
        let profile = parse(WHOLE).expect("a profile");
        assert_eq!(profile, Profile { device: "SSD 1".into(), kernel: "6.18".into(), seeds: [read, write] });
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named() {
        for (line, said) in [
            ("window", "line 4 is not 'key = value'"),
            ("read.windows = 4096", "line 4 has a key that no profile has"),
            ("both.window = 4096", "line 4 has a key that no profile has"),
            ("device = SSD 2", "line 4 has the key of another one"),
            ("read.window = 4095", "line 4 is not a number from 4096 to 1099511627776"),
            ("read.window = 16M", "line 4 is not a number from 4096 to 1099511627776"),
            ("write.blocks = 0", "line 4 is not a number from 1 to 65536"),
            ("write.block = -4096", "line 4 is not a number from 4096 to 1073741824"),
        ] {
            let text = format!("version = 1\ndevice = SSD 1\nkernel = 6.18\n{line}\n");
            assert_eq!(parse(&text), Err(format!("damaged: {said}")), "{line}");
        }
        for (text, said) in [
            ("", "damaged: it has no version"),
            ("device = SSD 1\n", "damaged: line 1 comes before the version"),
            ("version = 1\nkernel = 6.18\n", "damaged: it has no device"),
            ("version = 1\ndevice =\nkernel = 6.18\n", "damaged: it has no device"),
            ("version = 2\nnever heard of\n", "of another version: 2, not 1"),
        ] {
            assert_eq!(parse(text), Err(said.to_owned()), "{text:?}");
        }
    }

    proptest! {
        /// Neither a cut nor a changed character makes it fail otherwise than with a reason.
        #[test]
        fn a_damaged_text_is_refused_or_read(at in 0..WHOLE.len(), other in any::<char>(), cut in any::<bool>()) {
            let mut text = WHOLE[..at].to_owned();
            if !cut {
                text.push(other);
                text.push_str(&WHOLE[at + 1..]);
            }
            if let Err(reason) = parse(&text) {
                prop_assert!(reason.starts_with("damaged: ") || reason.starts_with("of another version: "), "{}", reason);
            }
        }
    }
}
