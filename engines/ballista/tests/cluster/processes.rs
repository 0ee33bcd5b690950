//! The processes of a cluster: started, awaited, killed, and ended with the test.

use engines_tpch as tpch;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take that usually takes seconds: on a busy machine, without optimization.
const LIMIT: Duration = Duration::from_mins(5);
/// Between two looks at what cannot be waited for: a port of another process, its files.
const LOOK: Duration = Duration::from_millis(5);

/// A program, and what its processes have in their environment.
#[derive(Clone)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) environment: Vec<(&'static str, String)>,
}

/// A scheduler and its executors.
pub(crate) struct Cluster {
    program: Program,
    scheduler: Running,
    port: u16,
    executors: Vec<Option<Executor>>,
}

struct Executor {
    process: Running,
    work: PathBuf,
}

impl Cluster {
    /// Starts it, and returns once every executor is registered. What they leave is in this folder.
    pub(crate) fn start(program: Program, folder: &Path, executors: usize) -> Self {
        let ports = free_ports(1 + executors);
        let port = ports[0];
        let scheduler = Running::start(&program, &["scheduler".into(), port.to_string()], [Stdio::null(), Stdio::piped()]);
        scheduler.await_port(port);
        let executors = ports[1..].iter().enumerate().map(|(number, &own)| {
            let work = folder.join(format!("executor-{number}"));
            std::fs::create_dir_all(&work).expect("a folder");
            let arguments = ["executor".into(), port.to_string(), own.to_string(), work.display().to_string()];
            (own, Executor { process: Running::start(&program, &arguments, [Stdio::piped(), Stdio::piped()]), work })
        });
        let executors: Vec<_> = executors.collect();
        // An executor listens on its port for results once it is registered.
        for (own, executor) in &executors {
            executor.process.await_port(*own);
        }
        let executors = executors.into_iter().map(|(_, executor)| Some(executor)).collect();
        Self { program, scheduler, port, executors }
    }

    /// Starts a client with these statements.
    pub(crate) fn client(&self, statements: &[String]) -> Client {
        let arguments: Vec<_> = ["client".to_owned(), self.port.to_string()].into_iter().chain(statements.iter().cloned()).collect();
        Client { process: Running::start(&self.program, &arguments, [Stdio::piped(), Stdio::piped()]) }
    }

    /// What a client with these statements prints last, as sorted rows.
    pub(crate) fn answer(&self, statements: &[String]) -> String {
        self.client(statements).answer()
    }

    /// Waits until an executor has written the output of a stage.
    pub(crate) fn await_shuffle_file(&self, number: usize, client: &mut Client) {
        let work = &self.executors[number].as_ref().expect("an executor").work;
        until("a shuffle file", || {
            assert!(client.is_running(), "the query ended without a shuffle file of executor {number}");
            has_file(work)
        });
    }

    /// Kills an executor as `kill -9` does, and returns when it is gone.
    pub(crate) fn kill(&mut self, number: usize) {
        let mut executor = self.executors[number].take().expect("an executor");
        executor.process.child.kill().expect("SIGKILL");
        executor.process.child.wait().expect("its end");
    }

    /// Asks the executors that are left to end, and returns what each has printed: the statistics of its store.
    pub(crate) fn stop(mut self) -> Vec<String> {
        let executors: Vec<_> = self.executors.iter_mut().filter_map(Option::take).collect();
        let ended = executors.into_iter().map(|mut executor| {
            executor.process.terminate();
            let (status, _, errors) = executor.process.finish();
            assert!(status, "an executor failed: {errors}");
            errors.trim().to_owned()
        });
        let ended = ended.collect();
        self.scheduler.terminate();
        ended
    }
}

/// A client whose statements are being answered.
pub(crate) struct Client {
    process: Running,
}

impl Client {
    pub(crate) fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    pub(crate) fn answer(self) -> String {
        let (status, output, errors) = self.process.finish();
        assert!(status, "the client failed: {errors}");
        tpch::rows(&output).unwrap_or_else(|| panic!("the client printed no row: {output}{errors}"))
    }
}

/// A process that ends at the latest when it is dropped.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    pub(crate) fn start(program: &Program, arguments: &[String], [output, errors]: [Stdio; 2]) -> Self {
        let mut command = Command::new(&program.path);
        command.envs(program.environment.iter().map(|(name, value)| (*name, value)));
        let child = command.args(arguments).stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        Self { child: child.expect("a process") }
    }

    fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("its state").is_none()
    }

    /// Waits until it listens on this port.
    pub(crate) fn await_port(&self, port: u16) {
        let pid = self.child.id();
        until("a port", || {
            assert!(Path::new(&format!("/proc/{pid}/exe")).exists(), "the process of port {port} has ended");
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        });
    }

    fn terminate(&mut self) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a process");
        kill_process(pid, Signal::TERM).expect("SIGTERM");
    }

    /// Waits for its end: whether it succeeded, and what it has printed.
    fn finish(mut self) -> (bool, String, String) {
        let mut text = String::new();
        let errors = self.child.stderr.take().map(|mut errors| {
            std::thread::spawn(move || {
                let mut text = String::new();
                errors.read_to_string(&mut text).map(|_| text)
            })
        });
        if let Some(mut output) = self.child.stdout.take() {
            output.read_to_string(&mut text).expect("its output");
        }
        let errors = errors.map_or(String::new(), |thread| thread.join().expect("a thread").expect("its errors"));
        let status = self.child.wait().expect("its end");
        (status.success(), text, errors)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _waited = self.child.wait();
    }
}

/// A folder that goes with the test.
pub(crate) fn folder() -> TempDir {
    tempfile::Builder::new().prefix("cluster-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

/// A counter in what statistics print for `{:?}`.
pub(crate) fn counter(stats: &str, name: &str) -> u64 {
    let (_, rest) = stats.split_once(&format!("{name}: ")).unwrap_or_else(|| panic!("no {name} in {stats}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

/// Whether a folder or one below it has a file that is not empty.
fn has_file(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => has_file(&entry.path()),
        Ok(metadata) => metadata.len() > 0,
        // Removed since.
        Err(_) => false,
    })
}

/// Ports that are free, each with the one after it: an executor needs two.
pub(crate) fn free_ports(count: usize) -> Vec<u16> {
    let mut held = Vec::new();
    let mut ports = Vec::new();
    while ports.len() < count {
        let Ok(first) = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)) else { continue };
        let port = first.local_addr().expect("its address").port();
        if let Some(Ok(second)) = port.checked_add(1).map(|next| TcpListener::bind((Ipv4Addr::LOCALHOST, next))) {
            held.push((first, second));
            ports.push(port);
        }
    }
    ports
}

fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < LIMIT, "no {what} after {LIMIT:?}");
        std::thread::sleep(LOOK);
    }
}

/// Shows a line at once, past the harness, which keeps what `println` has until the test ends.
pub(crate) fn progress(line: &str) {
    // Nothing depends on it.
    let _closed = std::io::stdout().write_all(format!("{line}\n").as_bytes());
}
