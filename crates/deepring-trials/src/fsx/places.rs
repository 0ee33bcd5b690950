//! Where trials run: every kind of file system that the engine meets, on loop devices with either
//! sector size.
//!
//! A place is a line in [`KINDS`]: a name, and how to make it in an empty private directory. To a
//! trial it is just a directory, so any other mounted file system can be tried by its path.
//!
//! The disks are files in memory. The trial is of the file system and the block layer, not of the
//! drive below, and in memory a sync costs little.

use crate::faultfs::{self, Mounted};
use crate::harness::disk::{MountedMemory, NEEDS_ROOT, in_mount_namespace, is_root, mount_overlay, other_disk_with_blocks};
use std::path::{Path, PathBuf};

/// A file system to try.
struct Kind {
    name: &'static str,
    needs_root: bool,
    /// Makes its directory, or returns why it cannot.
    make: fn(&Path) -> Result<Made, String>,
}

/// What was made.
struct Made {
    directory: PathBuf,
    /// The process that serves it, if there is one; dropping the value ends it.
    server: Option<Mounted>,
}

impl From<PathBuf> for Made {
    fn from(directory: PathBuf) -> Self {
        Self { directory, server: None }
    }
}

/// All kinds. A name ends with the device's sector size, if there is a device.
const KINDS: &[Kind] = &[
    Kind { name: "ext4-512", needs_root: true, make: |place| disk("ext4", &["-b", "4096"], 512, place) },
    Kind { name: "ext4-4096", needs_root: true, make: |place| disk("ext4", &["-b", "4096"], 4096, place) },
    Kind { name: "ext4-1k-512", needs_root: true, make: |place| disk("ext4", &["-b", "1024"], 512, place) },
    Kind { name: "xfs-512", needs_root: true, make: |place| disk("xfs", &["-s", "size=512"], 512, place) },
    Kind { name: "xfs-4096", needs_root: true, make: |place| disk("xfs", &["-s", "size=4096"], 4096, place) },
    Kind { name: "btrfs-512", needs_root: true, make: |place| disk("btrfs", &["-s", "4096"], 512, place) },
    Kind { name: "btrfs-4096", needs_root: true, make: |place| disk("btrfs", &["-s", "4096"], 4096, place) },
    Kind { name: "overlay", needs_root: true, make: overlay },
    Kind { name: "tmpfs", needs_root: false, make: |_| memory() },
    Kind { name: "fuse", needs_root: true, make: |place| user_space(place, false) },
    Kind { name: "fuse-direct", needs_root: true, make: |place| user_space(place, true) },
];

/// A place that exists.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its name, or its path.
    pub name: String,
    /// An existing directory on the file system to try.
    pub directory: PathBuf,
}

impl Place {
    /// A directory on any mounted file system.
    pub fn at(directory: &Path) -> Self {
        Self { name: directory.display().to_string(), directory: directory.to_path_buf() }
    }
}

/// What could not be made, and why.
pub type Missing = (String, String);

/// The names of all places.
pub fn names() -> Vec<&'static str> {
    KINDS.iter().map(|kind| kind.name).collect()
}

/// Makes the places with these names, and runs `body` while they are mounted. They go away when it
/// ends.
///
/// # Panics
/// If a device or a mount is refused even to root.
pub fn with_places<T: Send>(names: &[String], body: impl FnOnce(&[Place], &[Missing]) -> T + Send) -> T {
    let chosen = || KINDS.iter().filter(|kind| names.iter().any(|name| name == kind.name));
    if !is_root() {
        let (places, _servers, missing) = make_all(chosen(), None);
        return body(&places, &missing);
    }
    let mut result = None;
    in_mount_namespace(|root| {
        let _memory = MountedMemory::at(root);
        let (places, _servers, missing) = make_all(chosen(), Some(root));
        result = Some(body(&places, &missing));
    });
    result.expect("a result from the namespace")
}

fn make_all<'a>(kinds: impl Iterator<Item = &'a Kind>, root: Option<&Path>) -> (Vec<Place>, Vec<Mounted>, Vec<Missing>) {
    let (mut places, mut servers, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    for kind in kinds {
        let made = match root {
            None if kind.needs_root => Err(NEEDS_ROOT.to_owned()),
            None => (kind.make)(Path::new("")),
            Some(root) => {
                let place = root.join(kind.name);
                std::fs::create_dir(&place).expect("a directory");
                (kind.make)(&place)
            }
        };
        match made {
            Ok(Made { directory, server }) => {
                places.push(Place { name: kind.name.to_owned(), directory });
                servers.extend(server);
            }
            Err(why) => missing.push((kind.name.to_owned(), why)),
        }
    }
    (places, servers, missing)
}

fn disk(kind: &str, options: &[&str], sector_bytes: u32, place: &Path) -> Result<Made, String> {
    other_disk_with_blocks(kind, options, sector_bytes, place).map(Made::from).ok_or_else(|| format!("there is no mkfs.{kind}"))
}

fn overlay(place: &Path) -> Result<Made, String> {
    let at = place.join("overlay");
    mount_overlay(&disk("ext4", &["-b", "4096"], 512, place)?.directory, &at);
    Ok(at.into())
}

fn memory() -> Result<Made, String> {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { Ok(memory.to_path_buf().into()) } else { Err("there is no /dev/shm".into()) }
}

/// The fault file system without faults. With `direct`, every file in it bypasses the page cache,
/// however it was opened.
fn user_space(place: &Path, direct: bool) -> Result<Made, String> {
    if let Some(why) = faultfs::unavailable() {
        return Err(why.into());
    }
    let [at, backing] = ["mounted", "backing"].map(|name| place.join(name));
    for directory in [&at, &backing] {
        std::fs::create_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    }
    let server = Mounted::start(&at, &backing, direct).map_err(|error| format!("no file system in user space: {error}"))?;
    Ok(Made { directory: at, server: Some(server) })
}
