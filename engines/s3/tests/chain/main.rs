//! The chain: an S3 server, a tier in each of two executors, and Ballista over them, as processes on loopback.

#[path = "../../../ballista/tests/cluster/processes.rs"]
mod processes;
mod server;

use datafusion::object_store::aws::AmazonS3Builder;
use datafusion::object_store::path::Path as Name;
use datafusion::object_store::{ObjectStore, ObjectStoreExt};
use engines_tpch as tpch;
use processes::{Cluster, Program, counter, progress};
use server::{BUCKET, Server};
use std::path::Path;
use std::time::Instant;

/// Joins six tables, so most of its stages read what others have written.
const JOINS: usize = 9;

fn program(server: &Server) -> Program {
    Program { path: env!("CARGO_BIN_EXE_engines-s3").into(), environment: server.environment() }
}

fn statements(number: usize) -> Vec<String> {
    tpch::statements(|table| format!("s3://{BUCKET}/{table}/"), tpch::query(number))
}

/// Puts the tables into the bucket, and returns how many bytes they have.
async fn send(folder: &Path, server: &Server) -> u64 {
    let builder = server.environment().into_iter().fold(AmazonS3Builder::new(), |builder, (key, value)| {
        builder.with_config(key.to_lowercase().parse().expect("a key of its"), value)
    });
    let bucket: &dyn ObjectStore = &builder.build().expect("a store");
    let mut bytes = 0;
    for table in tpch::TABLES {
        for file in std::fs::read_dir(folder.join(table)).expect("a table") {
            let file = file.expect("a file");
            let text = std::fs::read(file.path()).expect("its bytes");
            bytes += text.len() as u64;
            let name = Name::from(format!("{table}/{}", file.file_name().display()));
            bucket.put(&name, text.into()).await.expect("a put");
        }
    }
    bytes
}

/// Answers queries, and compares.
fn compare(cluster: &Cluster, answers: &[(usize, String)], pass: &str) {
    for (number, expected) in answers {
        let start = Instant::now();
        assert_eq!(cluster.answer(&statements(*number)), *expected, "query {number}");
        progress(&format!("{pass}, query {number}: equal, {:.1} s", start.elapsed().as_secs_f64()));
    }
}

/// The statistics of the tiers of a cluster that ends. All that they have fetched is on their drives: nothing was asked for
/// that was there.
fn stop(cluster: Cluster) -> Vec<String> {
    let stats = cluster.stop();
    for stats in &stats {
        progress(stats);
        // Cells are filled up to whole units.
        assert!(counter(stats, "bytes_filled") >= counter(stats, "bytes_from_remote"), "{stats}");
        assert!(counter(stats, "hits") > 0 && counter(stats, "bad_cells") == 0, "{stats}");
    }
    stats
}

#[tokio::test(flavor = "multi_thread")]
async fn executors_answer_from_s3_and_fetch_each_cell_once_also_after_one_was_killed() {
    let folder = tpch::data().expect("the tables");
    let answers = tpch::answers(&folder, 1..=tpch::QUERIES).await.expect("the answers");
    let server = Server::start();
    let bytes = send(&folder, &server).await;
    let work = processes::folder();

    let cluster = Cluster::start(program(&server), work.path(), 2);
    compare(&cluster, &answers, "first");
    let first = stop(cluster);
    for stats in &first {
        let fetched = counter(stats, "bytes_from_remote");
        assert!(fetched > 0 && fetched <= bytes, "of {bytes} bytes: {stats}");
    }

    let mut cluster = Cluster::start(program(&server), work.path(), 2);
    let mut query = cluster.client(&statements(JOINS));
    // The first output of a stage: it is lost with its executor, and the stages after it have not begun.
    cluster.await_shuffle_file(0, &mut query);
    cluster.kill(0);
    assert!(query.is_running(), "the query was over before the executor was killed");
    assert_eq!(query.answer(), answers[JOINS - 1].1);
    let survived = stop(cluster);

    // What a tier had, it still has, also that of the executor that was killed.
    let cluster = Cluster::start(program(&server), work.path(), 2);
    compare(&cluster, &answers, "last");
    let last = stop(cluster);
    let fetched = |stats: &[&String]| stats.iter().map(|stats| counter(stats, "bytes_from_remote")).sum::<u64>();
    let survivor = fetched(&[&first[1], &survived[0], &last[1]]);
    assert!(survivor <= bytes, "it has fetched {survivor} bytes, and all tables have {bytes}");
    let killed = fetched(&[&first[0], &last[0]]);
    assert!(killed <= bytes, "it has fetched {killed} bytes, and all tables have {bytes}");
}
