//! To an object store and back.

use super::object_store::local::LocalFileSystem;
use super::object_store::memory::InMemory;
use super::object_store::throttle::{ThrottleConfig, ThrottledStore};
use super::object_store::{ObjectStore, PutMode};
use super::{PREFIX, RemoteCheckpoints, RemoteError, at, get, objects, put, remote, sent, watched};
use crate::generations::{Local, assert_same_generation, engine};
use crate::harness::{directory, engines};
use deepring_object_store::{DeepringStore, Durability};
use deepring_tensors::Error;
use deepring_tensors::checkpoint::{Check, CheckpointOptions};
use futures_util::TryStreamExt;
use pollster::block_on;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Two generations go there and come back, on a machine that has neither.
async fn there_and_back(from: &Local, to: &Local, store: Arc<dyn ObjectStore>) {
    let remote = remote(store);
    assert_eq!((remote.list().await.expect("a list"), remote.latest().await.expect("none")), (Vec::<u64>::new(), None));
    for number in [2, 1] {
        let checkpoint = from.generation(number);
        let transfer = remote.upload(&checkpoint).await.expect("sent");
        let bytes: u64 = checkpoint.listing().await.expect("a listing").bytes();
        assert_eq!((transfer.generation, transfer.bytes, transfer.moved, transfer.found), (number, bytes, bytes, 0));
        assert!(transfer.files > 3 && !transfer.complete);
    }
    assert_eq!((remote.list().await.expect("a list"), remote.latest().await.expect("the newest")), (vec![1, 2], Some(2)));
    let transfer = remote.download_latest(&to.store).await.expect("fetched");
    assert_eq!((transfer.generation, transfer.moved, transfer.found), (2, transfer.bytes, 0));
    remote.download(&to.store, 1).await.expect("fetched");
    assert_eq!(to.numbers(), [1, 2]);
}

#[test]
fn generations_of_several_writers_come_back_from_every_store_as_they_were() {
    for engine in engines() {
        let (from, [place, other]) = (Local::several(&engine), [directory(), directory()]);
        let stores: [Arc<dyn ObjectStore>; 3] = [
            Arc::new(InMemory::new()),
            Arc::new(LocalFileSystem::new_with_prefix(place.path()).expect("a store")),
            Arc::new(DeepringStore::builder(&engine).prefix(other.path()).durability(Durability::Cached).build().expect("a store")),
        ];
        for store in stores {
            let to = Local::new(&engine);
            block_on(there_and_back(&from, &to, store));
            for number in [1, 2] {
                assert_same_generation(&to, &from, number);
            }
            assert_eq!(to.names(), [".lock", "000000000001", "000000000002"]);
        }
    }
}

#[test]
fn a_store_that_answers_late_changes_nothing() {
    let engine = engine();
    let (from, to) = (Local::several(&engine), Local::new(&engine));
    let late = Duration::from_millis(1);
    let config = ThrottleConfig { wait_get_per_call: late, wait_put_per_call: late, wait_list_per_call: late, ..ThrottleConfig::default() };
    let store = Arc::new(ThrottledStore::new(InMemory::new(), config));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(there_and_back(&from, &to, store));
    assert_same_generation(&to, &from, 2);
}

#[test]
fn an_upload_puts_its_claim_first_and_the_manifest_last() {
    let engine = engine();
    let local = Local::several(&engine);
    let (remote, store) = watched();
    block_on(remote.upload(&local.generation(1))).expect("sent");
    let calls = store.calls();
    let written: Vec<&str> =
        calls.iter().filter(|call| !call.starts_with("get") && !call.starts_with("head")).map(String::as_str).collect();
    let (claim, manifest) = (format!("create {}", at(1, "upload.json")), format!("create {}", at(1, "manifest.json")));
    assert_eq!((written[0], written[1]), (&*claim, &*claim), "the second one must be refused");
    assert_eq!(written.last(), Some(&&*manifest));
    let is_table = |call: &&str| !call.ends_with(".safetensors");
    let (data, tables) = written[2..].split_at(written[2..].iter().position(is_table).expect("tables"));
    assert!(data.iter().all(|call| call.ends_with(".safetensors")) && data.len() > 8, "{written:?}");
    assert!(tables.iter().all(is_table), "data is sent after a table: {written:?}");
    assert_eq!(calls.iter().filter(|call| call.starts_with("create")).count(), 3);
    let mut names: Vec<String> = local.files(1).into_keys().chain(["upload.json".into()]).collect();
    names.sort_unstable();
    assert_eq!(objects(&*store, 1), names);
    for (name, bytes) in local.files(1) {
        assert!(get(&*store, &at(1, &name)) == bytes, "{name}");
    }
}

#[test]
fn what_is_there_is_not_moved_again() {
    let engine = engine();
    let (from, to) = (Local::small(&engine, 1), Local::new(&engine));
    let (remote, store) = watched();
    sent(&remote, &from);
    store.calls();
    let again = block_on(remote.upload(&from.generation(1))).expect("it is there");
    assert_eq!((again.complete, again.moved, again.found), (true, 0, 0));
    assert_eq!(store.calls(), [format!("get {}", at(1, "manifest.json"))]);
    block_on(remote.download(&to.store, 1)).expect("fetched");
    store.calls();
    let again = block_on(remote.download(&to.store, 1)).expect("it is here");
    assert_eq!((again.complete, again.moved, again.found), (true, 0, 0));
    assert!(store.calls().iter().all(|call| !call.ends_with(".safetensors")));
    // The copy is as good: it can go on from here.
    let further = Local::new(&engine);
    let (other, _) = watched();
    block_on(other.upload(&to.generation(1))).expect("sent");
    block_on(other.download(&further.store, 1)).expect("fetched");
    assert_same_generation(&further, &from, 1);
}

