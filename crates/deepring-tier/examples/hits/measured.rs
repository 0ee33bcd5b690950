//! What is measured: an object on a remote in memory, a tier that has all of it, and ranges all over it. `engines/v014/foyer`
//! measures the same.

use deepring::Engine;
use deepring_tier::v014::TieredStore;
use deepring_tier::v014::object_store::memory::InMemory;
use deepring_tier::v014::object_store::path::Path;
use deepring_tier::v014::object_store::{ObjectStore, ObjectStoreExt};
use deepring_tier::{Tier, Validate};
use std::error::Error;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) const OBJECT_BYTES: u64 = 1 << 30;
/// Ranges that are asked for at once.
pub(crate) const CALL: usize = 256;
/// The length of the ranges, and how many of them.
pub(crate) const SHAPES: [(u64, usize); 3] = [(16 << 10, 4096), (128 << 10, 2048), (1 << 20, 512)];

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

pub(crate) fn object() -> Path {
    Path::from("object")
}

pub(crate) fn content() -> Vec<u8> {
    (0..OBJECT_BYTES / 8).flat_map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect()
}

/// A tier in this folder that has all of the object.
pub(crate) async fn filled(engine: &Engine, folder: PathBuf, cell: u64, remote: &Arc<InMemory>) -> Result<(Tier, TieredStore)> {
    let tier = Tier::builder(engine).cell(cell).max_fill_bytes(OBJECT_BYTES).otherwise(Validate::Immutable);
    let tier = tier.open(folder, OBJECT_BYTES + OBJECT_BYTES / 8)?;
    let store = TieredStore::new(&tier, Arc::clone(remote) as Arc<dyn ObjectStore>, "memory://");
    for start in (0..OBJECT_BYTES).step_by(64 << 20) {
        store.get_range(&object(), start..start + (64 << 20)).await?;
        tier.flush().await;
    }
    Ok((tier, store))
}

/// Ranges all over the object, in no order.
pub(crate) fn spread(len: u64, count: usize) -> Vec<Range<u64>> {
    let places = OBJECT_BYTES / len;
    (0..count as u64).map(|number| number * 7_919 % places * len).map(|start| start..start + len).collect()
}

pub(crate) async fn get(store: &TieredStore, ranges: &[Range<u64>]) -> Result<()> {
    for call in ranges.chunks(CALL) {
        store.get_ranges(&object(), call).await?;
    }
    Ok(())
}

pub(crate) async fn timed(work: impl Future<Output = Result<()>>) -> Result<Duration> {
    let start = Instant::now();
    work.await?;
    Ok(start.elapsed())
}

/// In seconds.
pub(crate) fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

pub(crate) fn millis(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1e3)
}

#[expect(clippy::print_stdout, reason = "this is what it is run for")]
pub(crate) fn report(columns: &[&str]) {
    let columns: Vec<_> = columns.iter().map(|column| format!("{column:>14}")).collect();
    println!("{}", columns.concat());
}
