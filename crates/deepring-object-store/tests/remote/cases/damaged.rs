//! Objects that are not what was sent, and generations that are not what was saved.

use super::object_store::ObjectStore;
use super::watched::Answers;
use super::{RemoteCheckpoints, RemoteError, at, download, get, objects, put, sent, watched};
use crate::generations::{Local, assert_same_generation, engine};
use deepring_tensors::{Error, Reason};
use futures_util::TryStreamExt;
use pollster::block_on;

/// Changes an object, and puts it back after a download that must fail.
fn refused(remote: &RemoteCheckpoints, store: &dyn ObjectStore, to: &Local, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> RemoteError {
    let intact = get(store, &at(1, name));
    let mut changed = intact.clone();
    change(&mut changed);
    put(store, &at(1, name), changed);
    let error = download(remote, to, 1).expect_err("it is damaged");
    assert!(to.numbers().is_empty(), "{error}");
    put(store, &at(1, name), intact);
    error
}

#[test]
fn every_damaged_byte_is_found_and_named() {
    let engine = engine();
    let from = Local::small(&engine, 1);
    let (remote, store) = watched();
    sent(&remote, &from);
    for (name, bytes) in from.files(1).into_iter().filter(|(name, _)| name.ends_with(".safetensors")) {
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("a length"));
        let len = bytes.len() as u64;
        let to = Local::new(&engine);
        for at in [header, header + 1, u64::midpoint(header, len), len - 1] {
            let error = refused(&remote, &*store, &to, &name, |bytes| bytes[at as usize] ^= 0x40);
            let RemoteError::Checkpoint(Error::Checksum { tensor, path, position, .. }) = &error else { panic!("{error}") };
            assert!(path.ends_with(format!("runs/1/000000000001/{name}")), "{error}");
            assert!((*position..*position + (1 << 20)).contains(&at), "{error}, and byte {at} is damaged");
            assert_eq!(*tensor == "whole", len > 3 << 20, "{error}");
        }
        for at in [0, 7, 8, 20, header - 1] {
            let error = refused(&remote, &*store, &to, &name, |bytes| bytes[at as usize] ^= 0x40);
            assert!(matches!(error, RemoteError::Checkpoint(Error::Format { .. })), "byte {at}: {error}");
        }
        download(&remote, &to, 1).expect("it is as it was");
        assert_same_generation(&to, &from, 1);
    }
}

#[test]
fn damaged_tables_are_found() {
    let engine = engine();
    let from = Local::small(&engine, 1);
    let (remote, store) = watched();
    sent(&remote, &from);
    let to = Local::new(&engine);
    for name in ["manifest.json", "part-00000.json"] {
        let len = get(&*store, &at(1, name)).len();
        for at in [0, len / 2, len - 2] {
            let error = refused(&remote, &*store, &to, name, |bytes| bytes[at] ^= 1);
            let RemoteError::Checkpoint(Error::Format { reason: Reason::Manifest | Reason::Part | Reason::Identity, .. }) = error else {
                panic!("byte {at} of {name}: {error}")
            };
        }
    }
    let error = refused(&remote, &*store, &to, "manifest.json", Vec::clear);
    assert!(matches!(error, RemoteError::Checkpoint(Error::Format { reason: Reason::Manifest, .. })), "{error}");
    let error = refused(&remote, &*store, &to, "manifest.json", |bytes| *bytes = vec![b' '; 30 << 20]);
    assert!(matches!(error, RemoteError::Length { .. }), "{error}");
    for change in [|bytes: &mut Vec<u8>| bytes.truncate(9), |bytes: &mut Vec<u8>| bytes.push(b'\n')] {
        let error = refused(&remote, &*store, &to, "part-00000.json", change);
        let is_found = matches!(error, RemoteError::Length { .. } | RemoteError::Checkpoint(Error::Format { reason: Reason::Part, .. }));
        assert!(is_found, "{error}");
    }
    assert_eq!(to.names(), [""; 0], "nothing has begun to arrive");
}

#[test]
fn the_index_follows_from_the_headers() {
    let engine = engine();
    let (from, to) = (Local::small(&engine, 1), Local::new(&engine));
    let (remote, store) = watched();
    sent(&remote, &from);
    put(&*store, &at(1, "model.safetensors.index.json"), b"{\"weight_map\":{\"whole\":\"../other\"}}".to_vec());
    block_on(remote.download(&to.store, 1)).expect("fetched");
    assert_same_generation(&to, &from, 1);
}

