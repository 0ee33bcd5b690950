//! Which file is the profile of a device, and whether it can be believed.

use super::text::parse;
use super::{ProfileInfo, Seeds};
use crate::sys::thread;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file that is the only profile, or `off`.
pub(super) const VARIABLE: &str = "DEEPRING_PROFILE";

pub(super) const NOWHERE: &str = "neither XDG_CONFIG_HOME nor HOME names a directory";

/// Profiles have less than a kilobyte.
const TEXT_BYTES_MAX: u64 = 64 << 10;

/// Bytes of the name of a file.
const NAME_BYTES_MAX: usize = 200;

/// Permissions by which others can write a file.
const WRITABLE_BY_OTHERS: u32 = 0o022;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// None are looked for, and why.
    Off(&'static str),
    /// One file, for the device that it names.
    File(PathBuf),
    /// A file for each device.
    Directory(PathBuf),
    /// There is no such directory.
    Nowhere,
}

impl Source {
    /// From the values of `DEEPRING_PROFILE`, `XDG_CONFIG_HOME` and `HOME`. An empty one counts as unset, and the second
    /// only if it is absolute, as its specification says.
    pub(super) fn of(file: Option<OsString>, config: Option<OsString>, home: Option<OsString>) -> Self {
        let given = |value: Option<OsString>| value.filter(|value| !value.is_empty()).map(PathBuf::from);
        let absolute = |value| given(value).filter(|path| path.is_absolute());
        match given(file) {
            Some(word) if word == Path::new("off") => Self::Off("DEEPRING_PROFILE is 'off'"),
            // As it is meant now, also if the working directory changes.
            Some(path) => Self::File(std::path::absolute(&path).unwrap_or(path)),
            None => match absolute(config).or_else(|| absolute(home).map(|home| home.join(".config"))) {
                Some(config) => Self::Directory(config.join("deepring")),
                None => Self::Nowhere,
            },
        }
    }

    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) | Self::Directory(path) => Some(path),
            Self::Off(_) | Self::Nowhere => None,
        }
    }

    /// The file of a device, and its seeds or the reason for which there are none.
    pub(super) fn look(&self, device: Option<&str>) -> (Option<PathBuf>, Result<(Seeds, String), String>) {
        let path = match (self, device) {
            (Self::Off(reason), _) => return (None, Err((*reason).to_owned())),
            (Self::Nowhere, _) => return (None, Err(NOWHERE.to_owned())),
            (Self::File(path), _) => path.clone(),
            (Self::Directory(path), Some(device)) => path.join(file_name(device)),
            (Self::Directory(_), None) => return (None, Err(NAMELESS.to_owned())),
        };
        let result = read(&path).and_then(|text| seeds_in(&text, device));
        (Some(path), result)
    }
}

const NAMELESS: &str = "the device has no serial number, and its file system no UUID";

fn seeds_in(text: &str, device: Option<&str>) -> Result<(Seeds, String), String> {
    let profile = parse(text)?;
    let device = device.ok_or(NAMELESS)?;
    if profile.device != device {
        return Err(format!("of another device: '{}', not '{device}'", profile.device));
    }
    let kernel = kernel_of(thread::kernel_release());
    if profile.kernel != kernel {
        return Err(format!("of another kernel: {}, not {kernel}; deepring tune finds out anew", profile.kernel));
    }
    Ok((profile.seeds, "the search begins with it".to_owned()))
}

/// The text of a file that is this user's own.
fn read(path: &Path) -> Result<String, String> {
    // A FIFO would wait for a writer.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => "there is none; deepring tune makes one".to_owned(),
        _ => format!("it cannot be read: {error}"),
    })?;
    check_owner(&file)?;
    let mut bytes = Vec::new();
    file.take(TEXT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| format!("it cannot be read: {error}"))?;
    if bytes.len() as u64 > TEXT_BYTES_MAX {
        return Err(format!("damaged: it is longer than {TEXT_BYTES_MAX} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "damaged: it is not valid UTF-8".to_owned())
}

fn check_owner(file: &File) -> Result<(), String> {
    let found = file.metadata().map_err(|error| format!("it cannot be read: {error}"))?;
    if !found.is_file() {
        return Err("it is not a file".to_owned());
    }
    let user = thread::user();
    if found.uid() != user {
        return Err(format!("refused: it belongs to user {}, not to {user}", found.uid()));
    }
    if found.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(format!("refused: others can write it (mode {:o}); chmod go-w makes it safe", found.mode() & 0o777));
    }
    Ok(())
}

/// The first two numbers of a release: what comes behind them changes with every fix.
fn kernel_of(release: &str) -> &str {
    let end = release.match_indices(|character: char| !character.is_ascii_digit()).nth(1).map_or(release.len(), |(at, _)| at);
    &release[..end]
}

/// The name of a device's file. Devices whose names differ only in what no file name has share one; it says whose it is.
fn file_name(device: &str) -> String {
    let safe = |character: char| if character.is_ascii_alphanumeric() || "-.".contains(character) { character } else { '_' };
    let mut name: String = device.chars().map(safe).collect();
    name.truncate(NAME_BYTES_MAX);
    name + ".profile"
}

/// As tools of file systems print it.
pub(super) fn uuid_text(uuid: [u8; 16]) -> String {
    let digits = format!("{:032x}", u128::from_be_bytes(uuid));
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    format!("UUID {}", parts.join("-"))
}

/// Of a device, among others.
pub(super) fn sentence(info: &ProfileInfo) -> String {
    let device = info.device.as_deref().unwrap_or("a device without a name");
    format!("{device}: {}", info.reason)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_environment_says_where_profiles_are() {
        let of = |file: &str, config: &str, home: &str| {
            let given = |text: &str| (text != "-").then(|| OsString::from(text));
            Source::of(given(file), given(config), given(home))
        };
        let directory = |path: &str| Source::Directory(path.into());
        assert_eq!(of("-", "-", "/home/ada"), directory("/home/ada/.config/deepring"));
        assert_eq!(of("", "/etc/xdg", "/home/ada"), directory("/etc/xdg/deepring"));
        assert_eq!(of("-", "relative", "/home/ada"), directory("/home/ada/.config/deepring"));
        assert_eq!(of("-", "", ""), Source::Nowhere);
        assert_eq!(of("off", "/etc/xdg", "/home/ada"), Source::Off("DEEPRING_PROFILE is 'off'"));
        assert_eq!(of("/a/profile", "-", "-"), Source::File("/a/profile".into()));
        let Source::File(path) = of("profile", "-", "-") else { panic!("a file") };
        assert!(path.is_absolute() && path.ends_with("profile"), "{}", path.display());
    }

    #[test]
    fn fixes_of_a_kernel_are_the_same_kernel() {
        for (release, kernel) in [("6.18.44-fc-v769", "6.18"), ("6.18.2", "6.18"), ("6.1-rc3", "6.1"), ("7.0", "7.0"), ("7", "7")] {
            assert_eq!(kernel_of(release), kernel);
        }
    }

    #[test]
    fn the_name_of_a_file_has_no_special_characters() {
        assert_eq!(file_name("Samsung SSD/990 S7\u{e9}"), "Samsung_SSD_990_S7_.profile");
        assert_eq!(file_name(&"x".repeat(300)).len(), NAME_BYTES_MAX + ".profile".len());
        assert_eq!(file_name(".."), "...profile");
    }

    #[test]
    fn a_uuid_looks_as_tools_print_it() {
        let uuid = std::array::from_fn(|index| index as u8 * 17);
        assert_eq!(uuid_text(uuid), "UUID 00112233-4455-6677-8899-aabbccddeeff");
    }
}
