//! Names: which file an object is, which object a file is, and which files are none. Pure.
//!
//! An object's path is a path below the prefix, byte for byte, as that of `object_store::local::LocalFileSystem` is: what the
//! crate has encoded (`a/b%2Fc`) is a file of that name, with the percent sign. So both see the same objects.

use crate::failure::{Failure, Kind};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The names of files in progress begin so, and end in `#0`.
const STAGED: &str = ".deepring-";

/// The file of an object.
///
/// # Errors
/// If no object can have the path: the root, and names of files in progress.
pub(crate) fn file_of(prefix: &Path, location: &str) -> Result<PathBuf, Failure> {
    let refused = |why: &str| Err(Failure::new(Kind::Other, Path::new(location), why));
    let Some(name) = location.rsplit('/').next().filter(|name| !name.is_empty()) else {
        return refused("the root of a store is no object");
    };
    if is_in_progress(name) {
        return refused("a '#' with digits behind it is kept for files in progress");
    }
    directory_of(prefix, location)
}

/// The directory of a prefix of paths.
///
/// # Errors
/// If the path would leave the store. Those of `object_store` never do.
pub(crate) fn directory_of(prefix: &Path, location: &str) -> Result<PathBuf, Failure> {
    if location.is_empty() {
        return Ok(prefix.to_owned());
    }
    if location.split('/').any(|part| matches!(part, "" | "." | "..")) || location.contains('\0') {
        return Err(Failure::new(Kind::Other, Path::new(location), "the path would leave the store"));
    }
    Ok(prefix.join(location))
}

/// Whether files of this name are in progress: ours, and those of `LocalFileSystem`. They are no objects.
pub(crate) fn is_in_progress(name: &str) -> bool {
    name.split_once('#').is_some_and(|(_, digits)| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether it is one of ours.
pub(crate) fn is_ours(name: &str) -> bool {
    name.strip_prefix(STAGED).is_some_and(|rest| rest.ends_with("#0"))
}

/// A name for a second link to a file, which is about to take another name.
pub(crate) fn staged_link(process: u32, number: u64) -> String {
    format!("{STAGED}{process}-link-{number}#0")
}

/// The path of an object, or of a prefix, from that of its directory and its name. `None` if no path of `object_store` can
/// have the name: it is not UTF-8, or has control characters.
pub(crate) fn location_of(directory: &str, name: &OsStr) -> Option<String> {
    let name = name.to_str().filter(|name| !name.bytes().any(|byte| byte.is_ascii_control()))?;
    Some(if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    fn file(location: &str) -> Option<PathBuf> {
        file_of(Path::new("/data"), location).ok()
    }

    #[test]
    fn a_path_is_the_path_below_the_prefix_byte_for_byte() {
        for location in ["a", "a/b%2Fc/foo.file", "🙀/😀.parquet", "%48%45/x", "foo bar/I contain spaces", "a#b", "#", "x#1#2", "a#1/b"]
        {
            assert_eq!(file(location), Some(PathBuf::from(format!("/data/{location}"))), "{location}");
        }
    }

    #[test]
    fn no_path_leaves_the_store_and_none_is_a_file_in_progress() {
        for location in ["", "..", "a/../b", "a//b", "./a", "a/.", "a\0b", "x#1", "a/x#007", ".deepring-1-2#0"] {
            assert_eq!(file(location), None, "{location:?}");
        }
    }

    #[test]
    fn files_in_progress_are_recognized() {
        for (name, in_progress, ours) in [
            (".deepring-17-4#0", true, true),
            (&staged_link(17, 4), true, true),
            ("x.parquet#12", true, false),
            (".deepring-17-4", false, false),
            ("x#y#1", false, false),
            ("x#", false, false),
        ] {
            assert_eq!((is_in_progress(name), is_ours(name)), (in_progress, ours), "{name}");
        }
    }

    #[test]
    fn a_file_is_found_under_the_path_that_it_was_made_with() {
        for location in ["a", "a/b%2Fc", "a/b c", "🙀/😀"] {
            let (directory, name) = location.rsplit_once('/').unwrap_or(("", location));
            assert_eq!(location_of(directory, OsStr::new(name)).as_deref(), Some(location));
        }
        assert_eq!(location_of("", OsStr::new("line\nbreak")), None);
        assert_eq!(location_of("", OsStr::from_bytes(b"\xff")), None);
    }
}
