//! Records what a commit really does, cuts the power after every call, and looks at each disk that can be left.
//!
//! What a cut leaves follows POSIX, which allows more than ext4 does: of what was not flushed, anything can be there and
//! anything can be missing (as in ALICE: Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014).
//!
//! * The bytes of a write, its space and its mode are safe once the file was flushed afterwards. Before that, each half of a
//!   write can be there or not.
//! * A name is safe once its directory was flushed afterwards. Before that, each change of a name can be there or not,
//!   whatever has become of the file.

use super::ReplaceOptions;
use crate::engine::Engine;
use crate::error::ErrorKind;
use crate::planted::{PlantedBug, plant};
use crate::sys::Errno;
use crate::sys::replace::{Calls, Kernel};
use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

const NAME: &str = "weights.bin";
const OLD_MODE: u32 = 0o640;

/// What was called.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Call {
    Create(u32),
    Allocate(usize),
    Write(usize, Vec<u8>),
    SetMode(u32),
    Sync,
    Rename,
    SyncDirectory,
    Remove,
    /// The caller was told that the new file is there for good.
    Acknowledge,
}

/// Makes the calls and records those that succeed. The one that is to fail does nothing.
#[derive(Debug)]
struct Recorder {
    log: Mutex<Vec<Call>>,
    fails: Option<(Call, Errno)>,
}

impl Recorder {
    fn new(fails: Option<(Call, Errno)>) -> &'static Self {
        Box::leak(Box::new(Self { log: Mutex::default(), fails }))
    }

    fn note(&self, call: Call) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }

    fn log(&self) -> Vec<Call> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn record<T>(&self, call: Call, make: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
        if let Some((failing, errno)) = &self.fails
            && *failing == call
        {
            return Err(*errno);
        }
        make().inspect(|_| self.note(call))
    }
}

impl Calls for Recorder {
    fn create(&self, directory: &OwnedFd, name: &CStr, mode: u32) -> Result<OwnedFd, Errno> {
        self.record(Call::Create(mode), || Kernel.create(directory, name, mode))
    }
    fn allocate(&self, file: &OwnedFd, bytes: u64) -> Result<(), Errno> {
        self.record(Call::Allocate(bytes as usize), || Kernel.allocate(file, bytes))
    }
    fn set_mode(&self, file: &OwnedFd, mode: u32) -> Result<(), Errno> {
        self.record(Call::SetMode(mode), || Kernel.set_mode(file, mode))
    }
    fn sync(&self, file: &OwnedFd) -> Result<(), Errno> {
        self.record(Call::Sync, || Kernel.sync(file))
    }
    fn rename(&self, directory: &OwnedFd, from: &CStr, to: &CStr, keep: bool) -> Result<(), Errno> {
        assert_eq!(to.to_bytes(), NAME.as_bytes());
        self.record(Call::Rename, || Kernel.rename(directory, from, to, keep))
    }
    fn sync_directory(&self, directory: &OwnedFd, file: &OwnedFd) -> Result<(), Errno> {
        self.record(Call::SyncDirectory, || Kernel.sync_directory(directory, file))
    }
    fn remove(&self, directory: &OwnedFd, name: &CStr) -> Result<(), Errno> {
        self.record(Call::Remove, || Kernel.remove(directory, name))
    }
}

/// A file: its bytes and its mode.
type Content = (Vec<u8>, u32);

fn old() -> Content {
    (b"the old weights".to_vec(), OLD_MODE)
}

fn new() -> Content {
    ((0..9000u32).map(|index| index as u8 | 1).collect(), OLD_MODE)
}

/// Replaces the old file by the new one in three writes, as the options say; if `early`, it is flushed before the commit.
fn replace(place: &Path, options: ReplaceOptions, early: bool, recorder: &'static Recorder) -> crate::error::Result<()> {
    let path = place.join(NAME);
    std::fs::write(&path, old().0).expect("the old file");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(OLD_MODE)).expect("its mode");
    let engine = Engine::builder().build().expect("an engine");
    let replacement = engine.replace_by(recorder, &path, options).wait()?;
    for (position, part) in (0..).step_by(3000).zip(new().0.chunks(3000)) {
        let (written, _) = replacement.file().write_at(part.to_vec(), position).wait().ok()?;
        recorder.note(Call::Write(position as usize, written));
    }
    if early {
        replacement.flush().wait()?;
    }
    replacement.commit().wait()?;
    if early || !options.sync_directory {
        engine.sync_directory_by(recorder, place).wait()?;
    }
    recorder.note(Call::Acknowledge);
    Ok(())
}

