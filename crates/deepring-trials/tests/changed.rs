//! A program that breaks the contract: it changes the memory of a tensor before that was captured. Nothing crashes, the
//! checkpoint has the old bytes, the new ones, or a mixture that `verify` names, and other tensors are not affected.
//!
//! It stands here because safe code cannot do it: a tensor that is put is moved, or shared and read only.

#[path = "../../deepring/tests/harness/mod.rs"]
mod harness;

use deepring::{Engine, IoBuf};
use deepring_tensors::checkpoint::{BeginOptions, Checkpoints, PutOptions, StoreOptions};
use deepring_tensors::{DType, Declared, LoadOptions, Source};
use harness::{bytes, directory, say};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

const LEN: usize = 24 << 20;

/// Memory that another thread writes to.
#[derive(Clone)]
struct Shared(Arc<Vec<AtomicU8>>);

// SAFETY: the vector's heap block stays in place while the value lives. That other threads store to it is what is tried here:
// each byte is one of those stored, and nothing depends on which.
unsafe impl IoBuf for Shared {
    fn as_ptr(&self) -> *const u8 {
        self.0.as_ptr().cast()
    }
    fn len(&self) -> usize {
        self.0.len()
    }
}

fn source<B>(name: &str, data: B, len: usize) -> Source<B> {
    Source { declared: Declared { name: name.into(), dtype: DType::U8, shape: vec![len as u64] }, data }
}

#[test]
fn memory_that_changes_before_it_is_captured_is_found_by_verify_or_consistent() {
    let (place, engine) = (directory(), Engine::builder().build().expect("an engine"));
    let store = Checkpoints::open(&engine, place.path(), StoreOptions::new()).wait().expect("a store");
    let shared = Shared(Arc::new((0..LEN).map(|_| AtomicU8::new(0)).collect()));
    let other = bytes(0, 3 << 20, 7);
    let (mut whole, mut damaged) = (0, 0);
    for round in 0..12 {
        let is_done = AtomicBool::new(false);
        let number = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    for byte in shared.0.iter().step_by(4099) {
                        byte.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            let staging = if round % 2 == 0 { 0 } else { 64 << 20 };
            let writer = store.begin(BeginOptions::new().staging(staging)).wait().expect("a writer");
            writer.put(source("other", other.clone(), other.len()), PutOptions::new()).wait().expect("put");
            writer.put(source("changing", shared.clone(), LEN), PutOptions::new()).wait().expect("put");
            let committed = writer.commit().wait();
            is_done.store(true, Ordering::Relaxed);
            committed.expect("a commit").number
        });
        let checkpoint = store.generation(number).wait().expect("it opens");
        assert!(checkpoint.tensor("other", None).wait().expect("not affected").bytes() == other);
        let found = checkpoint.verify(None).wait().expect("readable");
        assert!(found.damaged.iter().all(|damage| damage.tensor.as_deref() == Some("changing")), "{found:?}");
        let all = checkpoint.table().all();
        assert_eq!(checkpoint.load(&all).wait().is_ok(), found.is_whole(), "a load finds what verify finds");
        checkpoint.load_with(&all, LoadOptions::new().verify(false)).wait().expect("not looked at");
        *(if found.is_whole() { &mut whole } else { &mut damaged }) += 1;
    }
    say(&format!("{whole} were consistent, {damaged} were found"));
}
