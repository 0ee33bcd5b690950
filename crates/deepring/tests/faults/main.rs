//! What the system refuses. Every refusal is a typed error that names call, path, position and
//! bytes done. The file is unchanged, or changed as far as the error says; nothing is left behind;
//! and the engine continues to work.
//!
//! Full, broken and read-only disks are loop devices in their own mount namespaces, which needs
//! root. Without root those tests are reported as skipped.

mod broken_disk;
mod full_disk;
#[path = "../harness/mod.rs"]
mod harness;
mod limits;
mod opening;
mod permissions;
mod room;

use deepring::{Engine, Error};
use harness::disk::{Loop, ext4_image, mount};
use harness::{assert_same, bytes};
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

/// Everything an error must say about a transfer.
#[track_caller]
fn check(error: &Error, code: &str, path: &Path, position: u64, requested: u64) {
    assert_eq!(error.code(), code, "{error}");
    assert_eq!(error.path(), Some(path), "{error}");
    assert_eq!((error.position(), error.requested()), (Some(position), requested), "{error}");
    assert!(error.to_string().contains(path.to_str().expect("a readable path")), "{error}");
}

/// The engine still works.
#[track_caller]
fn check_usable(engine: &Engine, directory: &Path) {
    let path = directory.join("usable");
    engine.write_file(&path, bytes(0, 5000, 77)).wait().result.expect("a write after a failure");
    let (buf, _) = engine.read_file(&path, vec![0; 5000]).wait().ok().expect("a read after a failure");
    assert_same(&buf, &bytes(0, 5000, 77), "after a failure");
    std::fs::remove_file(&path).expect("the file");
    let stats = engine.stats();
    assert_eq!((stats.queued, stats.in_flight, stats.in_flight_bytes), (0, 0, 0), "nothing is left in flight");
}

/// A disk of 16 MiB, mounted.
fn small_disk(place: &Path, options: &[&str]) -> PathBuf {
    let (image, at) = (place.join("image"), place.join("disk"));
    ext4_image(&image, 16 << 20, options);
    let device = Loop::attach(&image);
    mount(&device.path, &at, "ext4", 0, "");
    at
}
