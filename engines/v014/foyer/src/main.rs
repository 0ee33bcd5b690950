//! What a hit costs in a tier of deepring, and in foyer's hybrid cache: the same bytes, on the same drive, past the page cache.
//!
//! `cargo run --release --manifest-path engines/v014/Cargo.toml -p engines-foyer -- DIRECTORY`, on an idle machine; 7 GiB of room.
//! foyer has an entry for each cell, as a cache that serves any range must, and again one for each range, which is its best case. Of
//! its two I/O engines, each with direct I/O, the faster one counts. Both caches check a checksum of what they read. No hit is served
//! from memory. What foyer finds stays apart for each entry; a tier joins it.

use deepring::Engine;
use deepring_tier::v014::TieredStore;
use deepring_tier::v014::object_store::memory::InMemory;
use deepring_tier::v014::object_store::path::Path as Key;
use deepring_tier::v014::object_store::{ObjectStore, ObjectStoreExt};
use deepring_tier::{Tier, Validate};
use foyer::{
    BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder, IoEngineConfig, PsyncIoEngineConfig,
    UringIoEngineConfig,
};
use futures_util::future::try_join_all;
use std::error::Error;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const OBJECT_BYTES: u64 = 1 << 30;
const ROUNDS: usize = 7;
/// Ranges that are asked for at once.
const CALL: usize = 256;
/// The length of the ranges, and how many of them.
const SHAPES: [(u64, usize); 3] = [(16 << 10, 4096), (128 << 10, 2048), (1 << 20, 512)];

type Result<T> = std::result::Result<T, Box<dyn Error>>;
type Hybrid = HybridCache<u64, Vec<u8>>;

#[tokio::main]
async fn main() -> Result<()> {
    let place = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let place = tempfile::tempdir_in(place)?;
    let content: Vec<u8> = (0..OBJECT_BYTES / 8).flat_map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();

    let engine = Engine::builder().build()?;
    let (memory, object) = (Arc::new(InMemory::new()), Key::from("object"));
    memory.put(&object, content.clone().into()).await?;
    report(["ranges", "a tier", "foyer, cells", "", "foyer, ranges", ""]);
    for (len, count) in SHAPES {
        let folder = place.path().join(format!("of-{len}"));
        let cell = len.clamp(16 << 10, 64 << 10);
        let tier = Tier::builder(&engine).cell(cell).max_fill_bytes(OBJECT_BYTES).otherwise(Validate::Immutable);
        let tier = tier.open(folder.join("tier"), OBJECT_BYTES + OBJECT_BYTES / 8)?;
        let store = TieredStore::new(&tier, Arc::clone(&memory) as Arc<dyn ObjectStore>, "memory://");
        for start in (0..OBJECT_BYTES).step_by(64 << 20) {
            store.get_range(&object, start..start + (64 << 20)).await?;
            tier.flush().await;
        }
        let mut rivals = Vec::new();
        for entry in [cell, len] {
            let engines: [(_, Box<dyn IoEngineConfig>); 2] =
                [("uring", UringIoEngineConfig::new().with_io_depth(CALL).boxed()), ("psync", PsyncIoEngineConfig::new().boxed())];
            for (name, io) in engines {
                rivals.push((entry, hybrid(&folder.join(format!("{name}-{}", rivals.len())), io, entry, &content).await?));
            }
        }

        let ranges = spread(len, count);
        let fetches = tier.stats().fetches;
        let mut times = [const { Vec::new() }; 5];
        for _ in 0..ROUNDS {
            times[0].push(timed(from_tier(&store, &object, &ranges)).await?);
            for (times, (entry, cache)) in times[1..].iter_mut().zip(&rivals) {
                times.push(timed(from_foyer(cache, *entry, &ranges)).await?);
            }
        }
        if tier.stats().fetches != fetches {
            return Err("a range was not on the drive".into());
        }
        let [tier, rivals @ ..] = times.map(|mut times| {
            times.sort_unstable();
            times[ROUNDS / 2].as_secs_f64()
        });
        let (cells, ranges) = (rivals[0].min(rivals[1]), rivals[2].min(rivals[3]));
        let ratio = |time: f64| format!("{:.2}x", time / tier);
        let name = format!("{count} x {} KiB", len >> 10);
        report([&name, &millis(tier), &millis(cells), &ratio(cells), &millis(ranges), &ratio(ranges)]);
    }
    Ok(())
}

/// A hybrid cache with all of the content on the drive, an entry for each piece of this length, and next to no memory.
async fn hybrid(folder: &Path, io: Box<dyn IoEngineConfig>, len: u64, content: &[u8]) -> Result<Hybrid> {
    std::fs::create_dir_all(folder)?;
    let device = FsDeviceBuilder::new(folder).with_capacity(2 * OBJECT_BYTES as usize).with_direct(true).build()?;
    let blocks = BlockEngineConfig::new(device).with_buffer_pool_size(256 << 20).with_submit_queue_size_threshold(256 << 20);
    let cache = HybridCacheBuilder::new().memory(1).storage().with_io_engine_config(io).with_engine_config(blocks).build().await?;
    let batch = ((32 << 20) / len) as usize;
    for (number, values) in content.chunks(batch * len as usize).enumerate() {
        for (key, value) in values.chunks_exact(len as usize).enumerate() {
            cache.storage_writer((number * batch + key) as u64).force().insert(value.to_vec());
        }
        // Its buffers take no more.
        cache.storage().wait().await;
    }
    Ok(cache)
}

/// Ranges all over the object, in no order.
fn spread(len: u64, count: usize) -> Vec<Range<u64>> {
    let places = OBJECT_BYTES / len;
    (0..count as u64).map(|number| number * 7_919 % places * len).map(|start| start..start + len).collect()
}

async fn timed(work: impl Future<Output = Result<()>>) -> Result<Duration> {
    let start = Instant::now();
    work.await?;
    Ok(start.elapsed())
}

async fn from_tier(store: &TieredStore, object: &Key, ranges: &[Range<u64>]) -> Result<()> {
    for call in ranges.chunks(CALL) {
        store.get_ranges(object, call).await?;
    }
    Ok(())
}

async fn from_foyer(cache: &Hybrid, entry: u64, ranges: &[Range<u64>]) -> Result<()> {
    for call in ranges.chunks(CALL) {
        let gets = call.iter().flat_map(|range| range.start / entry..range.end / entry).map(|key| {
            let cache = cache.clone();
            // On a task of its own, as programs do, so that entries are decoded by all threads.
            tokio::spawn(async move { cache.get(&key).await })
        });
        for found in try_join_all(gets).await? {
            let found = found?.ok_or("an entry was not on the drive")?;
            if found.value().len() as u64 != entry {
                return Err("an entry is short".into());
            }
        }
    }
    Ok(())
}

fn millis(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1e3)
}

#[expect(clippy::print_stdout, reason = "this is what it is run for")]
fn report(columns: [&str; 6]) {
    println!("{}", columns.map(|column| format!("{column:>16}")).concat());
}
