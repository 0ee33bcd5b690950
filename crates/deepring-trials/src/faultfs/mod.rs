//! A file system with faults on demand: errors at chosen positions, short transfers of odd lengths,
//! interruptions, stalls, and a server that can be killed with requests in flight. No disk does
//! this on request, and network file systems do it without one.
//!
//! ```text
//!   test ──► engine ──► kernel ──► /dev/fuse ──► server process ──► unnamed files
//!     └── Mounted ── "read 4096..8192 1 errno 5" ──► its standard input
//! ```
//!
//! The kernel's FUSE is real; only the disk is simulated. Mounting is a plain `mount(2)`, so it
//! needs root and `/dev/fuse`, and no library or tool. [`unavailable`] says what is missing.

mod fault;
mod server;
mod tree;

pub use fault::{Call, Effect, Fault, Faults, Verdict};
pub use server::serve;

use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Why nothing can be mounted here, or `None` if it can.
pub fn unavailable() -> Option<&'static str> {
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } != 0 {
        return Some("mounting needs root");
    }
    if !Path::new("/dev/fuse").exists() {
        return Some("there is no /dev/fuse");
    }
    None
}

/// A mounted fault file system, and the connection to its server. Dropping the value ends both.
#[derive(Debug)]
pub struct Mounted {
    path: PathBuf,
    server: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Mounted {
    /// Starts a server for `path`, an empty directory, with content kept in `backing`. With
    /// `direct`, every file bypasses the page cache, however it was opened; else `O_DIRECT`
    /// decides. The mount is visible in the calling thread's mount namespace.
    ///
    /// # Errors
    /// The server's program is not built, or it cannot mount.
    pub fn start(path: &Path, backing: &Path, direct: bool) -> io::Result<Self> {
        let mut command = Command::new(program()?);
        command.arg(path).arg(backing).args(direct.then_some("--direct"));
        let mut server = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let commands = server.stdin.take();
        let Some(answers) = server.stdout.take() else { return Err(io::Error::other("the server has no output")) };
        let mut mounted = Self { path: path.into(), server, commands, answers: BufReader::new(answers) };
        match mounted.answer()?.as_str() {
            "mounted" => Ok(mounted),
            other => Err(io::Error::other(format!("the server could not mount: {other}"))),
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a fault.
    ///
    /// # Errors
    /// The server is gone.
    pub fn inject(&mut self, fault: &Fault) -> io::Result<()> {
        self.command(&fault.to_string())
    }

    /// Removes all faults.
    ///
    /// # Errors
    /// The server is gone.
    pub fn clear(&mut self) -> io::Result<()> {
        self.command("clear")
    }

    /// How often a fault was triggered so far. A test without any has proven nothing.
    ///
    /// # Errors
    /// The server is gone.
    pub fn triggered(&mut self) -> io::Result<u64> {
        self.send("triggered")?;
        self.answer()?.parse().map_err(|_| io::Error::other("no number"))
    }

    /// Kills the server, with any requests it holds.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(&mut self) -> io::Result<()> {
        self.server.kill()?;
        self.server.wait().map(drop)
    }

    fn command(&mut self, line: &str) -> io::Result<()> {
        self.send(line)?;
        match self.answer()?.as_str() {
            "ok" => Ok(()),
            other => Err(io::Error::other(other.to_owned())),
        }
    }

    fn send(&mut self, line: &str) -> io::Result<()> {
        self.commands.as_mut().map_or(Ok(()), |commands| writeln!(commands, "{line}"))
    }

    fn answer(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // The mount goes first, so that the path is free at once; then the server, with any
        // requests it holds.
        unmount(&self.path);
        self.commands = None;
        // A server that cannot be killed cannot be reported from here.
        let _ = self.kill();
    }
}

/// Detaches the file system from where it is mounted. Its users get errors once the server is gone.
fn unmount(path: &Path) {
    // It can be gone already: by hand, or with its mount namespace.
    let _ = server::detach(path);
}

/// The server's program, which cargo builds beside the tests and programs of this crate.
fn program() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let near = own.ancestors().skip(1).take(2).map(|directory| directory.join("faultfs"));
    let found = near.into_iter().find(|path| path.is_file());
    found.ok_or_else(|| io::Error::other("the program faultfs is not built: cargo build -p deepring-trials --bin faultfs"))
}
