//! Processes of the lab: tools that run to their end, and servers that must not outlive it.

use super::failure;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Runs a tool and returns what it printed.
///
/// # Errors
/// If it cannot be started or fails; the message contains its error output.
pub fn run(program: &str, arguments: &[&str]) -> io::Result<String> {
    run_command(Command::new(program).args(arguments))
}

/// As [`run`], for a command that needs more than arguments.
///
/// # Errors
/// As there.
pub fn run_command(command: &mut Command) -> io::Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| failure(format!("{command:?}: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failure(format!("{command:?} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim())))
}

/// A process that is killed when the value is dropped, and by the kernel when the thread that
/// started it ends.
#[derive(Debug)]
pub struct Server(Child);

impl Server {
    /// Starts a program whose output goes to a file.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(program: impl AsRef<OsStr>, arguments: &[String], log: &Path) -> io::Result<Self> {
        let log = File::create(log)?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let die_with_us = || {
            // SAFETY: no pointers; prctl can be called between fork and exec.
            match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        };
        // SAFETY: the closure only makes a system call.
        unsafe { command.pre_exec(die_with_us) };
        command.spawn().map(Self).map_err(|error| failure(format!("{command:?}: {error}")))
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn ended(&mut self) -> io::Result<Option<std::process::ExitStatus>> {
        self.0.try_wait()
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill(&mut self) -> io::Result<()> {
        self.0.kill()?;
        self.0.wait().map(drop)
    }

    /// Stops the process (SIGSTOP), or continues it.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn pause(&self, paused: bool) -> io::Result<()> {
        let signal = if paused { libc::SIGSTOP } else { libc::SIGCONT };
        // SAFETY: no pointers; the child has not been waited for, so the number is its own.
        match unsafe { libc::kill(self.0.id() as libc::pid_t, signal) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It can have ended already.
        let _ = self.kill();
    }
}
