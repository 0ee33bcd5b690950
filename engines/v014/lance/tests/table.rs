//! A table behind a tier: what was written is read back, from the drive the second time, and survives `kill -9`.

#[allow(dead_code, reason = "every test binary uses its own part of it")]
#[path = "../../../../crates/deepring-tensors/tests/harness/child.rs"]
mod children;

use children::{argument, spawn};
use engines_lance::{append, open, table};
use engines_support::{Place, kill_after, say, say_durable};
use lance::Dataset;
use lance::dataset::WriteMode;
use lance::deps::arrow_array::cast::AsArray;
use lance::deps::arrow_array::types::{Float32Type, Int64Type};
use lance::deps::arrow_array::{FixedSizeListArray, Float32Array, Int64Array, RecordBatch, RecordBatchIterator};
use lance::deps::arrow_schema::{ArrowError, DataType, Field, Schema};
use std::path::Path;
use std::sync::Arc;

/// Numbers in a vector.
const DIMENSIONS: i32 = 64;
/// Of the first test, in four fragments: 20 MB.
const ROWS: i64 = 80_000;
const FRAGMENTS: i64 = 4;
/// Rows of a version, all or none.
const BATCH: i64 = 100;

type Reader = RecordBatchIterator<std::iter::Once<Result<RecordBatch, ArrowError>>>;

/// A vector that no other row has.
fn vector(id: i64) -> impl Iterator<Item = f32> {
    let mut state = (id as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32
    })
    .take(DIMENSIONS as usize)
}

fn rows(ids: std::ops::Range<i64>) -> Reader {
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let numbers = Float32Array::from_iter_values(ids.clone().flat_map(vector));
    let vectors = FixedSizeListArray::new(item.clone(), DIMENSIONS, Arc::new(numbers), None);
    let id = Field::new("id", DataType::Int64, false);
    let schema = Arc::new(Schema::new(vec![id, Field::new("vector", DataType::FixedSizeList(item, DIMENSIONS), false)]));
    let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(Int64Array::from_iter_values(ids)), Arc::new(vectors)]);
    RecordBatchIterator::new(std::iter::once(batch), schema)
}

/// Compares rows with what was written.
fn compare(found: &RecordBatch, ids: impl Iterator<Item = i64>) {
    let (id, vectors) = (found["id"].as_primitive::<Int64Type>(), found["vector"].as_fixed_size_list());
    assert_eq!(id.values().to_vec(), ids.collect::<Vec<_>>());
    for (nth, id) in id.values().iter().enumerate() {
        assert!(vectors.value(nth).as_primitive::<Float32Type>().values().iter().copied().eq(vector(*id)), "the vector of row {id}");
    }
}

/// Reads everything in order, and returns how many rows there are.
async fn read_all(table: &Dataset) -> i64 {
    let found = table.scan().try_into_batch().await.expect("a scan");
    let count = found.num_rows() as i64;
    compare(&found, 0..count);
    count
}

/// Reads some rows, here and there, by their places, by a condition, and by the distance to a vector.
async fn read_some(table: &Dataset) {
    let places: Vec<u64> = (0..ROWS as u64).step_by(997).collect();
    let found = table.take(&places, table.schema().clone()).await.expect("rows");
    compare(&found, places.iter().map(|place| *place as i64));
    let found = table.scan().filter("id >= 39990 AND id < 40010").expect("a condition").try_into_batch().await.expect("a scan");
    compare(&found, 39_990..40_010);
    let wanted = Float32Array::from_iter_values(vector(54_321));
    let found = table.scan().nearest("vector", &wanted, 1).expect("a vector").try_into_batch().await.expect("a search");
    assert_eq!(found["id"].as_primitive::<Int64Type>().values().to_vec(), [54_321]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_read_back_and_the_second_time_from_the_drive() {
    let folder = Place::folder(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let place = open(folder.path()).expect("a place");
    for (nth, first) in (0..ROWS).step_by((ROWS / FRAGMENTS) as usize).enumerate() {
        let mode = if nth == 0 { WriteMode::Create } else { WriteMode::Append };
        append(&place, rows(first..first + ROWS / FRAGMENTS), mode).await.expect("a version");
    }
    drop(place);

    let place = open(folder.path()).expect("a place");
    let lance = table(&place).await.expect("the table");
    assert_eq!(lance.count_fragments() as i64, FRAGMENTS);
    assert_eq!(read_all(&lance).await, ROWS);
    read_some(&lance).await;
    place.tier().flush().await;
    let first = place.tier().stats();
    drop(lance);
    // Opened again, it has nothing in memory.
    let lance = table(&place).await.expect("the table");
    assert_eq!(read_all(&lance).await, ROWS);
    read_some(&lance).await;
    let second = place.tier().stats();
    say(&format!("first {first:?}\nsecond {second:?}")).expect("the output");
    // Numbers of 24 random bits cannot be made smaller than that.
    let bytes = ROWS as u64 * DIMENSIONS as u64 * 3;
    assert!(first.bytes_from_remote >= bytes && first.bytes_filled >= first.bytes_from_remote, "{first:?}");
    assert!(second.bytes_from_drive - first.bytes_from_drive >= bytes, "{second:?}");
    assert_eq!(second.bytes_from_remote, first.bytes_from_remote, "{second:?}");
    drop((lance, place));

    // And what the drive has is found again after a restart.
    let place = open(folder.path()).expect("a place");
    assert_eq!(read_all(&table(&place).await.expect("the table")).await, ROWS);
    let third = place.tier().stats();
    say(&format!("third {third:?}")).expect("the output");
    assert!(third.bytes_from_drive >= bytes && third.bytes_from_remote == 0, "{third:?}");
}

/// Adds versions one after the other until it is killed, and says how many rows the table has, as soon as it has them.
async fn append_until_killed(folder: &Path) {
    let place = open(folder).expect("a place");
    let mut written = match table(&place).await {
        Ok(lance) => read_all(&lance).await,
        Err(lance::Error::DatasetNotFound { .. }) => 0,
        Err(error) => panic!("{error}"),
    };
    loop {
        let mode = if written == 0 { WriteMode::Create } else { WriteMode::Append };
        append(&place, rows(written..written + BATCH), mode).await.expect("a version");
        written += BATCH;
        say_durable(written as u64).expect("the parent reads");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_that_was_acknowledged_is_there_after_its_process_was_killed() {
    const TEST: &str = "every_version_that_was_acknowledged_is_there_after_its_process_was_killed";
    if let Some(arguments) = argument(TEST) {
        return append_until_killed(Path::new(&arguments[0])).await;
    }
    let folder = Place::folder(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = folder.path().to_str().expect("UTF-8");
    let mut there = 0;
    for versions in [1, 5, 20, 40] {
        let acknowledged = kill_after(spawn(TEST, &[path]), versions).expect("SIGKILL").expect("the writer has ended before it was killed");
        let place = open(folder.path()).expect("a place");
        let found = read_all(&table(&place).await.expect("the table")).await;
        say(&format!("killed after {versions} versions: {acknowledged} rows were acknowledged, {found} are there")).expect("the output");
        assert!(
            found as u64 >= acknowledged && found >= there + versions as i64 * BATCH,
            "{acknowledged} rows were acknowledged, {found} are there"
        );
        assert!(found % BATCH == 0 && found as u64 <= acknowledged + BATCH as u64, "a version is there in part: {found}");
        there = found;
    }
}
