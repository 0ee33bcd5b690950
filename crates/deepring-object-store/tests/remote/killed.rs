//! Processes that are killed while they send a generation, or fetch one.

#[allow(dead_code, reason = "every test binary uses its own part of it")]
#[path = "../../../deepring-tensors/tests/harness/child.rs"]
mod children;

use crate::generations::{Local, assert_same_generation, engine, open};
use crate::harness::say;
use crate::v014::cases::watched::Watched;
use children::{argument, await_line, spawn};
use deepring_object_store::v014::RemoteCheckpoints;
use object_store_014::local::LocalFileSystem;
use pollster::block_on;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

const UPLOAD: &str = "killed::a_process_that_is_killed_in_an_upload_leaves_nothing_visible_and_the_next_one_goes_on";
const DOWNLOAD: &str = "killed::a_process_that_is_killed_in_a_download_leaves_nothing_visible_and_the_next_one_goes_on";

fn remote(store: Arc<Watched>) -> RemoteCheckpoints {
    RemoteCheckpoints::new(store, "run").part_bytes(1 << 20).parts_in_flight(1)
}

fn store(place: &str) -> Watched {
    Watched::new(Arc::new(LocalFileSystem::new_with_prefix(place).expect("a store")))
}

/// Sends or fetches until a request, says so, and waits to be killed. Without a number it says so at the first, and goes on.
fn as_child([there, here, request]: &[String; 3], is_upload: bool) -> ! {
    std::thread::spawn(|| {
        let ended = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(i32::from(ended.is_err()));
    });
    let request: usize = request.parse().expect("a number");
    let store = Arc::new(store(there));
    store.hook(move |number, _| {
        if number == request || request == usize::MAX && number == 0 {
            say("there");
        }
        if number == request {
            wait_for_ever();
        }
    });
    let (remote, local) = (remote(store), open(&engine(), Path::new(here)));
    let moved = if is_upload {
        block_on(remote.upload(&local.generation(1).wait().expect("a generation")))
    } else {
        block_on(remote.download(&local, 1))
    };
    say(&format!("ended {moved:?}"));
    std::process::exit(0)
}

fn path(place: &Path) -> String {
    place.to_str().expect("UTF-8").to_owned()
}

/// Starts a process, and kills it at this request.
fn kill(test: &str, there: &str, here: &str, request: usize) {
    let mut child = spawn(test, &[there, here, &request.to_string()]);
    await_line(&mut child, "there");
    child.kill().expect("kill -9");
    child.wait().expect("its end");
}

fn wait_for_ever() -> ! {
    loop {
        std::thread::park();
    }
}

#[test]
fn a_process_that_is_killed_in_a_download_leaves_nothing_visible_and_the_next_one_goes_on() {
    const ROUNDS: usize = 12;
    if let Some(arguments) = argument(DOWNLOAD) {
        as_child(&arguments.try_into().expect("three arguments"), false);
    }
    let engine = engine();
    let (from, there, to) = (Local::small(&engine, 1), crate::harness::directory(), Local::new(&engine));
    let (there, here) = (path(there.path()), path(to.place.path()));
    let sending = Arc::new(store(&there));
    block_on(remote(Arc::clone(&sending)).upload(&from.generation(1))).expect("sent");
    sending.calls();
    let whole = Local::new(&engine);
    block_on(remote(Arc::clone(&sending)).download(&whole.store, 1)).expect("fetched");
    let requests = sending.calls().len();
    for request in 0..requests {
        kill(DOWNLOAD, &there, &here, request);
        assert!(to.numbers().is_empty(), "request {request} of {requests}");
    }
    assert!(to.names().iter().any(|name| name.starts_with(".tmp-000000000001-")), "{:?}", to.names());
    // The files that have arrived are not fetched again.
    sending.calls();
    let transfer = block_on(remote(Arc::clone(&sending)).download(&to.store, 1)).expect("it goes on");
    assert!(transfer.found > 0 && transfer.found + transfer.moved == transfer.bytes, "{transfer:?}");
    assert_same_generation(&to, &from, 1);
    let mut whole = 0;
    for _ in 0..ROUNDS {
        to.store.remove(1).wait().expect("removed");
        kill(DOWNLOAD, &there, &here, usize::MAX);
        if !to.numbers().is_empty() {
            assert_same_generation(&to, &from, 1);
            whole += 1;
        }
        block_on(remote(Arc::clone(&sending)).download(&to.store, 1)).expect("it goes on");
        assert_same_generation(&to, &from, 1);
    }
    say(&format!("{whole} of {ROUNDS} were whole when they were killed"));
    to.store.collect().wait().expect("collected");
    assert!(to.names().iter().all(|name| !name.starts_with(".tmp-")), "{:?}", to.names());
}

#[test]
fn a_process_that_is_killed_in_an_upload_leaves_nothing_visible_and_the_next_one_goes_on() {
    if let Some(arguments) = argument(UPLOAD) {
        as_child(&arguments.try_into().expect("three arguments"), true);
    }
    let engine = engine();
    let (from, elsewhere) = (Local::small(&engine, 1), crate::harness::directory());
    let counted = Arc::new(store(&path(elsewhere.path())));
    block_on(remote(Arc::clone(&counted)).upload(&from.generation(1))).expect("sent");
    let (requests, mut resumed) = (counted.calls().len(), 0);
    // Each from nothing: an upload that finds something makes other requests.
    for request in 0..requests {
        let there = crate::harness::directory();
        kill(UPLOAD, &path(there.path()), &path(from.place.path()), request);
        let remote = remote(Arc::new(store(&path(there.path()))));
        assert!(block_on(remote.list()).expect("a list").is_empty(), "request {request} of {requests}");
        let transfer = block_on(remote.upload(&from.generation(1))).expect("it goes on");
        assert_eq!(transfer.found + transfer.moved, transfer.bytes, "{transfer:?}");
        resumed += u32::from(transfer.found > 0);
        let to = Local::new(&engine);
        block_on(remote.download(&to.store, 1)).expect("fetched");
        assert_same_generation(&to, &from, 1);
    }
    assert!(resumed > 0, "no upload has found what another has left");
}
