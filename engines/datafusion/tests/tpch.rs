//! Every query of TPC-H, over `LocalFileSystem` and over deepring: equal answers, and what the store read for them.

use datafusion::prelude::SessionContext;
use deepring_object_store::{DeepringStore, StoreStats};
use engines_tpch as tpch;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use url::Url;

/// Between two ranges that are read together, at most: the default of the store. And two units of direct I/O around each.
const BEYOND_MAX: u64 = (64 << 10) + 2 * 4096;

async fn answer(folder: &Path, sql: &str, store: Option<DeepringStore>) -> String {
    let session = SessionContext::new();
    if let Some(store) = store {
        session.register_object_store(&Url::parse("file:///").expect("a URL"), Arc::new(store));
    }
    tpch::register(&session, folder).await.expect("the tables");
    tpch::answer(&session, sql).await.expect("an answer")
}

async fn both_answer_alike(number: usize) {
    let folder = tpch::data().expect("the tables");
    let store = tpch::store().expect("a store");
    let ours = answer(&folder, tpch::query(number), Some(store.clone())).await;
    let theirs = answer(&folder, tpch::query(number), None).await;
    assert_eq!(ours, theirs, "query {number}");

    let StoreStats { ranges_asked, ranges_fetched, bytes_wanted, bytes_read, .. } = store.stats();
    let line = format!("query {number}: {ranges_asked} ranges in {ranges_fetched} reads, {bytes_wanted} bytes wanted, {bytes_read} read\n");
    // Past the harness, which keeps what `println` has. Nothing depends on it.
    let _closed = std::io::stdout().write_all(line.as_bytes());
    assert!(ranges_fetched > 0 && ranges_fetched <= ranges_asked, "{line}");
    assert!(bytes_read <= bytes_wanted + ranges_asked * BEYOND_MAX, "{line}");
}

macro_rules! queries {
    ($($name:ident $number:literal)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            both_answer_alike($number).await;
        }
    )*};
}

queries! {
    query_1_is_answered_alike_over_both_stores 1
    query_2_is_answered_alike_over_both_stores 2
    query_3_is_answered_alike_over_both_stores 3
    query_4_is_answered_alike_over_both_stores 4
    query_5_is_answered_alike_over_both_stores 5
    query_6_is_answered_alike_over_both_stores 6
    query_7_is_answered_alike_over_both_stores 7
    query_8_is_answered_alike_over_both_stores 8
    query_9_is_answered_alike_over_both_stores 9
    query_10_is_answered_alike_over_both_stores 10
    query_11_is_answered_alike_over_both_stores 11
    query_12_is_answered_alike_over_both_stores 12
    query_13_is_answered_alike_over_both_stores 13
    query_14_is_answered_alike_over_both_stores 14
    query_15_is_answered_alike_over_both_stores 15
    query_16_is_answered_alike_over_both_stores 16
    query_17_is_answered_alike_over_both_stores 17
    query_18_is_answered_alike_over_both_stores 18
    query_19_is_answered_alike_over_both_stores 19
    query_20_is_answered_alike_over_both_stores 20
    query_21_is_answered_alike_over_both_stores 21
    query_22_is_answered_alike_over_both_stores 22
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_of_every_column_is_answered_alike_over_both_stores() {
    let folder = tpch::data().expect("the tables");
    let sql = "select count(*), count(distinct l_comment), sum(l_orderkey), sum(l_quantity), min(l_shipinstruct), max(l_receiptdate), \
               min(l_comment), max(l_comment) from lineitem";
    let store = tpch::store().expect("a store");
    assert_eq!(answer(&folder, sql, Some(store)).await, answer(&folder, sql, None).await);
}

#[tokio::test]
async fn an_answer_without_a_row_is_an_error_so_that_no_comparison_passes_on_nothing() {
    let folder = tpch::data().expect("the tables");
    let session = SessionContext::new();
    tpch::register(&session, &folder).await.expect("the tables");
    let refused = tpch::answer(&session, "select * from nation where n_nationkey < 0").await;
    assert!(refused.is_err_and(|error| error.to_string().contains("no row")));
}
