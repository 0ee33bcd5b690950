//! Object stores without conditional puts.

use super::object_store::ObjectStore;
use super::watched::Conditions;
use super::{RemoteError, at, get, objects, watched};
use crate::generations::{Local, assert_same_generation, engine};
use pollster::block_on;

const LACKING: [Conditions; 3] = [Conditions::NotImplemented, Conditions::NotSupported, Conditions::Ignored];

#[test]
fn a_store_without_conditional_puts_is_refused_before_anything_is_sent() {
    let engine = engine();
    let from = Local::small(&engine, 1);
    for conditions in LACKING {
        let (remote, store) = watched();
        store.conditions(conditions);
        let error = block_on(remote.upload(&from.generation(1))).expect_err("it is refused");
        assert!(matches!(&error, RemoteError::Unconditional { store, .. } if store == "Watched"), "{error}");
        let left: &[&str] = if conditions == Conditions::Ignored { &["upload.json"] } else { &[] };
        assert_eq!(objects(&*store, 1), left);
        assert!(!store.calls().iter().any(|call| call.contains(".safetensors")));
    }
}

#[test]
fn a_store_without_conditional_puts_is_used_if_that_is_asked_for() {
    let engine = engine();
    let (from, other) = (Local::small(&engine, 1), Local::small(&engine, 2));
    for conditions in LACKING {
        let (remote, store) = watched();
        let remote = remote.unconditional(true);
        store.conditions(conditions);
        let transfer = block_on(remote.upload(&from.generation(1))).expect("sent");
        assert_eq!(transfer.moved, transfer.bytes);
        assert!(block_on(remote.upload(&from.generation(1))).expect("it is there").complete);
        let to = Local::new(&engine);
        block_on(remote.download(&to.store, 1)).expect("fetched");
        assert_same_generation(&to, &from, 1);
        // One that comes later is told apart all the same.
        let error = block_on(remote.upload(&other.generation(1))).expect_err("another one");
        assert!(matches!(error, RemoteError::Exists { generation: 1, .. }), "{error}");
    }
}

#[test]
fn where_there_are_conditional_puts_they_are_used_also_if_none_are_asked_for() {
    let engine = engine();
    let from = Local::small(&engine, 1);
    let (remote, store) = watched();
    block_on(remote.unconditional(true).upload(&from.generation(1))).expect("sent");
    let created: Vec<String> = store.calls().into_iter().filter(|call| call.starts_with("create")).collect();
    let [claim, manifest] = ["upload.json", "manifest.json"].map(|name| format!("create {}", at(1, name)));
    assert_eq!(created, [claim.clone(), claim, manifest]);
    let text = String::from_utf8(get(&*store as &dyn ObjectStore, &at(1, "upload.json"))).expect("text");
    assert!(text.starts_with("{\"format\":\"deepring-upload\",\"version\":1,\"generation\":1,\"id\":\""), "{text}");
}
