//! Other processes: one that has the tier, and one that is killed while it fills it.

use crate::harness::{assert_same, bytes, directory, engines, eventually, say, test_name};
use crate::places::{MIB, at, run};
use crate::remote::Remote;
use deepring::{BackendKind, Engine};
use deepring_tier::v014::TieredStore;
use deepring_tier::v014::object_store::{ObjectStore, ObjectStoreExt};
use deepring_tier::{OpenError, Tier, Validate};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Set in the other process: the directory of the tier.
const DIRECTORY: &str = "DEEPRING_TIER_DIRECTORY";
const BACKEND: &str = "DEEPRING_TIER_BACKEND";
const OBJECTS: u64 = 8;
const LEN: u64 = 3 * MIB + 5;
/// Fills that are in progress at once, at most. The other slots keep their records, however slow the drive is: so a process that
/// is killed while it fills a full tier leaves hits.
const FILLS: u64 = OBJECTS / 2;

fn content(number: u64) -> Vec<u8> {
    bytes(0, LEN as usize, number)
}

fn path(number: u64) -> deepring_tier::v014::object_store::path::Path {
    at(&format!("object-{number}"))
}

/// The same objects with the same tags, in every process.
async fn remote() -> Arc<Remote> {
    let remote = Arc::new(Remote::new());
    for number in 0..OBJECTS {
        remote.objects.put(&path(number), content(number).into()).await.expect("a put");
    }
    remote
}

fn engine(backend: &str) -> Engine {
    let kind = if backend == "Threads" { BackendKind::Threads } else { BackendKind::Uring };
    Engine::builder().backend(kind).build().expect("an engine")
}

/// One slot too few for all objects, so that it evicts, and still has most of them.
fn open(engine: &Engine, directory: &Path, fills: u64) -> Result<Tier, OpenError> {
    Tier::builder(engine).otherwise(Validate::Immutable).max_fill_bytes(fills * LEN).open(directory, 32 << 20)
}

/// Opens the tier of a process that was killed. The kernel can close the files of such a process a moment after its end.
fn open_after(engine: &Engine, directory: &Path, fills: u64) -> Tier {
    let mut tier = None;
    eventually(Duration::from_secs(20), "the lock of a process that was killed is gone", || match open(engine, directory, fills) {
        Err(OpenError::Held(_)) => false,
        opened => {
            tier = Some(opened.expect("a tier"));
            true
        }
    });
    tier.expect("it is open")
}

/// Reads all objects once, asserts that every byte is right, and waits for the fills. Returns the number of hits.
async fn read_all(tier: &Tier, remote: &Arc<Remote>) -> u64 {
    let store = TieredStore::new(tier, Arc::clone(remote) as Arc<dyn ObjectStore>, "memory://");
    for number in 0..OBJECTS {
        let found = store.get(&path(number)).await.expect("an object").bytes().await.expect("bytes");
        assert_same(&found, &content(number), "an object");
    }
    tier.flush().await;
    say(&format!("all objects were read: {:?}", tier.stats()));
    tier.stats().hits
}

/// The other process: it reads all objects over and over, and says so.
fn fill_until_killed(directory: &Path) -> ! {
    let engine = engine(&std::env::var(BACKEND).expect("a backend"));
    let tier = open(&engine, directory, FILLS).expect("a tier");
    run(async {
        let store = TieredStore::new(&tier, remote().await as Arc<dyn ObjectStore>, "memory://");
        for round in 0u64.. {
            for number in 0..OBJECTS {
                let found = store.get(&path((number * 5 + round) % OBJECTS)).await.expect("an object").bytes().await.expect("bytes");
                assert_eq!(found.len() as u64, LEN);
                say_now("read");
            }
        }
    });
    unreachable!("it is killed")
}

/// A line for the other process, past the harness.
fn say_now(line: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("a reader");
}

struct Other(Child);

impl Other {
    fn start(directory: &Path, backend: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("the test binary"));
        command.args([&test_name(), "--exact", "--nocapture", "--test-threads=1"]);
        command.env(DIRECTORY, directory).env(BACKEND, backend).stdin(Stdio::null()).stdout(Stdio::piped());
        Self(command.spawn().expect("another process"))
    }

    /// Waits until it has read this many objects.
    fn wait_for(&mut self, reads: usize) {
        let lines = BufReader::new(self.0.stdout.as_mut().expect("its output")).lines();
        let read = lines.map_while(Result::ok).filter(|line| line.ends_with("read")).take(reads).count();
        assert_eq!(read, reads, "the other process ended");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.0.kill().expect("a process");
        self.0.wait().expect("its end");
    }
}

#[test]
fn a_tier_that_another_process_has_is_refused_at_once() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        fill_until_killed(Path::new(&directory));
    }
    for engine in engines() {
        let place = directory();
        let mut other = Other::start(place.path(), &format!("{:?}", engine.info().backend));
        other.wait_for(1);
        let error = open(&engine, place.path(), FILLS).expect_err("it is taken");
        assert!(matches!(error, OpenError::Held(_)), "{error}");
        drop(other);
        open_after(&engine, place.path(), FILLS);
    }
}

#[test]
fn after_kill_9_there_are_hits_and_every_byte_is_right() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        fill_until_killed(Path::new(&directory));
    }
    for engine in engines() {
        let place = directory();
        let remote = run(remote());
        for (round, reads) in [1, 3, 6, 9, 14, 20, 33].into_iter().enumerate() {
            let mut other = Other::start(place.path(), &format!("{:?}", engine.info().backend));
            other.wait_for(reads);
            drop(other);
            say(&format!("killed after {reads} reads"));
            // Without fills: one that evicts what the other process has left could do so before that is read.
            let hits = run(read_all(&open_after(&engine, place.path(), 0), &remote));
            // The first process can be killed before its first fill has ended. Every other one began with a full tier.
            assert!(hits > 0 || round == 0, "no cell of the process was of use");
            run(read_all(&open_after(&engine, place.path(), OBJECTS), &remote));
        }
    }
}
