//! TPC-H: its tables and its 22 queries, for members that hold one store against another.
//!
//! `tpchgen-cli` makes the tables, a folder of Parquet files for each. The variable `DEEPRING_TPCH` names the folder that
//! they are in; `npm run engines` sets it.

use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::error::{DataFusionError, Result};
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use deepring::Engine;
use deepring_object_store::{BuildError, DeepringStore};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The tables, each a folder.
pub const TABLES: [&str; 8] = ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"];

/// The number of queries, which are numbered from 1.
pub const QUERIES: usize = 22;

const SQL: [&str; QUERIES] = [
    include_str!("../queries/q01.sql"),
    include_str!("../queries/q02.sql"),
    include_str!("../queries/q03.sql"),
    include_str!("../queries/q04.sql"),
    include_str!("../queries/q05.sql"),
    include_str!("../queries/q06.sql"),
    include_str!("../queries/q07.sql"),
    include_str!("../queries/q08.sql"),
    include_str!("../queries/q09.sql"),
    include_str!("../queries/q10.sql"),
    include_str!("../queries/q11.sql"),
    include_str!("../queries/q12.sql"),
    include_str!("../queries/q13.sql"),
    include_str!("../queries/q14.sql"),
    include_str!("../queries/q15.sql"),
    include_str!("../queries/q16.sql"),
    include_str!("../queries/q17.sql"),
    include_str!("../queries/q18.sql"),
    include_str!("../queries/q19.sql"),
    include_str!("../queries/q20.sql"),
    include_str!("../queries/q21.sql"),
    include_str!("../queries/q22.sql"),
];

/// The text of a query, without a semicolon.
///
/// # Panics
/// Panics if there is no query of this number.
#[must_use]
pub fn query(number: usize) -> &'static str {
    SQL[number - 1].trim()
}

/// The folder of the tables.
///
/// # Errors
/// Fails if `DEEPRING_TPCH` is not set, or lacks a table.
pub fn data() -> Result<PathBuf> {
    let advice = "run `npm run engines -- NAME`, which makes the tables and names their folder in DEEPRING_TPCH";
    let folder = std::env::var_os("DEEPRING_TPCH").map(PathBuf::from);
    let folder = folder.ok_or_else(|| DataFusionError::Configuration(advice.to_owned()))?;
    match TABLES.iter().find(|table| !folder.join(table).is_dir()) {
        Some(table) => Err(DataFusionError::Configuration(format!("{} has no {table}: {advice}", folder.display()))),
        None => Ok(folder),
    }
}

/// A store on all files, with statistics of its own and the one engine of the process.
///
/// # Errors
/// Fails if neither a ring nor threads can be started.
pub fn store() -> std::result::Result<DeepringStore, BuildError> {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    if ENGINE.get().is_none() {
        // Of two threads that get here, one drops its engine again.
        let _other = ENGINE.set(Engine::builder().build()?);
    }
    DeepringStore::builder(ENGINE.wait()).build()
}

/// Makes the tables known to a session under their names.
///
/// # Errors
/// Fails if a table cannot be listed, or its files have no schema in common.
pub async fn register(session: &SessionContext, folder: &Path) -> Result<()> {
    for table in TABLES {
        session.register_parquet(table, url(folder, table), ParquetReadOptions::default()).await?;
    }
    Ok(())
}

/// The URL of a table.
#[must_use]
pub fn url(folder: &Path, table: &str) -> String {
    format!("file://{}/{table}/", folder.display())
}

/// Runs a query, and returns its rows as sorted lines. Rows that an `ORDER BY` leaves equal come in any order.
///
/// # Errors
/// Fails if the query does, or finds nothing.
pub async fn answer(session: &SessionContext, sql: &str) -> Result<String> {
    let batches = session.sql(sql).await?.collect().await?;
    let table = pretty_format_batches(&batches)?.to_string();
    rows(&table).ok_or_else(|| DataFusionError::Execution(format!("no row answers {sql}")))
}

/// The answers of one process over `LocalFileSystem`, each with the number of its query.
///
/// # Errors
/// Fails if a table cannot be listed, or a query fails.
pub async fn answers(folder: &Path, queries: impl IntoIterator<Item = usize>) -> Result<Vec<(usize, String)>> {
    let session = SessionContext::new();
    register(&session, folder).await?;
    let mut answers = Vec::new();
    for number in queries {
        answers.push((number, answer(&session, query(number)).await?));
    }
    Ok(answers)
}

/// What a client needs for a query: statements that make the tables known, each at its URL, and the query last.
pub fn statements(url: impl Fn(&str) -> String, sql: &str) -> Vec<String> {
    let table = |name: &&str| format!("CREATE EXTERNAL TABLE {name} STORED AS PARQUET LOCATION '{}'", url(name));
    TABLES.iter().map(table).chain([sql.to_owned()]).collect()
}

/// The rows of a table that was printed, as sorted lines; `None` if there are none.
#[must_use]
pub fn rows(table: &str) -> Option<String> {
    // The first row has the names of the columns.
    let mut lines: Vec<_> = table.lines().filter(|line| line.starts_with('|')).skip(1).map(squeezed).collect();
    lines.sort_unstable();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// A row without the spaces that fill up its columns: their width is that of the widest value.
fn squeezed(line: &str) -> String {
    line.split('|').map(str::trim).collect::<Vec<_>>().join("|")
}