/// A change that a power cut can undo unless it was flushed.
enum Change<'a> {
    Bytes(usize, &'a [u8]),
    Length(usize),
    Mode(u32),
    /// The new file has the name.
    Name,
}

/// Tries every disk that a cut at any point of the record can leave. Returns how many there are, or what is wrong with one.
fn cut_everywhere(log: &[Call]) -> Result<usize, String> {
    let mut disks = 0;
    for end in 0..=log.len() {
        let (safe, loose, created) = split(&log[..end]);
        let acknowledged = log[..end].contains(&Call::Acknowledge);
        for kept in 0..1u32 << loose.len() {
            let kept = loose.iter().enumerate().filter(|(index, _)| kept >> index & 1 == 1).map(|(_, change)| change);
            let found = disk(created, safe.iter().chain(kept));
            disks += 1;
            if found != new() && (acknowledged || found != old()) {
                let what = if found == old() { "the old file" } else { "a mixture" };
                return Err(format!("{what} after {:?}", log[..end].last()));
            }
        }
    }
    Ok(disks)
}

/// What is safe, what is not, and the mode that the new file was made with.
fn split(log: &[Call]) -> (Vec<Change<'_>>, Vec<Change<'_>>, u32) {
    let (mut safe, mut loose, mut created) = (Vec::new(), Vec::new(), 0);
    for call in log {
        match call {
            Call::Create(mode) => created = *mode,
            Call::Allocate(bytes) => loose.push(Change::Length(*bytes)),
            Call::Write(position, bytes) => {
                let (first, second) = bytes.split_at(bytes.len() / 2);
                loose.extend([Change::Bytes(*position, first), Change::Bytes(position + first.len(), second)]);
            }
            Call::SetMode(mode) => loose.push(Change::Mode(*mode)),
            Call::Rename => loose.push(Change::Name),
            Call::Sync => safe.extend(loose.extract_if(.., |change| !matches!(change, Change::Name))),
            Call::SyncDirectory => safe.extend(loose.extract_if(.., |change| matches!(change, Change::Name))),
            Call::Remove | Call::Acknowledge => {}
        }
    }
    (safe, loose, created)
}

/// The file that has the name on a disk with these changes.
fn disk<'a>(created: u32, changes: impl Iterator<Item = &'a Change<'a>>) -> Content {
    let (mut bytes, mut mode, mut is_new) = (Vec::new(), created, false);
    for change in changes {
        match *change {
            Change::Length(len) => bytes.resize(bytes.len().max(len), 0),
            Change::Bytes(position, part) => {
                bytes.resize(bytes.len().max(position + part.len()), 0);
                bytes[position..position + part.len()].copy_from_slice(part);
            }
            Change::Mode(other) => mode = other,
            Change::Name => is_new = true,
        }
    }
    if is_new { (bytes, mode) } else { old() }
}

/// The record of a commit with this bug.
fn record(options: ReplaceOptions, bug: Option<PlantedBug>) -> Vec<Call> {
    plant(bug);
    let log = recorded(options, false);
    plant(None);
    log
}

fn recorded(options: ReplaceOptions, early: bool) -> Vec<Call> {
    let place = tempfile::tempdir().expect("a directory");
    let recorder = Recorder::new(None);
    let replaced = replace(place.path(), options, early, recorder);
    replaced.expect("a commit");
    assert_eq!(content(place.path()), new());
    recorder.log()
}

/// The file that has the name; nothing else may be there.
fn content(place: &Path) -> Content {
    let names: Vec<_> = std::fs::read_dir(place).expect("the directory").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(names, [NAME]);
    let path = place.join(NAME);
    let mode = std::fs::metadata(&path).expect("the file").permissions().mode() & 0o7777;
    (std::fs::read(path).expect("the file"), mode)
}

#[test]
fn a_power_cut_at_any_point_leaves_the_old_file_or_the_new_one() {
    let sized = ReplaceOptions::new().size(9000);
    for options in [ReplaceOptions::new(), sized, sized.sync_directory(false), sized.stamp(true)] {
        let log = record(options, None);
        assert_eq!(log.first(), Some(&Call::Create(0o600)), "no other user can read it while it is written");
        let disks = cut_everywhere(&log).unwrap_or_else(|what| panic!("{what}, with {options:?}"));
        assert!(disks > 200, "only {disks} disks with {options:?}");
    }
}

