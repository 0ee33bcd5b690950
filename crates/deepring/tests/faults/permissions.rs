//! Files that the process has no permission for.

use super::{check, check_usable};
use crate::harness::child::{alone, become_nobody, directory_for_all};
use crate::harness::disk::as_root;
use crate::harness::{MODES, READ_WRITE, assert_file, assert_same, bytes, directory, engines};
use deepring::{Completed, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};

#[test]
fn a_file_without_permission_is_eacces_and_unchanged() {
    as_root(|| {
        alone(|| {
            let place = directory_for_all(0o755);
            let path = place.path().join("secret");
            std::fs::write(&path, b"secret").expect("the file");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("permissions");
            let plain = std::fs::File::open(&path).expect("the file");
            become_nobody();
            for engine in engines() {
                for options in [OpenOptions::new().read(true), OpenOptions::new().write(true), READ_WRITE.truncate(true)] {
                    let error = engine.open(&path, options).expect_err("another user's file");
                    assert_eq!((error.code(), error.syscall(), error.path()), ("EACCES".into(), "open", Some(path.as_path())));
                }
                let error = engine.open(place.path().join("new"), READ_WRITE).expect_err("another user's directory");
                assert_eq!(error.code(), "EACCES");
                check(&engine.read_file(&path, vec![0; 6]).wait().result.expect_err("refused"), "EACCES", &path, 0, 6);
                check(&engine.write_file(&path, vec![0; 6]).wait().result.expect_err("refused"), "EACCES", &path, 0, 6);
                let mut content = [0; 7];
                assert_eq!(plain.read_at(&mut content, 0).expect("the file"), 6);
                assert_eq!(&content[..6], b"secret");
            }
        });
    });
}

#[test]
fn a_write_only_file_can_be_written_at_any_position() {
    as_root(|| {
        alone(|| {
            let place = directory_for_all(0o755);
            let path = place.path().join("drop");
            std::fs::write(&path, bytes(0, 5000, 1)).expect("the file");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o222)).expect("permissions");
            let plain = std::fs::File::open(&path).expect("the file");
            become_nobody();
            let mut model = bytes(0, 5000, 1);
            for (salt, engine) in engines().into_iter().enumerate() {
                let file = engine.open(&path, OpenOptions::new().write(true)).expect("it can be written");
                for (position, len) in [(100, 200), (4096, 4096), (9001, 13)] {
                    let content = bytes(position, len, salt as u64);
                    file.write_at(content.clone(), position).wait().result.expect("it can be written at any position");
                    model.resize(model.len().max(position as usize + len), 0);
                    model[position as usize..position as usize + len].copy_from_slice(&content);
                    let mut found = vec![0; model.len() + 1];
                    let len = plain.read_at(&mut found, 0).expect("the file");
                    assert_same(&found[..len], &model, "written without reading");
                }
                let error = file.read_at(vec![0; 10], 0).wait().result.expect_err("it cannot be read");
                assert_eq!(error.code(), "EBADF");
            }
        });
    });
}

#[test]
fn a_file_opened_for_reading_cannot_be_changed() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        for direct in MODES {
            std::fs::write(&path, bytes(0, 5000, 1)).expect("the file");
            let file = engine.open(&path, OpenOptions::new().read(true).direct(direct)).expect("the file");
            for (position, len) in [(0, 4096), (100, 10), (4990, 20), (100_000, 1)] {
                let Completed { buf, result } = file.write_at(vec![9; len], position).wait();
                let error = result.expect_err("opened for reading");
                check(&error, "EBADF", &path, position, len as u64);
                assert_eq!((error.transferred(), buf), (0, Some(vec![9; len])));
                assert_file(&path, &bytes(0, 5000, 1), "a file opened for reading");
            }
            assert!(file.set_len(3).wait().is_err());
            assert_file(&path, &bytes(0, 5000, 1), "a file opened for reading");
            file.sync_all().wait().expect("reading handles can sync");
            check_usable(&engine, place.path());
        }
    }
}
