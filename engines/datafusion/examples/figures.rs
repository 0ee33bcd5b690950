//! The figures: TPC-H 3 and 6 and a full scan over `LocalFileSystem` and over deepring, cold, one after the other in rounds.
//!
//! `figures FOLDER ROUNDS` prints the median of each: seconds, seconds of CPU, and megabytes from the drive. It drops the
//! page cache before each run, that of the tables alone if it may not drop all of it.

use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use engines_tpch as tpch;
use rustix::fs::{Advice, fadvise};
use std::error::Error;
use std::fs::{File, read_dir, read_to_string, write};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use url::Url;

/// Reads every value of the columns that hold most of the bytes.
const SCAN: &str =
    "select count(*), min(l_comment), max(l_comment), sum(l_extendedprice), min(l_shipinstruct), sum(l_partkey) from lineitem";

/// What one run took.
#[derive(Debug, Clone, Copy)]
struct Run {
    seconds: f64,
    cpu_seconds: f64,
    megabytes: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, rounds] = arguments.as_slice() else { return Err("figures FOLDER ROUNDS".into()) };
    let (folder, rounds) = (Path::new(folder), rounds.parse::<usize>()?.max(1));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut out = std::io::stdout();
    for (name, sql) in [("TPC-H 3", tpch::query(3)), ("TPC-H 6", tpch::query(6)), ("scan", SCAN)] {
        let (mut local, mut ours) = (Vec::new(), Vec::new());
        for round in 0..=rounds {
            let results = [run(&runtime, folder, sql, false)?, run(&runtime, folder, sql, true)?];
            if results[0].1 != results[1].1 {
                return Err(format!("{name}: the answers differ").into());
            }
            // The first round loads the program and the metadata of the file system.
            if round > 0 {
                local.push(results[0].0);
                ours.push(results[1].0);
            }
        }
        let (local, ours) = (median(&local), median(&ours));
        let ratio = local.seconds / ours.seconds;
        writeln!(out, "{name}: {ratio:.2}x, LocalFileSystem {}, deepring {}, medians of {rounds}", shown(local), shown(ours))?;
    }
    Ok(())
}

fn run(runtime: &tokio::runtime::Runtime, folder: &Path, sql: &str, ours: bool) -> Result<(Run, String), Box<dyn Error>> {
    let session = SessionContext::new();
    if ours {
        session.register_object_store(&Url::parse("file:///")?, Arc::new(tpch::store()?));
    }
    drop_cache(folder)?;
    let (start, cpu, read) = (Instant::now(), cpu_seconds()?, megabytes_read()?);
    let answer = runtime.block_on(async {
        tpch::register(&session, folder).await?;
        tpch::answer(&session, sql).await
    });
    let answer = answer.map_err(|error: DataFusionError| format!("{sql}: {error}"))?;
    let run = Run { seconds: start.elapsed().as_secs_f64(), cpu_seconds: cpu_seconds()? - cpu, megabytes: megabytes_read()? - read };
    Ok((run, answer))
}

/// Drops what the page cache has of the tables.
fn drop_cache(folder: &Path) -> Result<(), Box<dyn Error>> {
    for table in read_dir(folder)?.collect::<Result<Vec<_>, _>>()? {
        if table.file_type()?.is_dir() {
            for file in read_dir(table.path())? {
                let file = File::open(file?.path())?;
                file.sync_all()?;
                fadvise(&file, 0, None, Advice::DontNeed)?;
            }
        }
    }
    // Only root may. It drops the metadata of the file system, too.
    let _refused = write("/proc/sys/vm/drop_caches", "3");
    Ok(())
}

/// The processor time of this process.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    /// `USER_HZ`, in which the kernel counts for programs on every architecture that deepring supports.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit(')').next().ok_or("no name in /proc/self/stat")?;
    // After the name in parentheses, user time is the 12th field and system time the 13th.
    let ticks: Result<Vec<f64>, _> = after_name.split_whitespace().skip(11).take(2).map(str::parse::<f64>).collect();
    Ok(ticks?.iter().sum::<f64>() / TICKS_PER_SECOND)
}

/// What this process has read from drives.
fn megabytes_read() -> Result<f64, Box<dyn Error>> {
    let io = read_to_string("/proc/self/io")?;
    let bytes = io.lines().find_map(|line| line.strip_prefix("read_bytes: ")).ok_or("no read_bytes in /proc/self/io")?;
    Ok(bytes.parse::<f64>()? / 1e6)
}

fn median(runs: &[Run]) -> Run {
    let middle = |value: fn(&Run) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(value).collect();
        values.sort_unstable_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Run { seconds: middle(|run| run.seconds), cpu_seconds: middle(|run| run.cpu_seconds), megabytes: middle(|run| run.megabytes) }
}

fn shown(run: Run) -> String {
    format!("{:.3} s ({:.2} s CPU, {:.0} MB)", run.seconds, run.cpu_seconds, run.megabytes)
}
