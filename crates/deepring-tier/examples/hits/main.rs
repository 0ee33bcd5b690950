//! What hits and misses cost: hits against the file itself, which is the floor, and a miss against the remote's own latency.
//!
//! `cargo run --release --features v014 --example hits -- DIRECTORY`, on an idle machine; 4 GiB of room. Everything is
//! read past the page cache.

mod measured;

use deepring::{Direct, Engine, File, ManyOptions, OpenOptions, Piece};
use deepring_tier::v014::TieredStore;
use deepring_tier::v014::object_store::memory::InMemory;
use deepring_tier::v014::object_store::throttle::{ThrottleConfig, ThrottledStore};
use deepring_tier::v014::object_store::{ObjectStore, ObjectStoreExt};
use deepring_tier::{Tier, Validate};
use measured::{CALL, OBJECT_BYTES, Result, SHAPES, content, filled, get, median, millis, object, report, spread, timed};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
/// Of the remote, per request.
const LATENCY: Duration = Duration::from_millis(20);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let place = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let place = tempfile::tempdir_in(place)?;
    let engine = Engine::builder().build()?;
    let memory = Arc::new(InMemory::new());
    let content = content();
    std::fs::write(place.path().join("floor"), &content)?;
    memory.put(&object(), content.into()).await?;
    let floor = engine.open(place.path().join("floor"), OpenOptions::new().read(true).direct(Direct::Prefer))?;
    floor.sync_all().await?;

    report(&["ranges", "the file", "64 KiB cells", "of the file", "16 KiB cells", "of the file"]);
    let mut stores = Vec::new();
    for (name, cell) in [("tier-64", 64 << 10), ("tier-16", 16 << 10)] {
        stores.push(filled(&engine, place.path().join(name), cell, &memory).await?);
    }
    for (len, count) in SHAPES {
        let ranges = spread(len, count);
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            times[0].push(timed(read(&engine, &floor, &ranges)).await?);
            for (time, (_, store)) in times[1..].iter_mut().zip(&stores) {
                time.push(timed(get(store, &ranges)).await?);
            }
        }
        let [floor, large, small] = times.map(median);
        let name = format!("{count} x {} KiB", len >> 10);
        let ratio = |time: f64| format!("{:.2}x", floor / time);
        report(&[&name, &millis(floor), &millis(large), &ratio(large), &millis(small), &ratio(small)]);
    }
    for (tier, _) in &stores {
        let stats = tier.stats();
        report(&["hits", &stats.hits.to_string(), "bad", &stats.bad_cells.to_string(), "fetches", &stats.fetches.to_string()]);
    }
    misses(&engine, place.path().join("tier-misses"), memory).await
}

/// Single gets of a known object, each of which misses, against the remote alone.
async fn misses(engine: &Engine, place: PathBuf, memory: Arc<InMemory>) -> Result<()> {
    let object = &object();
    let remote = Arc::new(ThrottledStore::new(memory, ThrottleConfig { wait_get_per_call: LATENCY, ..ThrottleConfig::default() }));
    let tier = Tier::builder(engine).otherwise(Validate::Immutable).open(place, OBJECT_BYTES)?;
    let store = TieredStore::new(&tier, Arc::clone(&remote) as Arc<dyn ObjectStore>, "throttled://");
    store.head(object).await?;
    let mut times = [const { Vec::new() }; 2];
    for range in spread(128 << 10, 100) {
        let start = Instant::now();
        remote.get_range(object, range.clone()).await?;
        times[0].push(start.elapsed());
        let start = Instant::now();
        store.get_range(object, range).await?;
        times[1].push(start.elapsed());
    }
    let [alone, through] = times.map(median);
    report(&["a miss", "the remote", &millis(alone), "the tier", &millis(through), &format!("{:.2}x", through / alone)]);
    Ok(())
}

/// The same from the file itself: the engine alone.
async fn read(engine: &Engine, file: &File, ranges: &[Range<u64>]) -> Result<()> {
    for call in ranges.chunks(CALL) {
        let len = (call[0].end - call[0].start) as usize;
        let per_buffer = ((1 << 20) / len).max(1);
        let buffers = (0..call.len().div_ceil(per_buffer)).map(|_| engine.pooled_buffer(per_buffer * len));
        let pieces: Vec<_> = call.iter().enumerate().map(|(number, range)| Piece::new(range.start, number * len, len)).collect();
        file.read_scatter_vectored(buffers.collect::<deepring::Result<_>>()?, &pieces, ManyOptions::new()).await.ok()?;
    }
    Ok(())
}
