//! Runs a foreign program and measures it from outside: its standard output, CPU, peak memory, and
//! the machine's busy time while it runs.
//!
//! fio reports the CPU of its timed region itself. The totals measured here include its set-up
//! (filling buffers, parsing), so the caller subtracts the difference from the machine's busy time.

use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::meter::{busy_seconds, cpu_seconds};

pub(crate) fn launch(words: Vec<OsString>) -> Result<String, String> {
    let mut words = words.into_iter();
    let program = words.next().ok_or("a program to launch is missing")?;
    let busy_before = busy_seconds()?;
    let started = Instant::now();
    let output = Command::new(&program)
        .args(words)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let wall_seconds = started.elapsed().as_secs_f64();
    let busy_seconds = busy_seconds()? - busy_before;
    let (cpu, peak_bytes) = cpu_seconds(libc::RUSAGE_CHILDREN)?;
    if !output.status.success() {
        return Err(format!("{} ended with {}: {}", program.display(), output.status, String::from_utf8_lossy(&output.stdout).trim()));
    }
    Ok(format!(
        "{}\n{{\"wallSeconds\":{wall_seconds:.6},\"userSeconds\":{:.6},\"systemSeconds\":{:.6},\"busySeconds\":{busy_seconds:.3},\"peakBytes\":{peak_bytes}}}",
        String::from_utf8_lossy(&output.stdout).trim_end(),
        cpu.user,
        cpu.system
    ))
}
