//! Several processes replace one file, and are killed meanwhile.

use super::harness::{Rng, bytes, directory, say};
use super::{part, start};
use deepring::{BackendKind, Engine, ReplaceOptions};
use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

const LEN: usize = 200_000;

/// Replaces the file for ever.
fn play(part: &str, path: &Path) {
    let backend = if part == "threads" { BackendKind::Threads } else { BackendKind::Uring };
    let engine = Engine::builder().backend(backend).build().expect("an engine");
    for salt in (0..200).cycle() {
        let options = ReplaceOptions::new().size(LEN as u64).durable(salt % 2 == 0);
        let replacement = engine.replace(path, options).wait().expect("a temporary file");
        replacement.file().write_at(bytes(0, LEN, salt), 0).wait().result.expect("a write");
        replacement.commit().wait().expect("a commit");
    }
}

/// The file must be one of those that were written.
fn assert_whole(path: &Path, known: &[Vec<u8>]) {
    let found = std::fs::read(path).expect("the file");
    assert!(known.contains(&found), "{} bytes, a mixture", found.len());
}

/// The temporary files.
fn left(directory: &Path) -> Vec<OsString> {
    let entries = std::fs::read_dir(directory).expect("the directory").map(|entry| entry.expect("an entry").file_name());
    entries.filter(|name| name != "file").collect()
}

#[test]
fn processes_that_replace_one_file_and_are_killed_leave_it_whole_and_a_temporary_file_each() {
    if let Some((part, place)) = part() {
        return play(&part, Path::new(&place));
    }
    let place = directory();
    let path = place.path().join("file");
    let known: Vec<_> = (0..200).map(|salt| bytes(0, LEN, salt)).collect();
    std::fs::write(&path, &known[0]).expect("the old file");
    let mut rng = Rng::new();
    let mut interrupted = 0;
    for _ in 0..20 {
        let mut children: Vec<Child> = ["ring", "threads"].map(|part| start(part, &path, Stdio::null())).into();
        for _ in 0..20 {
            std::thread::sleep(Duration::from_micros(5000 + rng.below(10_000)));
            assert_whole(&path, &known);
        }
        for child in &mut children {
            child.kill().expect("a child that runs");
            child.wait().expect("its end");
        }
        assert_whole(&path, &known);
        let left = left(place.path());
        assert!(left.len() <= children.len(), "{left:?}");
        for name in left {
            let owners = children.iter().map(|child| format!(".file.{}-", child.id()));
            let text = name.to_str().expect("a name").strip_suffix(".tmp").expect("a temporary file");
            assert!(owners.into_iter().any(|owner| text.starts_with(&owner)), "{text}");
            std::fs::remove_file(place.path().join(name)).expect("a temporary file");
            interrupted += 1;
        }
    }
    say(&format!("{interrupted} commits were interrupted"));
    assert!(interrupted > 0, "no kill hit a commit, so this run proved nothing");
}
