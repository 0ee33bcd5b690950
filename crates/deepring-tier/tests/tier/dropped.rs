//! Calls that are dropped at every point where they wait: no slot, no memory and no fetch is left.

use crate::harness::{assert_same, bytes, eventually};
use crate::places::{EXTENT, MIB, Place, at, each};
use deepring_tier::Validate;
use deepring_tier::v014::object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, Result};
use futures_util::TryStreamExt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

/// Polls a future until it has waited `waits` times, and drops it then. Returns what it ended with, if it did.
async fn drop_after<T>(waits: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let waited = AtomicUsize::new(0);
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending if waited.fetch_add(1, Ordering::Relaxed) == waits => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// Drops a call at every point where it waits. Then it works, and the slots of all that was forgotten are free.
fn at_every_wait<T>(call: &impl AsyncFn(&Place) -> Result<T>) {
    each(async |engine| {
        let before = engine.stats().buffers;
        for validate in [Validate::Immutable, Validate::Always] {
            for waits in 0.. {
                assert!(waits < 200, "it goes on waiting");
                let place = Place::new(engine, 16 << 20, |tier| tier.otherwise(validate).max_fetch_bytes(MIB));
                let content = place.put("object", EXTENT + MIB, 1).await;
                place.range("object", 0..10).await;
                place.tier.flush().await;
                let ended = drop_after(waits, call(&place)).await.map(|result| result.map(drop).expect("it succeeds"));
                let found = place.get("object").await;
                if found.len() == content.len() {
                    assert_same(&found, &content, "the object");
                }
                let held: Vec<_> = place.remote.objects.list_paths().await;
                place.tier.flush().await;
                for path in held {
                    place.store.delete(&path).await.expect("a delete");
                }
                // What a change has left when it was dropped goes on, on threads of the engine.
                eventually(Duration::from_secs(20), "no slot is held by what was dropped", || {
                    let stats = place.tier.stats();
                    (stats.slots_free, stats.fills_in_progress) == (stats.slots, 0)
                });
                if ended.is_some() {
                    break;
                }
            }
        }
        eventually(Duration::from_secs(20), "the memory of dropped calls is back", || engine.stats().buffers <= before);
    });
}

trait Paths {
    async fn list_paths(&self) -> Vec<deepring_tier::v014::object_store::path::Path>;
}

impl Paths for deepring_tier::v014::object_store::memory::InMemory {
    async fn list_paths(&self) -> Vec<deepring_tier::v014::object_store::path::Path> {
        self.list(None).map_ok(|found| found.location).try_collect().await.expect("a listing")
    }
}

#[test]
fn ranges_leave_nothing() {
    at_every_wait(&async |place| place.store.get_ranges(&at("object"), &[0..100, MIB..MIB + 10, 3 * MIB..EXTENT + 10]).await);
}

#[test]
fn a_stream_leaves_nothing() {
    at_every_wait(&async |place| place.store.get(&at("object")).await?.into_stream().try_collect::<Vec<_>>().await);
}

#[test]
fn changes_leave_nothing() {
    let content = bytes(0, 1000, 2);
    at_every_wait(&async |place| {
        place.store.put(&at("other"), content.clone().into()).await?;
        place.store.get(&at("other")).await?.bytes().await?;
        place.store.copy(&at("other"), &at("third")).await?;
        let mut upload = place.store.put_multipart(&at("other")).await?;
        upload.put_part(content.clone().into()).await?;
        upload.complete().await?;
        place.store.rename(&at("third"), &at("fourth")).await?;
        place.store.delete(&at("fourth")).await
    });
}

#[test]
fn many_callers_that_go_at_any_time_leave_nothing() {
    each(async |engine| {
        let place = Arc::new(Place::new(engine, 16 << 20, |tier| tier.otherwise(Validate::Immutable).max_fetch_bytes(256 << 10)));
        let content = Arc::new(place.put("object", 30 * MIB, 3).await);
        let calls = (0..300u64).map(|number| {
            let (place, content) = (Arc::clone(&place), Arc::clone(&content));
            async move {
                let start = number * 7_919_000 % (29 * MIB);
                let range = start..start + 300_000;
                let path = at("object");
                let call = place.store.get_range(&path, range.clone());
                if let Some(found) = drop_after((number % 5) as usize, call).await {
                    assert_same(&found.expect("a range"), &content[range.start as usize..range.end as usize], "a range");
                }
            }
        });
        futures_util::future::join_all(calls).await;
        place.tier.flush().await;
        place.store.delete(&at("object")).await.expect("a delete");
        let stats = place.tier.stats();
        assert_eq!((stats.slots_free, stats.bad_cells), (stats.slots, 0));
    });
}
