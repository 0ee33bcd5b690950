//! File systems that the test directory does not have: in memory, and in a file. They need root.

use crate::harness::skip;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What XFS needs at least; it takes no space before it is used.
const IMAGE_BYTES: u64 = 400 << 20;

/// A mounted file system, for as long as the value lives.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// One in memory at a directory, of at most this size. `None`: the test is skipped.
    pub(crate) fn memory(at: &Path, size: &str) -> Option<Self> {
        Self::mount(at, &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
    }

    /// One of this kind in a new file beside the directory that it is mounted at. `None`: the test is skipped.
    pub(crate) fn image(kind: &str, at: &Path) -> Option<Self> {
        let image = at.with_extension("image");
        File::create(&image).and_then(|file| file.set_len(IMAGE_BYTES)).expect("an image");
        std::fs::create_dir_all(at).expect("a directory");
        let image = image.to_str().expect("UTF-8");
        let made = Command::new(format!("mkfs.{kind}")).args(["-q", image]).output();
        let Ok(made) = made else {
            skip(&format!("there is no mkfs.{kind}"));
            return None;
        };
        assert!(made.status.success(), "mkfs.{kind}: {}", String::from_utf8_lossy(&made.stderr));
        Self::mount(at, &["-t", kind, "-o", "loop", image])
    }

    fn mount(at: &Path, arguments: &[&str]) -> Option<Self> {
        let mounted = Command::new("mount").args(arguments).arg(at).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(at.to_owned()));
        }
        skip("mounting needs root");
        None
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // The engine's threads may still close files.
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "the file system stays mounted");
    }
}