#[test]
fn an_object_of_another_length_is_found_before_its_bytes_come() {
    let engine = engine();
    let from = Local::small(&engine, 1);
    let (remote, store) = watched();
    sent(&remote, &from);
    let to = Local::new(&engine);
    for name in from.files(1).into_keys().filter(|name| name.ends_with(".safetensors")) {
        let len = get(&*store, &at(1, &name)).len() as u64;
        for actual in [0, 1, len - 1, len + 1, 2 * len] {
            let error = refused(&remote, &*store, &to, &name, |bytes| bytes.resize(actual as usize, 7));
            let RemoteError::Length { path, expected, actual: found } = &error else { panic!("{actual} bytes: {error}") };
            assert_eq!((path, *expected, *found), (&at(1, &name), len, actual));
        }
    }
}

#[test]
fn a_missing_object_is_named() {
    let engine = engine();
    let from = Local::small(&engine, 1);
    let (remote, store) = watched();
    sent(&remote, &from);
    for name in objects(&*store, 1).into_iter().filter(|name| name != "upload.json" && !name.contains("index")) {
        let to = Local::new(&engine);
        let intact = get(&*store, &at(1, &name));
        let paths = futures_util::stream::iter([Ok(at(1, &name))]);
        block_on(store.delete_stream(Box::pin(paths)).try_collect::<Vec<_>>()).expect("deleted");
        match block_on(remote.download(&to.store, 1)).expect_err("it is missing") {
            RemoteError::Missing { path } => assert_eq!(path, at(1, &name)),
            RemoteError::NoGeneration { generation: Some(1), .. } => assert_eq!(name, "manifest.json"),
            error => panic!("{error}"),
        }
        assert!(to.numbers().is_empty());
        put(&*store, &at(1, &name), intact);
    }
}

#[test]
fn a_file_of_another_generation_is_not_taken_for_it() {
    let engine = engine();
    let (from, other, to) = (Local::small(&engine, 1), Local::small(&engine, 2), Local::new(&engine));
    let (remote, store) = watched();
    sent(&remote, &from);
    for (name, bytes) in other.files(1).into_iter().filter(|(name, _)| !name.contains("index") && name != "manifest.json") {
        let error = refused(&remote, &*store, &to, &name, |found| *found = bytes);
        let is_found = matches!(&error, RemoteError::Checkpoint(Error::Format { reason: Reason::Identity, .. }));
        assert!(is_found, "{name}: {error}");
    }
    // A whole other generation, under the number of this one: it is what its manifest says.
    for (name, bytes) in other.files(1) {
        put(&*store, &at(1, &name), bytes);
    }
    block_on(remote.download(&to.store, 1)).expect("fetched");
    assert_same_generation(&to, &other, 1);
}

#[test]
fn an_object_that_is_replaced_while_it_is_fetched_is_found() {
    let engine = engine();
    let from = Local::small(&engine, 1);
    let (remote, store) = watched();
    sent(&remote, &from);
    let files = from.files(1);
    let (name, bytes) = files.iter().max_by_key(|(_, bytes)| bytes.len()).expect("files");
    let path = at(1, name);
    store.calls();
    let whole = Local::new(&engine);
    block_on(remote.download(&whole.store, 1)).expect("fetched");
    let gets = store.calls().iter().filter(|call| **call == format!("get {path}")).count();
    assert!(gets > 2, "{gets}");
    for number in 1..gets {
        for is_removed in [false, true] {
            let (remote, store) = watched();
            sent(&remote, &from);
            let (of, place, bytes) = (std::sync::Arc::clone(store.inner()), path.clone(), bytes.clone());
            store.before(format!("get {path}"), number, move || {
                if is_removed {
                    let paths = futures_util::stream::iter([Ok(place.clone())]);
                    block_on(of.delete_stream(Box::pin(paths)).try_collect::<Vec<_>>()).expect("deleted");
                } else {
                    put(&*of, &place, bytes.clone());
                }
            });
            let to = Local::new(&engine);
            let error = block_on(remote.download(&to.store, 1)).expect_err("it has changed");
            assert!(matches!(&error, RemoteError::Changed { .. }), "{error}");
            assert!(to.numbers().is_empty());
        }
    }
}

