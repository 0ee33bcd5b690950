//! Several uploads and downloads at once.

use super::object_store::ObjectStore;
use super::{RemoteError, at, get, objects, put, sent, watched};
use crate::generations::{Local, assert_same_generation, engine};
use deepring_tensors::Error;
use pollster::block_on;
use std::sync::Arc;

#[test]
fn uploads_of_the_same_generation_at_once_all_end_well() {
    let engine = engine();
    let (from, copied) = (Local::small(&engine, 1), Local::new(&engine));
    from.generation(1).copy_to(copied.place.path(), None).wait().expect("copied");
    for pauses in [0, 1, 2, 5, 9] {
        let (remote, store) = watched();
        store.pauses(pauses);
        let (first, second) = (from.generation(1), copied.generation(1));
        let (one, other, third) =
            block_on(async { futures_util::join!(remote.upload(&first), remote.upload(&second), remote.upload(&first)) });
        for transfer in [one, other, third] {
            let transfer = transfer.expect("sent");
            assert!(transfer.complete || transfer.moved + transfer.found == transfer.bytes);
        }
        let to = Local::new(&engine);
        block_on(remote.download(&to.store, 1)).expect("fetched");
        assert_same_generation(&to, &from, 1);
        assert_eq!(objects(&*store, 1).len(), from.files(1).len() + 1);
    }
}

#[test]
fn of_two_generations_of_one_number_one_wins_and_nothing_of_the_other_is_there() {
    let engine = engine();
    let (from, other) = (Local::small(&engine, 1), Local::small(&engine, 2));
    for pauses in 0..8 {
        let (remote, store) = watched();
        store.pauses(pauses);
        let (first, second) = (from.generation(1), other.generation(1));
        let (one, two) = block_on(async { futures_util::join!(remote.upload(&first), remote.upload(&second)) });
        assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
        let (winner, lost) = if one.is_ok() { (&from, two) } else { (&other, one) };
        assert!(matches!(lost, Err(RemoteError::Exists { generation: 1, .. })), "{lost:?}");
        for (name, bytes) in winner.files(1) {
            assert!(get(&*store, &at(1, &name)) == bytes, "{name}");
        }
        let to = Local::new(&engine);
        block_on(remote.download(&to.store, 1)).expect("fetched");
        assert_same_generation(&to, winner, 1);
    }
}

#[test]
fn a_number_that_was_begun_by_another_upload_is_refused_and_left_alone() {
    let engine = engine();
    let (from, other) = (Local::small(&engine, 1), Local::small(&engine, 2));
    let (remote, store) = watched();
    // One part after the other, so that a number says which call it is.
    let remote = remote.parts_in_flight(1);
    store.fail(Some((12, super::watched::Fails::Before)));
    block_on(remote.upload(&from.generation(1))).expect_err("a call fails");
    store.fail(None);
    let before = objects(&*store, 1);
    assert!(before.len() > 1 && !before.contains(&"manifest.json".into()), "{before:?}");
    let error = block_on(remote.upload(&other.generation(1))).expect_err("it is claimed");
    assert!(matches!(&error, RemoteError::Exists { path, .. } if *path == at(1, "upload.json")), "{error}");
    assert_eq!(objects(&*store, 1), before);
    block_on(remote.upload(&from.generation(1))).expect("it goes on");
    // A manifest that was put by something else is left alone, too.
    let (remote, store) = watched();
    for text in [b"{}".to_vec(), vec![b'x'; 20 << 20]] {
        put(&*store, &at(1, "manifest.json"), text.clone());
        let error = block_on(remote.upload(&from.generation(1))).expect_err("it is there");
        assert!(matches!(&error, RemoteError::Exists { path, .. } if *path == at(1, "manifest.json")), "{error}");
        assert!(get(&*store, &at(1, "manifest.json")) == text && objects(&*store, 1).len() == 1);
    }
}

#[test]
fn a_manifest_that_another_puts_in_the_last_moment_is_the_one_that_counts() {
    let engine = engine();
    let (from, other) = (Local::small(&engine, 1), Local::small(&engine, 2));
    for is_same in [true, false] {
        let (remote, store) = watched();
        let manifest = if is_same { &from } else { &other }.files(1)["manifest.json"].clone();
        let (of, path) = (Arc::clone(store.inner()), at(1, "manifest.json"));
        let text = manifest.clone();
        store.hook(move |_, call| {
            if call == format!("create {path}") {
                put(&*of, &path, text.clone());
            }
        });
        let result = block_on(remote.upload(&from.generation(1)));
        match result {
            Ok(transfer) => assert!(is_same && transfer.moved == transfer.bytes),
            Err(error) => assert!(!is_same && matches!(error, RemoteError::Exists { .. }), "{error}"),
        }
        assert!(get(&*store as &dyn ObjectStore, &at(1, "manifest.json")) == manifest);
    }
}

#[test]
fn of_two_downloads_into_one_store_one_arrives_and_the_other_is_refused_or_finds_it() {
    let engine = engine();
    let from = Local::small(&engine, 1);
    for pauses in [0, 1, 4] {
        let (remote, store) = watched();
        sent(&remote, &from);
        store.pauses(pauses);
        let to = Local::new(&engine);
        let (one, two) = block_on(async { futures_util::join!(remote.download(&to.store, 1), remote.download(&to.store, 1)) });
        let mut ended = 0;
        for result in [one, two] {
            match result {
                Ok(_) => ended += 1,
                Err(RemoteError::Checkpoint(Error::Conflict { detail, .. })) => assert_eq!(detail, "it is arriving already"),
                Err(error) => panic!("{error}"),
            }
        }
        assert!(ended > 0);
        assert_same_generation(&to, &from, 1);
        assert_eq!(to.names(), [".lock", "000000000001"]);
    }
}
