//! Several processes commit to one table at once: every commit is in the log once, and every row can be read.

#[allow(dead_code, reason = "every test binary uses its own part of it")]
#[path = "../../../crates/deepring-tensors/tests/harness/child.rs"]
mod children;

use children::{argument, spawn};
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;
use deepring::Engine;
use deepring_object_store::DeepringStore;
use deltalake_core::kernel::{DataType, PrimitiveType};
use deltalake_core::{DeltaTable, open_table};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::Arc;
use url::Url;

const WRITERS: i64 = 4;
const COMMITS: i64 = 25;
const ROWS: i64 = 100;

/// Tables of this process are opened through this store.
fn store() -> DeepringStore {
    let engine = Engine::builder().build().expect("an engine");
    let store = DeepringStore::builder(&engine).build().expect("a store");
    engines_delta::register(&store).expect("a URL");
    store
}

fn table_url(folder: &Path) -> Url {
    Url::from_directory_path(folder).expect("an absolute path")
}

/// The rows of one commit: no other commit has one of them.
fn rows(writer: i64, commit: i64) -> RecordBatch {
    let first = (writer * COMMITS + commit) * ROWS;
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + ROWS));
    RecordBatch::try_from_iter_with_nullable([("id", ids, true)]).expect("a batch")
}

/// Appends one commit after the other, once the line arrives that starts all writers.
async fn write(folder: &Path, writer: i64) {
    let store = store();
    let mut table = open_table(table_url(folder)).await.expect("the table");
    say("ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("a line");
    for commit in 0..COMMITS {
        table = append(table, writer, commit).await;
    }
    say(&format!("lost {}", store.stats().creates_lost));
}

/// Appends a commit. delta-rs gives up after 15 lost races; then the commit was not made, and is made again.
async fn append(mut table: DeltaTable, writer: i64, commit: i64) -> DeltaTable {
    loop {
        match table.clone().write([rows(writer, commit)]).await {
            Ok(table) => return table,
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("ransaction") || text.contains("ommit"), "{text}");
                table.update_state().await.expect("the newest version");
            }
        }
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("the parent reads");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_commit_of_four_processes_is_in_the_log_once_and_every_row_is_readable() {
    const TEST: &str = "every_commit_of_four_processes_is_in_the_log_once_and_every_row_is_readable";
    if let Some(arguments) = argument(TEST) {
        return write(Path::new(&arguments[0]), arguments[1].parse().expect("a number")).await;
    }
    let place = tempfile::Builder::new().prefix("delta-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let store = store();
    let table = DeltaTable::try_from_url(table_url(place.path())).await.expect("no table yet");
    let id = DataType::Primitive(PrimitiveType::Long);
    table.create().with_column("id", id, true, None).await.expect("a table");
    assert!(store.stats().puts > 0, "the table was not made through the store: {:?}", store.stats());

    let path = place.path().to_str().expect("UTF-8");
    let mut writers: Vec<_> = (0..WRITERS).map(|writer| spawn(TEST, &[path, &writer.to_string()])).collect();
    let mut outputs: Vec<_> = writers.iter_mut().map(|writer| BufReader::new(writer.stdout.take().expect("its output")).lines()).collect();
    for output in &mut outputs {
        let ready = output.by_ref().map_while(Result::ok).any(|line| line.contains("ready"));
        assert!(ready, "a writer has ended before it was ready");
    }
    for writer in &mut writers {
        writer.stdin.take().expect("its input").write_all(b"go\n").expect("the writer waits");
    }
    let mut lost = 0;
    for (mut writer, output) in writers.into_iter().zip(outputs) {
        let lines: Vec<_> = output.map_while(Result::ok).collect();
        assert!(writer.wait().expect("its end").success(), "{lines:?}");
        let races = lines.iter().find_map(|line| line.strip_prefix("lost ")).expect("a count");
        lost += races.parse::<u64>().expect("a number");
    }
    say(&format!("{} commits, {lost} lost races", WRITERS * COMMITS));
    assert!(lost > 0, "no two writers have met");

    let table = open_table(table_url(place.path())).await.expect("the table");
    assert_eq!(table.version().map(|version| version as i64), Some(WRITERS * COMMITS), "version 0 is the empty table");
    let mut log: Vec<_> =
        std::fs::read_dir(place.path().join("_delta_log")).expect("the log").flatten().map(|entry| entry.file_name()).collect();
    log.retain(|name| Path::new(name).extension().is_some_and(|extension| extension == "json"));
    log.sort();
    let versions: Vec<std::ffi::OsString> = (0..=WRITERS * COMMITS).map(|version| format!("{version:020}.json").into()).collect();
    assert_eq!(log, versions);

    let read = store.stats().bytes_read;
    // A session opens `file:///` by a registry of its own.
    let session = SessionContext::new();
    session.register_object_store(&Url::parse("file:///").expect("a URL"), Arc::new(store.clone()));
    session.register_table("written", table.table_provider().await.expect("a provider")).expect("a table");
    let sql = "select count(*) as n, count(distinct id) as ids, min(id) as least, max(id) as greatest from written";
    let found = session.sql(sql).await.expect("a plan").collect().await.expect("an answer");
    let expected = WRITERS * COMMITS * ROWS;
    let answer = pretty_format_batches(&found).expect("a table").to_string();
    let numbers: Vec<i64> = answer.split(['|', '\n']).filter_map(|cell| cell.trim().parse().ok()).collect();
    assert_eq!(numbers, [expected, expected, 0, expected - 1], "{answer}");
    assert!(store.stats().bytes_read > read, "the rows were not read through the store");
}
