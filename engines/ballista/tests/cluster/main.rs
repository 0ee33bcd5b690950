//! One scheduler, two executors and clients as processes on loopback, each the program that docs/scale-out.md shows.

mod page;
mod processes;

use engines_tpch as tpch;
use processes::{Cluster, Program, progress};
use std::path::Path;
use std::time::Instant;

fn program() -> Program {
    Program { path: env!("CARGO_BIN_EXE_engines-ballista").into(), environment: Vec::new() }
}

/// What a client needs for a query.
fn statements(folder: &Path, sql: &str) -> Vec<String> {
    tpch::statements(|table| tpch::url(folder, table), sql)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_executors_answer_like_one_process_over_local_files_and_both_read_through_the_store() {
    let folder = tpch::data().expect("the tables");
    let work = processes::folder();
    let cluster = Cluster::start(program(), work.path(), 2);
    for (number, expected) in tpch::answers(&folder, 1..=tpch::QUERIES).await.expect("the answers") {
        let start = Instant::now();
        let answer = cluster.answer(&statements(&folder, tpch::query(number)));
        assert_eq!(answer, expected, "query {number}");
        progress(&format!("query {number}: equal, {:.1} s", start.elapsed().as_secs_f64()));
    }
    for (executor, stats) in cluster.stop().into_iter().enumerate() {
        progress(&format!("executor {executor}: {stats}"));
        assert!(processes::counter(&stats, "bytes_read") > 0, "executor {executor} has read nothing through the store: {stats}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_whose_executor_is_killed_is_answered_by_the_other_one() {
    // It joins six tables, so most of its stages read what others have written.
    const QUERY: usize = 9;
    let folder = tpch::data().expect("the tables");
    let expected = tpch::answers(&folder, [QUERY, 6]).await.expect("the answers");
    let work = processes::folder();
    let mut cluster = Cluster::start(program(), work.path(), 2);

    let start = Instant::now();
    let mut query = cluster.client(&statements(&folder, tpch::query(QUERY)));
    // The first output of a stage: it is lost with its executor, and the stages after it have not begun.
    cluster.await_shuffle_file(0, &mut query);
    cluster.kill(0);
    let killed = start.elapsed();
    assert!(query.is_running(), "the query was over before the executor was killed");

    assert_eq!(query.answer(), expected[0].1);
    progress(&format!("killed after {:.1} s, answered after {:.1} s", killed.as_secs_f64(), start.elapsed().as_secs_f64()));
    assert_eq!(cluster.answer(&statements(&folder, tpch::query(6))), expected[1].1, "the next query");
    let stats = cluster.stop();
    assert!(stats.len() == 1 && processes::counter(&stats[0], "bytes_read") > 0, "{stats:?}");
}
