//! The bytes, before and after.

use super::harness::{MODES, assert_file, assert_same, bytes, directory, engines, within};
use super::{LIMIT, begin, names, replace};
use deepring::{Engine, ReplaceOptions};
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

const NEW: ReplaceOptions = ReplaceOptions::new();

#[test]
fn a_file_is_replaced_by_exactly_the_bytes_that_were_written() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        for direct in MODES {
            for durable in [true, false] {
                for (old, len) in [(None, 0), (Some(5), 1), (Some(9000), 4096), (None, 10_001), (Some(4 << 20), (3 << 20) + 7)] {
                    for reserved in [0, len as u64] {
                        drop(std::fs::remove_file(&path));
                        if let Some(old) = old {
                            std::fs::write(&path, bytes(0, old, 1)).expect("the old file");
                        }
                        replace(&engine, &path, &bytes(0, len, 2), NEW.direct(direct).durable(durable).size(reserved));
                        assert_file(&path, &bytes(0, len, 2), &format!("{direct:?}, {old:?} replaced by {len}, {reserved} reserved"));
                        assert_eq!(names(place.path()), ["file"]);
                    }
                }
            }
        }
    }
}

#[test]
fn until_the_commit_the_old_file_is_there_and_an_open_one_stays_what_it_was() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        std::fs::write(&path, bytes(0, 5000, 1)).expect("the old file");
        let mut plain = std::fs::File::open(&path).expect("the old file");
        let open = engine.open(&path, deepring::OpenOptions::new().read(true)).expect("the old file");
        let replacement = begin(&engine, &path, NEW.size(70_000));
        assert_eq!((replacement.path(), replacement.file().path()), (&*path, &*path));
        assert_eq!(replacement.file().known_size(), 70_000);
        assert_eq!(names(place.path()).len(), 2);
        replacement.file().write_at(bytes(0, 70_000, 2), 0).wait().result.expect("a write");
        replacement.file().sync_all().wait().expect("a sync");
        assert_file(&path, &bytes(0, 5000, 1), "before the commit");
        // What was written can be read back before it counts.
        let (read, _) = replacement.file().read_exact_at(vec![0; 70_000], 0).wait().ok().expect("a read");
        assert_same(&read, &bytes(0, 70_000, 2), "the new file");
        replacement.commit().wait().expect("a commit");
        assert_file(&path, &bytes(0, 70_000, 2), "after the commit");
        let mut content = Vec::new();
        plain.read_to_end(&mut content).expect("the old file");
        assert_same(&content, &bytes(0, 5000, 1), "the old file that was open");
        let (read, receipt) = open.read_at(vec![0; 9000], 0).wait().ok().expect("a read");
        assert_eq!(receipt.bytes, 5000);
        assert_same(&read[..5000], &bytes(0, 5000, 1), "the old file that was open in the engine");
    }
}

#[test]
fn a_commit_covers_every_write_that_was_accepted_before() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        for durable in [true, false] {
            let replacement = begin(&engine, &path, NEW.durable(durable));
            let writes: Vec<_> =
                (0..64u64).map(|index| replacement.file().write_at(bytes(index * 70_001, 70_001, 3), index * 70_001)).collect();
            replacement.commit().wait().expect("a commit");
            assert_file(&path, &bytes(0, 64 * 70_001, 3), "after the commit");
            for write in writes {
                write.wait().result.expect("a write");
            }
        }
    }
}

#[test]
fn what_was_reserved_and_not_written_is_zeros_and_can_be_cut() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        replace(&engine, &path, &bytes(0, 5000, 2), NEW.size(9000));
        assert_file(&path, &[bytes(0, 5000, 2), vec![0; 4000]].concat(), "with what was reserved");
        let replacement = begin(&engine, &path, NEW.size(9000));
        replacement.file().write_at(bytes(0, 5000, 3), 0).wait().result.expect("a write");
        replacement.file().set_len(5000).wait().expect("a cut");
        replacement.commit().wait().expect("a commit");
        assert_file(&path, &bytes(0, 5000, 3), "cut");
    }
}

#[test]
fn of_two_that_replace_one_file_one_wins_whole() {
    const LEN: usize = 300_000;
    let place = directory();
    let path: Arc<PathBuf> = Arc::new(place.path().join("file"));
    for engine in engines() {
        let shared = Arc::clone(&path);
        within(LIMIT, "two writers", move || {
            let writers: Vec<_> = [1, 2]
                .map(|salt| {
                    let (engine, path): (Engine, _) = (engine.clone(), Arc::clone(&shared));
                    std::thread::spawn(move || {
                        for _ in 0..20 {
                            replace(&engine, &path, &bytes(0, LEN, salt), NEW.size(LEN as u64).durable(salt == 1));
                        }
                    })
                })
                .into();
            while writers.iter().any(|writer| !writer.is_finished()) {
                if let Ok(found) = std::fs::read(&**shared) {
                    assert!([1, 2].iter().any(|&salt| found == bytes(0, LEN, salt)), "{} bytes, a mixture", found.len());
                }
            }
            for writer in writers {
                writer.join().expect("a writer");
            }
        });
        assert_eq!(names(place.path()), ["file"]);
    }
}

#[test]
fn the_engine_s_other_users_read_the_new_file_through_a_new_open() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        for round in 0..30u64 {
            let len = 1 + (round * 977) as usize;
            replace(&engine, &path, &bytes(0, len, round), NEW.durable(false));
            let (read, _) = engine.read_file(&path, vec![0; len]).wait().ok().expect("the new file");
            assert_same(&read, &bytes(0, len, round), "by path");
            // And it grows and shrinks as any file, with its old numbers used again.
            engine.write_file(&path, bytes(0, len + 5, round)).wait().result.expect("a write");
            assert_file(&path, &bytes(0, len + 5, round), "written in place");
        }
    }
}