#[test]
fn a_number_that_is_another_generations_here_is_refused_and_left_alone() {
    let engine = engine();
    let (from, to) = (Local::small(&engine, 1), Local::small(&engine, 2));
    let (remote, _store) = watched();
    sent(&remote, &from);
    let before = to.files(1);
    let error = block_on(remote.download(&to.store, 1)).expect_err("another one");
    assert!(matches!(&error, RemoteError::Checkpoint(Error::Conflict { generation: 1, .. })), "{error}");
    assert_eq!((to.files(1) == before, to.names().len()), (true, 2));
}

#[test]
fn numbers_go_on_after_one_that_came() {
    let engine = engine();
    let (from, to) = (Local::several(&engine), Local::new(&engine));
    let (remote, _store) = watched();
    block_on(remote.upload(&from.generation(2))).expect("sent");
    block_on(remote.download(&to.store, 2)).expect("fetched");
    let empty: Vec<deepring_tensors::Source<Vec<u8>>> = Vec::new();
    let next = to.store.save(empty, CheckpointOptions::new()).wait().expect("saved").commit().wait().expect("committed");
    assert_eq!((next.number, to.numbers()), (3, vec![2, 3]));
    let latest = to.store.latest(Check::All).wait().expect("the newest");
    assert_eq!((latest.checkpoint.expect("one").number(), latest.skipped.len()), (3, 0));
}

#[test]
fn a_generation_without_tensors_travels() {
    let engine = engine();
    let (from, to) = (Local::new(&engine), Local::new(&engine));
    let empty: Vec<deepring_tensors::Source<Vec<u8>>> = Vec::new();
    from.store.save(empty, CheckpointOptions::new().meta("[1]")).wait().expect("saved").commit().wait().expect("committed");
    let (remote, _store) = watched();
    let transfer = block_on(remote.upload(&from.generation(1))).expect("sent");
    assert_eq!((transfer.bytes, transfer.files), (0, 0));
    block_on(remote.download(&to.store, 1)).expect("fetched");
    assert_same_generation(&to, &from, 1);
}

#[test]
fn a_generation_without_its_manifest_is_not_there() {
    let engine = engine();
    let (from, to) = (Local::small(&engine, 1), Local::new(&engine));
    let (remote, store) = watched();
    sent(&remote, &from);
    let manifest = get(&*store, &at(1, "manifest.json"));
    let paths = futures_util::stream::iter([Ok(at(1, "manifest.json"))]);
    block_on(store.delete_stream(Box::pin(paths)).try_collect::<Vec<_>>()).expect("deleted");
    assert_eq!((block_on(remote.list()).expect("a list"), block_on(remote.latest()).expect("none")), (Vec::<u64>::new(), None));
    let error = block_on(remote.download(&to.store, 1)).expect_err("it is not there");
    assert!(matches!(error, RemoteError::NoGeneration { generation: Some(1), .. }), "{error}");
    let error = block_on(remote.download_latest(&to.store)).expect_err("there is none");
    assert!(matches!(error, RemoteError::NoGeneration { generation: None, .. }), "{error}");
    assert_eq!(to.names(), [""; 0]);
    block_on(store.put_opts(&at(1, "manifest.json"), manifest.into(), PutMode::Create.into())).expect("a put");
    assert_eq!(block_on(remote.latest()).expect("one"), Some(1));
    // What has no name of a generation is none.
    for name in ["42", "0000000000003", "x", "000000000004x"] {
        put(&*store, &format!("{PREFIX}/{name}/manifest.json").into(), b"{}".to_vec());
    }
    assert_eq!(block_on(remote.list()).expect("a list"), [1]);
}

#[test]
fn progress_ends_with_all_bytes() {
    let engine = engine();
    let (from, to) = (Local::small(&engine, 1), Local::new(&engine));
    let (remote, _store) = watched();
    let reports = Arc::new(Mutex::new(Vec::new()));
    let reported = Arc::clone(&reports);
    let remote = remote.on_progress(move |done, total| reported.lock().expect("reports").push((done, total)));
    let transfer = block_on(remote.upload(&from.generation(1))).expect("sent");
    block_on(remote.download(&to.store, 1)).expect("fetched");
    let reports = reports.lock().expect("reports");
    assert_eq!(reports.iter().filter(|&&report| report == (transfer.bytes, transfer.bytes)).count(), 2, "{reports:?}");
    assert!(reports.len() > 2 && reports.iter().all(|&(done, total)| done <= total && total == transfer.bytes), "{reports:?}");
}

#[test]
fn futures_can_go_to_other_threads() {
    fn is_send<T: Send>(_: &T) {}
    fn is_shared<T: Send + Sync + Clone>() {}
    let local = Local::small(&engine(), 1);
    let (remote, _store) = watched();
    let checkpoint = local.generation(1);
    is_send(&remote.upload(&checkpoint));
    is_send(&remote.download(&local.store, 1));
    is_send(&remote.list());
    is_send(&remote.latest());
    is_shared::<RemoteCheckpoints>();
}