#[test]
fn every_planted_bug_of_a_commit_is_caught() {
    let found = |bug| cut_everywhere(&record(ReplaceOptions::new().size(9000), Some(bug))).expect_err("a bug");
    assert_eq!(found(PlantedBug::ForgetsFileSync), "a mixture after Some(Rename)");
    assert_eq!(found(PlantedBug::RenamesFirst), "a mixture after Some(Rename)");
    assert_eq!(found(PlantedBug::ForgetsDirectorySync), "the old file after Some(Acknowledge)");
}

#[test]
fn a_commit_that_is_not_durable_flushes_nothing_and_does_the_rest() {
    let log = record(ReplaceOptions::new().durable(false), None);
    assert!(!log.contains(&Call::Sync) && !log.contains(&Call::SyncDirectory), "it flushes");
    assert!(log.contains(&Call::SetMode(OLD_MODE)) && log.contains(&Call::Rename), "it leaves out more");
}

#[test]
fn a_file_that_was_flushed_before_gets_its_name_without_a_flush_and_is_as_safe() {
    let log = recorded(ReplaceOptions::new().size(9000).durable(false), true);
    let place = |call: &Call| log.iter().position(|other| other == call).expect("a call");
    assert!(place(&Call::SetMode(OLD_MODE)) < place(&Call::Sync) && place(&Call::Sync) < place(&Call::Rename), "{log:?}");
    assert_eq!(log.iter().filter(|call| matches!(call, Call::Sync)).count(), 1);
    cut_everywhere(&log).unwrap_or_else(|what| panic!("{what}"));
}

#[test]
fn a_flush_that_fails_leaves_the_old_file_alone() {
    let place = tempfile::tempdir().expect("a directory");
    let recorder = Recorder::new(Some((Call::Sync, libc::EIO)));
    let error = replace(place.path(), ReplaceOptions::new().durable(false), true, recorder).expect_err("the flush fails");
    assert_eq!((error.kind(), error.syscall(), error.path()), (ErrorKind::Os(libc::EIO), "fsync", Some(&*place.path().join(NAME))));
    // The replacement was dropped with its engine, which waits for the removal.
    assert_eq!(content(place.path()), old());
}

#[test]
fn a_step_that_fails_before_the_rename_leaves_the_old_file_alone() {
    let steps = [
        (Call::Create(0o600), libc::ENOSPC, "open"),
        (Call::Allocate(9000), libc::EDQUOT, "fallocate"),
        (Call::SetMode(OLD_MODE), libc::EPERM, "fchmod"),
        (Call::Sync, libc::EIO, "fsync"),
        (Call::Rename, libc::EIO, "rename"),
    ];
    for (step, errno, name) in steps {
        let place = tempfile::tempdir().expect("a directory");
        let recorder = Recorder::new(Some((step.clone(), errno)));
        let error = replace(place.path(), ReplaceOptions::new().size(9000), false, recorder).expect_err("a step fails");
        assert_eq!((error.kind(), error.syscall()), (ErrorKind::Os(errno), name), "{error}");
        assert_eq!(error.path(), Some(&*place.path().join(NAME)));
        assert_eq!(content(place.path()), old(), "after {step:?} failed");
        assert!(cut_everywhere(&recorder.log()).is_ok());
    }
}

#[test]
fn a_commit_whose_last_step_fails_is_uncertain_and_the_new_file_is_there() {
    let place = tempfile::tempdir().expect("a directory");
    let recorder = Recorder::new(Some((Call::SyncDirectory, libc::EIO)));
    let error = replace(place.path(), ReplaceOptions::new(), false, recorder).expect_err("the last step fails");
    assert_eq!((error.kind(), error.code().as_str()), (ErrorKind::Uncertain(libc::EIO), "ERR_DEEPRING_UNCERTAIN"));
    assert_eq!((error.errno(), error.syscall()), (Some(libc::EIO), "fsync"));
    assert_eq!(content(place.path()), new());
}

#[test]
fn a_file_system_that_cannot_reserve_gets_the_length_alone() {
    let place = tempfile::tempdir().expect("a directory");
    let recorder = Recorder::new(Some((Call::Allocate(9000), libc::EOPNOTSUPP)));
    let engine = Engine::builder().build().expect("an engine");
    let path = place.path().join(NAME);
    let replacement = engine.replace_by(recorder, &path, ReplaceOptions::new().size(9000)).wait().expect("a temporary file");
    assert_eq!((replacement.file().known_size(), replacement.file().stat().wait().expect("stat").size), (9000, 9000));
    replacement.file().write_at(new().0, 0).wait().ok().expect("a write");
    replacement.commit().wait().expect("a commit");
    assert_eq!(content(place.path()).0, new().0);
}
