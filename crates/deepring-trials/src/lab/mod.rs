//! The drive lab: the engine on a real nvme driver, with drives that lose their write cache in
//! power cuts, that fail and that stall.
//!
//! ```text
//!   lab (this host)                                      the virtual machine
//!     suite, campaign, faults ── orders, serial port ──>   lab-guest: writes, verifies, runs tests
//!         │        │          <── reports ────────────         │ engine, ext4, the nvme driver
//!         │        └ kills ──> qemu-system-x86_64 ── NVMe ─────┘
//!         └ settles ─> image <── nbdkit + examples/drive.rs, error and delay filters
//! ```
//!
//! A power cut is SIGKILL for the machine and its drive at a random moment. The image then holds
//! what was flushed. Of the rest, the lab applies nothing, a random subset, or a subset with one
//! write torn ([`cut`]). The seed and the drive's journal decide which, so that the loss can be
//! repeated. On a plain image file the host's page cache would keep every write, and a missing
//! flush would never be seen.
//!
//! The machine is emulated (TCG), so nothing here measures speed. Its kernel is Debian's cloud
//! kernel, which has the nvme driver and ext4 built in. It is downloaded as a package and unpacked
//! below `target/lab`, not installed.
//!
//! Nothing stays running: the machine and its drives die with the lab, however it ends.

pub mod cache;
pub mod campaign;
pub mod content;
pub mod cpio;
pub mod cut;
pub mod faults;
pub mod guest;
pub mod initramfs;
pub mod ledger;
pub mod machine;
pub mod packages;
pub mod process;
pub mod protocol;
pub mod suite;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Where the file system of a drive of the lab ends and the raw generations begin.
pub const FILE_SYSTEM_BYTES: u64 = 192 << 20;

/// The size of a drive of the lab.
pub const DRIVE_BYTES: u64 = 256 << 20;

/// What the lab built or downloaded, and the folder it works in.
#[derive(Debug)]
pub struct Artifacts {
    /// Below `target`: images, sockets, logs.
    pub folder: PathBuf,
    /// The kernel's image.
    pub kernel: PathBuf,
    /// The archive the machine boots into.
    pub initramfs: PathBuf,
    /// The drive, for nbdkit to load.
    pub plugin: PathBuf,
    /// Names of the test binaries in the archive, if they were requested.
    pub suite: Vec<String>,
}

/// Prints a line.
pub fn say(line: &str) {
    // If standard output is closed, there is nowhere to report it.
    let _ = writeln!(io::stdout(), "{line}");
}

/// An error with this message.
pub(crate) fn failure(what: impl Into<String>) -> io::Error {
    io::Error::other(what.into())
}

/// A file of this size that takes no space yet. Replaces any existing file.
pub(crate) fn sparse(path: &Path, bytes: u64) -> io::Result<()> {
    std::fs::File::create(path)?.set_len(bytes)
}

/// Makes an ext4 file system of this size at the start of an image.
pub(crate) fn format(image: &Path, bytes: u64) -> io::Result<()> {
    let kilobytes = format!("{}k", bytes / 1024);
    let options = ["-q", "-F", "-m", "0", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
    process::run("mkfs.ext4", &[&options[..], &[&image.to_string_lossy(), &kilobytes]].concat()).map(drop)
}