#[test]
fn a_generation_that_is_damaged_here_is_never_shown_there() {
    let engine = engine();
    for (nth, place) in [-1i64, -70_000, 4096].into_iter().enumerate() {
        let from = Local::small(&engine, 1);
        let checkpoint = from.generation(1);
        let directory = from.place.path().join("000000000001");
        let files = from.files(1);
        let (name, bytes) = files.iter().max_by_key(|(_, bytes)| bytes.len()).expect("files");
        let mut changed = bytes.clone();
        let at = if place < 0 { bytes.len() - (-place) as usize } else { bytes.len() - (3 << 20) + place as usize };
        changed[at] ^= 1;
        std::fs::write(directory.join(name), changed).expect("a file");
        let (remote, store) = watched();
        let error = block_on(remote.upload(&checkpoint)).expect_err("it is damaged");
        let RemoteError::Checkpoint(Error::Checksum { tensor, path, .. }) = &error else { panic!("{nth}: {error}") };
        assert_eq!((tensor.as_str(), path), ("whole", &directory.join(name)));
        assert!(!objects(&*store, 1).contains(name), "neither is its file");
        assert!(block_on(remote.list()).expect("a list").is_empty());
    }
    let from = Local::small(&engine, 1);
    let checkpoint = from.generation(1);
    for (name, bytes) in from.files(1).into_iter().filter(|(name, _)| name.ends_with(".safetensors")) {
        std::fs::write(from.place.path().join("000000000001").join(name), &bytes[..bytes.len() - 1]).expect("a file");
    }
    let (remote, store) = watched();
    block_on(remote.upload(&checkpoint)).expect_err("it is short");
    assert_eq!(objects(&*store, 1), ["upload.json"]);
}

#[test]
fn an_answer_that_is_too_short_or_too_long_or_of_other_bytes_is_found() {
    let engine = engine();
    let from = Local::small(&engine, 1);
    let (remote, store) = watched();
    sent(&remote, &from);
    let to = Local::new(&engine);
    for answers in [Answers::Short, Answers::Long, Answers::Shifted] {
        store.answers(answers);
        let error = download(&remote, &to, 1).expect_err("it is wrong");
        match &error {
            RemoteError::Length { expected, actual, .. } => assert_eq!(answers == Answers::Short, actual < expected, "{error}"),
            RemoteError::Range { expected, actual, .. } => assert_eq!((answers, actual.start), (Answers::Shifted, expected.start + 1)),
            _ => panic!("{error}"),
        }
        assert!(to.numbers().is_empty());
    }
    store.answers(Answers::Crumbs);
    download(&remote, &to, 1).expect("it comes in crumbs");
    assert_same_generation(&to, &from, 1);
}

#[test]
fn a_store_without_versions_is_compared_by_length_and_checksums() {
    let engine = engine();
    let from = Local::small(&engine, 1);
    for answers in [Answers::Untagged, Answers::Weak] {
        let (remote, store) = watched();
        store.answers(answers);
        sent(&remote, &from);
        let to = Local::new(&engine);
        download(&remote, &to, 1).expect("fetched");
        assert_same_generation(&to, &from, 1);
        // Another object, while this one is fetched.
        let files = from.files(1);
        let (name, bytes) = files.iter().max_by_key(|(_, bytes)| bytes.len()).expect("files");
        for change in [|bytes: &mut Vec<u8>| bytes.push(0), |bytes: &mut Vec<u8>| bytes.iter_mut().for_each(|byte| *byte ^= 1)] {
            let (path, mut changed) = (at(1, name), bytes.clone());
            change(&mut changed);
            let of = std::sync::Arc::clone(store.inner());
            store.before(format!("get {path}"), 1, move || put(&*of, &path, changed.clone()));
            let to = Local::new(&engine);
            let error = download(&remote, &to, 1).expect_err("it has changed");
            let is_found = matches!(&error, RemoteError::Changed { .. } | RemoteError::Checkpoint(Error::Checksum { .. }));
            assert!(is_found && to.numbers().is_empty(), "{error}");
            store.hook(|_, _| ());
            put(&**store.inner(), &at(1, name), bytes.clone());
        }
    }
}
