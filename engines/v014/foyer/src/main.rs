//! What a hit costs in a tier of deepring, and in foyer's hybrid cache: the same bytes, on the same drive, past the page cache.
//!
//! `cargo run --release --manifest-path engines/v014/Cargo.toml -p engines-foyer -- DIRECTORY`, on an idle machine; 20 GiB of room.
//! foyer has an entry for each cell, as a cache that serves any range must, and again one for each range, which is its best case. Of
//! its two I/O engines, each with direct I/O, the faster one counts. Both caches check a checksum of what they read. No hit is served
//! from memory. What foyer finds stays apart for each entry; a tier joins it.

// The tier's own measurement.
#[path = "../../../../crates/deepring-tier/examples/hits/measured.rs"]
mod measured;

use deepring::Engine;
use deepring_tier::v014::object_store::ObjectStoreExt;
use deepring_tier::v014::object_store::memory::InMemory;
use foyer::{
    BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder, IoEngineConfig, PsyncIoEngineConfig,
    UringIoEngineConfig,
};
use futures_util::future::try_join_all;
use measured::{CALL, OBJECT_BYTES, Result, SHAPES, content, filled, get, median, millis, object, report, spread, timed};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const ROUNDS: usize = 7;

type Hybrid = HybridCache<u64, Vec<u8>>;

#[tokio::main]
async fn main() -> Result<()> {
    let place = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let place = tempfile::tempdir_in(place)?;
    let (engine, memory, content) = (Engine::builder().build()?, Arc::new(InMemory::new()), content());
    memory.put(&object(), content.clone().into()).await?;
    report(&["ranges", "a tier", "foyer, cells", "", "foyer, ranges", ""]);
    for (len, count) in SHAPES {
        let folder = place.path().join(format!("of-{len}"));
        let cell = len.clamp(16 << 10, 64 << 10);
        let (tier, store) = filled(&engine, folder.join("tier"), cell, &memory).await?;
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
            times[0].push(timed(get(&store, &ranges)).await?);
            for (times, (entry, cache)) in times[1..].iter_mut().zip(&rivals) {
                times.push(timed(from_foyer(cache, *entry, &ranges)).await?);
            }
        }
        if tier.stats().fetches != fetches {
            return Err("a range was not on the drive".into());
        }
        let [tier, rivals @ ..] = times.map(median);
        let (cells, ranges) = (rivals[0].min(rivals[1]), rivals[2].min(rivals[3]));
        let ratio = |time: f64| format!("{:.2}x", time / tier);
        let name = format!("{count} x {} KiB", len >> 10);
        report(&[&name, &millis(tier), &millis(cells), &ratio(cells), &millis(ranges), &ratio(ranges)]);
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
