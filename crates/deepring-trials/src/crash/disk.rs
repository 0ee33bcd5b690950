//! A disk that can be crashed: a file system on a loop device over a file in memory.

use crate::harness::Rng;
use crate::harness::disk::{Loop, ext4_image, mount, unmount};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// ext4 with blocks of 4 KiB, data ordered before the journal.
    Ext4,
    /// XFS.
    Xfs,
}

impl Kind {
    /// The kind with this name, as `mount` knows it.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Ext4, Self::Xfs].into_iter().find(|kind| kind.name() == name)
    }

    /// As `mount` knows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }
}

pub(super) struct Disk {
    kind: Kind,
    device: Loop,
    at: PathBuf,
}

impl Disk {
    /// `None` if the tool that makes this file system is missing.
    pub(super) fn new(kind: Kind, place: &Path) -> Option<Self> {
        let memory = place.join("memory");
        mount(Path::new("none"), &memory, "tmpfs", 0, "size=400m");
        let image = memory.join("image");
        match kind {
            Kind::Ext4 => ext4_image(&image, 160 << 20, &["-b", "4096", "-J", "size=4"]),
            Kind::Xfs => {
                File::create(&image).and_then(|file| file.set_len(350 << 20)).ok()?;
                let made = Command::new("mkfs.xfs").arg("-q").arg(&image).output().ok()?;
                assert!(made.status.success(), "mkfs.xfs: {}", String::from_utf8_lossy(&made.stderr));
            }
        }
        Some(Self { kind, device: Loop::attach(&image), at: place.join("disk") })
    }

    /// The file of one writer.
    pub(super) fn file(&self, writer: usize) -> PathBuf {
        self.at.join(format!("file-{writer}"))
    }

    /// Where it is mounted.
    pub(super) fn at(&self) -> &Path {
        &self.at
    }

    /// Mounts it, which recovers its journal.
    pub(super) fn mount(&self) {
        mount(&self.device.path, &self.at, self.kind.name(), 0, "");
    }

    pub(super) fn unmount(&self) {
        unmount(&self.at);
    }

    /// Cuts the power, as far as the file system is concerned: nothing that it has not yet given to
    /// the device gets there.
    pub(super) fn crash(&self, rng: &mut Rng) {
        const FS_IOC_SHUTDOWN: libc::Ioctl = 0x8004_587d_u32 as libc::Ioctl;
        /// Writes everything out first: a crash without loss.
        const WITH_ALL: u32 = 0;
        /// Writes the journal out first, and no data.
        const WITH_JOURNAL: u32 = 1;
        /// Writes nothing.
        const WITH_NOTHING: u32 = 2;
        let how = *rng.pick(&[WITH_NOTHING, WITH_NOTHING, WITH_NOTHING, WITH_JOURNAL, WITH_ALL]);
        let root = File::open(&self.at).expect("the mount point");
        // SAFETY: FS_IOC_SHUTDOWN reads one 32-bit number.
        let done = unsafe { libc::ioctl(root.as_raw_fd(), FS_IOC_SHUTDOWN, &raw const how) };
        assert_eq!(done, 0, "FS_IOC_SHUTDOWN: {}", std::io::Error::last_os_error());
    }
}
