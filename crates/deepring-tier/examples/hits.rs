//! What hits and misses cost: hits against the file itself, which is the floor, and a miss against the remote's own latency.
//!
//! `cargo run --release --features v014 --example hits -- DIRECTORY`, on an idle machine; 4 GiB of room. Everything is
//! read past the page cache.

use deepring::{Direct, Engine, File, ManyOptions, OpenOptions, Piece};
use deepring_tier::v014::TieredStore;
use deepring_tier::v014::object_store::memory::InMemory;
use deepring_tier::v014::object_store::path::Path;
use deepring_tier::v014::object_store::throttle::{ThrottleConfig, ThrottledStore};
use deepring_tier::v014::object_store::{ObjectStore, ObjectStoreExt};
use deepring_tier::{Tier, Validate};
use std::error::Error;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

const OBJECT_BYTES: u64 = 1 << 30;
const ROUNDS: usize = 5;
/// Ranges of one call.
const CALL: usize = 256;
/// Of the remote, per request.
const LATENCY: Duration = Duration::from_millis(20);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let place = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let place = tempfile::tempdir_in(place)?;
    let engine = Engine::builder().build()?;
    let memory = Arc::new(InMemory::new());
    let object = Path::from("object");
    let content: Vec<u8> = (0..OBJECT_BYTES / 8).flat_map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
    std::fs::write(place.path().join("floor"), &content)?;
    memory.put(&object, content.into()).await?;
    let floor = engine.open(place.path().join("floor"), OpenOptions::new().read(true).direct(Direct::Prefer))?;
    floor.sync_all().await?;

    let open = |name: &str, cell: u64| {
        let tier = Tier::builder(&engine).cell(cell).max_fill_bytes(OBJECT_BYTES).otherwise(Validate::Immutable);
        tier.open(place.path().join(name), OBJECT_BYTES + OBJECT_BYTES / 8)
    };
    report(&["ranges", "the file", "64 KiB cells", "of the file", "16 KiB cells", "of the file"]);
    let mut stores = Vec::new();
    for (name, cell) in [("tier-64", 64 << 10), ("tier-16", 16 << 10)] {
        let tier = open(name, cell)?;
        let store = TieredStore::new(&tier, Arc::clone(&memory) as Arc<dyn ObjectStore>, "memory://");
        for start in (0..OBJECT_BYTES).step_by(64 << 20) {
            store.get_range(&object, start..start + (64 << 20)).await?;
            tier.flush().await;
        }
        stores.push((tier, store));
    }
    for (len, count) in [(16u64 << 10, 4096usize), (128 << 10, 2048), (1 << 20, 512)] {
        let ranges = spread(len, count);
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            times[0].push(timed(read(&engine, &floor, &ranges)).await?);
            for (time, (_, store)) in times[1..].iter_mut().zip(&stores) {
                time.push(timed(get(store, &object, &ranges)).await?);
            }
        }
        let [floor, large, small] = times.map(|mut times| {
            times.sort_unstable();
            times[ROUNDS / 2].as_secs_f64()
        });
        let name = format!("{count} x {} KiB", len >> 10);
        let ratio = |time: f64| format!("{:.2}x", floor / time);
        report(&[&name, &millis(floor), &millis(large), &ratio(large), &millis(small), &ratio(small)]);
    }
    for (tier, _) in &stores {
        let stats = tier.stats();
        report(&["hits", &stats.hits.to_string(), "bad", &stats.bad_cells.to_string(), "fetches", &stats.fetches.to_string()]);
    }
    misses(&engine, place.path().join("tier-misses"), memory, &object).await
}

/// Single gets of a known object, each of which misses, against the remote alone.
async fn misses(engine: &Engine, place: PathBuf, memory: Arc<InMemory>, object: &Path) -> Result<()> {
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
    let [alone, through] = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64()
    });
    report(&["a miss", "the remote", &millis(alone), "the tier", &millis(through), &format!("{:.2}x", through / alone)]);
    Ok(())
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

async fn get(store: &TieredStore, object: &Path, ranges: &[Range<u64>]) -> Result<()> {
    for call in ranges.chunks(CALL) {
        store.get_ranges(object, call).await?;
    }
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

fn millis(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1e3)
}

#[expect(clippy::print_stdout, reason = "this is what it is run for")]
fn report(columns: &[&str]) {
    let columns: Vec<_> = columns.iter().map(|column| format!("{column:>14}")).collect();
    println!("{}", columns.concat());
}
