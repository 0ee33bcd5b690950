//! Several processes write records of one file.

use super::harness::{assert_same, bytes, directory, open, within};
use super::{finish, part, start};
use deepring::{BackendKind, Direct, Engine};
use std::collections::VecDeque;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(80);
const RECORD_BYTES: u64 = 1000;
const RECORDS: u64 = 1200;

/// Writes every `of`-th record from `first` on, 16 at a time.
fn write_records(path: &Path, first: u64, of: u64, direct: Direct, backend: BackendKind) {
    let engine = Engine::builder().backend(backend).build().expect("an engine");
    let file = open(&engine, path, direct);
    let mut ops = VecDeque::new();
    for index in (first..RECORDS).step_by(of as usize) {
        let position = index * RECORD_BYTES;
        ops.push_back(file.write_at(bytes(position, RECORD_BYTES as usize, 3), position));
        if ops.len() == 16 {
            ops.pop_front().expect("an operation").wait().result.expect("a write");
        }
    }
    for op in ops {
        assert_eq!(op.wait().result.expect("a write").bytes, RECORD_BYTES);
    }
    file.close().wait().expect("close");
}

/// A part reads `first of kind`.
fn play(part: &str, place: &str) {
    let words: Vec<_> = part.split(' ').collect();
    let (first, of) = (words[0].parse().expect("a number"), words[1].parse().expect("a number"));
    let (direct, backend) = match words[2] {
        "buffered" => (Direct::Never, BackendKind::Uring),
        "threads" => (Direct::Prefer, BackendKind::Threads),
        _ => (Direct::Prefer, BackendKind::Uring),
    };
    write_records(Path::new(place), first, of, direct, backend);
}

fn assert_nothing_is_lost(kinds: &[&str], grown: bool) {
    let place = directory();
    let path = place.path().join("file");
    std::fs::write(&path, vec![0; if grown { 0 } else { (RECORDS * RECORD_BYTES) as usize }]).expect("the file");
    let children = (0..).zip(kinds).map(|(index, kind)| start(&format!("{index} {} {kind}", kinds.len()), &path, Stdio::null()));
    finish(children.collect());
    let what = format!("{kinds:?}, grown {grown}");
    assert_same(&std::fs::read(&path).expect("the file"), &bytes(0, (RECORDS * RECORD_BYTES) as usize, 3), &what);
}

#[test]
fn disjoint_records_of_several_processes_all_arrive() {
    if let Some((part, place)) = part() {
        return play(&part, &place);
    }
    for kinds in [&["ring", "ring"][..], &["ring", "threads", "ring"], &["ring", "buffered"], &["buffered", "ring", "buffered", "ring"]] {
        assert_nothing_is_lost(kinds, false);
    }
}

#[test]
fn disjoint_records_of_several_processes_all_arrive_while_the_file_grows() {
    if let Some((part, place)) = part() {
        return play(&part, &place);
    }
    for kinds in [&["ring", "ring"][..], &["ring", "threads", "ring"], &["ring", "buffered"], &["buffered", "ring", "buffered", "ring"]] {
        assert_nothing_is_lost(kinds, true);
    }
}

#[test]
fn two_processes_that_extend_a_file_at_once_leave_the_bytes_and_the_length_of_both() {
    if let Some((part, place)) = part() {
        let engine = Engine::builder().build().expect("an engine");
        let file = open(&engine, Path::new(&place), Direct::Prefer);
        let (position, len) = if part == "first" { (0, 5000) } else { (5000, 2000) };
        file.write_at(bytes(position, len, 4), position).wait().result.expect("a write");
        return;
    }
    let place = directory();
    let path = place.path().join("file");
    for round in 0..40 {
        std::fs::write(&path, b"").expect("the file");
        finish(["first", "second"].map(|part| start(part, &path, Stdio::null())).into());
        assert_same(&std::fs::read(&path).expect("the file"), &bytes(0, 7000, 4), &format!("round {round}"));
    }
}

#[test]
fn a_process_that_always_extends_lets_another_in() {
    if let Some((_, place)) = part() {
        // Eight writers, so that some request always holds the end. Ends when it is told to.
        let engine = Engine::builder().build().expect("an engine");
        let file = open(&engine, Path::new(&place), Direct::Prefer);
        let stop = Path::new(&place).with_extension("stop");
        let mut ops = VecDeque::new();
        for index in 0..1_000_000u64 {
            let position = index * RECORD_BYTES;
            ops.push_back(file.write_at(bytes(position, RECORD_BYTES as usize, 5), position));
            if ops.len() == 8 {
                ops.pop_front().expect("an operation").wait().result.expect("a write");
            }
            if index % 64 == 0 && stop.exists() {
                break;
            }
        }
        for op in ops {
            assert_eq!(op.wait().result.expect("a write").bytes, RECORD_BYTES);
        }
        return;
    }
    let place = directory();
    let path = place.path().join("file");
    let stop = path.with_extension("stop");
    std::fs::write(&path, b"").expect("the file");
    let child = start("always", &path, Stdio::null());
    within(LIMIT, "writes beside a process that always extends", move || {
        let engine = Engine::builder().build().expect("an engine");
        let file = open(&engine, &path, Direct::Prefer);
        let far = 1 << 40;
        for index in 0..20 {
            let position = far + index * RECORD_BYTES;
            file.write_at(bytes(position, RECORD_BYTES as usize, 6), position).wait().result.expect("a write");
        }
    });
    std::fs::write(stop, b"").expect("the sign to stop");
    finish(vec![child]);
}
