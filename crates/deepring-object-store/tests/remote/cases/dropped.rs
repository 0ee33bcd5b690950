//! Transfers that are dropped at every point where they wait.

use super::watched::Watched;
use super::{download, objects, remote, sent, watched};
use crate::generations::{Local, assert_same_generation, engine};
use crate::harness::eventually;
use crate::harness::polled::drop_after;
use pollster::block_on;
use std::sync::Arc;
use std::time::Duration;

/// More waits than any of these transfers has.
const WAITS_MAX: usize = 400;

#[test]
fn an_upload_that_is_dropped_shows_nothing_and_the_next_one_ends_it() {
    let engine = engine();
    let from = Local::small(&engine, 1);
    let checkpoint = from.generation(1);
    for waits in 0.. {
        assert!(waits < WAITS_MAX, "it goes on waiting");
        let (remote, store) = watched();
        store.pauses(1);
        let ended = drop_after(waits, remote.upload(&checkpoint)).map(|result| result.expect("sent"));
        let has_manifest = objects(&*store, 1).contains(&"manifest.json".into());
        assert!(has_manifest || ended.is_none());
        assert_eq!(block_on(remote.list()).expect("a list").is_empty(), !has_manifest);
        eventually(Duration::from_secs(20), "its memory is back", || store.alive.now() == 0);
        if ended.is_some() {
            assert!(waits > 20, "it has waited {waits} times");
            break;
        }
        block_on(remote.upload(&checkpoint)).expect("sent");
        let to = Local::new(&engine);
        block_on(remote.download(&to.store, 1)).expect("fetched");
        assert_same_generation(&to, &from, 1);
    }
}

#[test]
fn a_download_that_is_dropped_shows_nothing_or_all_and_the_next_one_ends_it() {
    let engine = engine();
    let from = Local::small(&engine, 1);
    let (remote_there, there) = watched();
    sent(&remote_there, &from);
    for waits in 0.. {
        assert!(waits < WAITS_MAX, "it goes on waiting");
        let store = Arc::new(Watched::new(Arc::clone(there.inner())));
        store.pauses(1);
        let (remote, to) = (remote(Arc::clone(&store) as _), Local::new(&engine));
        let ended = drop_after(waits, remote.download(&to.store, 1)).map(|result| result.expect("fetched"));
        if !to.numbers().is_empty() {
            let is_unlocked = || !to.files(1).contains_key("lock-00000");
            eventually(Duration::from_secs(20), "the last step is made", is_unlocked);
            assert_same_generation(&to, &from, 1);
        }
        eventually(Duration::from_secs(20), "its memory is back", || store.alive.now() == 0);
        if ended.is_some() {
            assert!(waits > 20, "it has waited {waits} times");
            assert_eq!(to.names(), [".lock", "000000000001"]);
            break;
        }
        download(&remote, &to, 1).expect("fetched");
        assert_same_generation(&to, &from, 1);
        assert_eq!(to.store.collect().wait().expect("collected").temporaries, 0);
        assert_eq!(to.names(), [".lock", "000000000001"]);
    }
}
