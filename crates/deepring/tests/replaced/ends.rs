//! Replacements that end without a commit, and engines that end before them.

use super::harness::{assert_file, builders, bytes, directory, engines, eventually, within};
use super::{LIMIT, begin, names};
use deepring::{ErrorKind, ReplaceOptions};
use std::path::Path;
use std::time::Duration;

const NEW: ReplaceOptions = ReplaceOptions::new();

fn old_file(path: &Path) -> Vec<u8> {
    let old = bytes(0, 3000, 1);
    std::fs::write(path, &old).expect("the old file");
    old
}

#[test]
fn what_is_abandoned_or_dropped_leaves_nothing() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        let old = old_file(&path);
        let replacement = begin(&engine, &path, NEW.size(1 << 20));
        replacement.file().write_at(vec![7; 5000], 0).wait().result.expect("a write");
        replacement.abandon().wait().expect("the end");
        assert_eq!(names(place.path()), ["file"]);
        // With writes under way, whose memory comes back.
        let replacement = begin(&engine, &path, NEW);
        let writes: Vec<_> = (0..64u64).map(|index| replacement.file().write_at(vec![7; 1 << 20], index << 20)).collect();
        drop(replacement);
        for write in writes {
            assert_eq!(write.wait().buf.map(|buf| buf.len()), Some(1 << 20));
        }
        // Before it was made.
        for _ in 0..50 {
            drop(engine.replace(&path, NEW.size(1 << 20)));
        }
        std::thread::sleep(Duration::from_millis(5));
        // Or removed by somebody else.
        let replacement = begin(&engine, &path, NEW);
        names(place.path()).into_iter().filter(|name| name != "file").for_each(|name| drop(std::fs::remove_file(place.path().join(name))));
        replacement.abandon().wait().expect("the end");
        // Some of the dropped ones may not have begun: they will not.
        engine.close().wait().expect("the end");
        assert_eq!(names(place.path()), ["file"]);
        assert_file(&path, &old, "the old file");
    }
}

#[test]
fn a_dropped_commit_goes_on() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        old_file(&path);
        let replacement = begin(&engine, &path, NEW);
        replacement.file().write_at(bytes(0, 5000, 2), 0).wait().result.expect("a write");
        drop(replacement.commit());
        eventually(LIMIT, "the commit", || std::fs::read(&path).expect("the file") == bytes(0, 5000, 2));
        assert_eq!(names(place.path()), ["file"]);
    }
}

#[test]
fn the_drop_of_the_last_engine_waits_until_the_temporary_file_is_gone() {
    let place = directory();
    let path = place.path().join("file");
    for (round, builder) in builders().into_iter().cycle().take(20).enumerate() {
        let engine = builder.build().expect("an engine");
        let old = old_file(&path);
        let replacement = begin(&engine, &path, NEW);
        drop(replacement.file().write_at(vec![7; 1 << 20], 0));
        // Either can have the last.
        if round % 3 == 0 {
            drop((replacement, engine));
        } else {
            drop((engine, replacement));
        }
        assert_eq!(names(place.path()), ["file"]);
        assert_file(&path, &old, "the old file");
    }
}

#[test]
fn a_replacement_keeps_its_engine_until_it_has_ended() {
    const LEN: usize = 64 << 20;
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        let old = old_file(&path);
        let [committed, abandoned] = [(); 2].map(|()| begin(&engine, &path, NEW));
        drop(engine);
        within(LIMIT, "the end of both", move || {
            abandoned.abandon().wait().expect("the end");
            assert_file(committed.path(), &old, "the old file");
            let write = committed.file().write_at(bytes(0, LEN, 2), 0);
            // From now on only the commit has the engine, whose end would cancel the write.
            committed.commit().wait().expect("a commit");
            write.wait().result.expect("a write");
        });
        assert_file(&path, &bytes(0, LEN, 2), "the new file");
        assert_eq!(names(place.path()), ["file"]);
    }
}

#[test]
fn on_an_engine_that_is_closed_nothing_is_replaced_and_nothing_left() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        let old = old_file(&path);
        let [committed, abandoned, dropped] = [(); 3].map(|()| begin(&engine, &path, NEW));
        assert_eq!(names(place.path()).len(), 4);
        engine.close().wait().expect("the end");
        let error = committed.commit().wait().expect_err("it is closed");
        assert_eq!((error.kind(), error.path()), (ErrorKind::Closed, Some(path.as_path())));
        abandoned.abandon().wait().expect("the end");
        drop(dropped);
        assert_eq!(names(place.path()), ["file"]);
        assert_file(&path, &old, "the old file");
    }
}

#[test]
fn an_engine_that_is_closed_under_its_commits_leaves_the_old_file_or_the_new_one() {
    let place = directory();
    let path = place.path().join("file");
    let mut ended = [0, 0];
    for (round, builder) in builders().into_iter().cycle().take(40).enumerate() {
        let old = old_file(&path);
        let engine = builder.build().expect("an engine");
        let replacement = begin(&engine, &path, NEW);
        let write = replacement.file().write_at(bytes(0, 3 << 20, 2), 0);
        if round % 2 == 0 {
            write.wait().result.expect("a write");
        } else {
            drop(write);
        }
        let commit = replacement.commit();
        let closing = engine.close();
        let committed = commit.wait();
        closing.wait().expect("the end");
        assert_eq!(names(place.path()), ["file"]);
        match committed {
            Ok(()) if round % 2 == 0 => assert_file(&path, &bytes(0, 3 << 20, 2), "committed"),
            Ok(()) => {}
            Err(error) => {
                assert!([ErrorKind::Canceled, ErrorKind::Closed].contains(&error.kind()), "{error}");
                assert_file(&path, &old, "not committed");
                ended[1] += 1;
                continue;
            }
        }
        ended[0] += 1;
    }
    assert!(ended[1] > 0, "no commit was canceled, so this run proved nothing: {ended:?}");
}
