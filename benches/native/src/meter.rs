//! The cost of one timed region: wall time, this process's CPU, the whole machine's busy time.
//!
//! The machine's busy time (`/proc/stat`, in ticks of 10 ms) includes kernel threads that work for
//! a process without being charged to it. It also includes all other processes, so the parent
//! subtracts the noise it measured while nothing ran.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::time::Instant;

/// The start of a timed region.
pub(crate) struct Meter {
    started: Instant,
    cpu: CpuSeconds,
    busy_seconds: f64,
}

/// CPU seconds of this process, all threads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuSeconds {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

/// A region that has ended.
pub(crate) struct Measured {
    wall_seconds: f64,
    user_seconds: f64,
    system_seconds: f64,
    busy_seconds: f64,
    peak_bytes: u64,
}

impl Meter {
    pub(crate) fn start() -> Result<Self, String> {
        let busy_seconds = busy_seconds()?;
        Ok(Self { cpu: cpu_seconds(libc::RUSAGE_SELF)?.0, busy_seconds, started: Instant::now() })
    }

    pub(crate) fn stop(self) -> Result<Measured, String> {
        let wall_seconds = self.started.elapsed().as_secs_f64();
        let (cpu, _) = cpu_seconds(libc::RUSAGE_SELF)?;
        Ok(Measured {
            wall_seconds,
            user_seconds: cpu.user - self.cpu.user,
            system_seconds: cpu.system - self.cpu.system,
            busy_seconds: busy_seconds()? - self.busy_seconds,
            peak_bytes: peak_bytes()?,
        })
    }
}

impl Measured {
    /// The object that every contender reports. `ran` is the path that moved the bytes, in a few
    /// words.
    pub(crate) fn json(&self, bytes: u64, operations: u64, ran: &str) -> String {
        format!(
            r#"{{"wallSeconds":{:.9},"userSeconds":{:.6},"systemSeconds":{:.6},"busySeconds":{:.3},"peakBytes":{},"bytes":{bytes},"operations":{operations},"ran":"{ran}"}}"#,
            self.wall_seconds, self.user_seconds, self.system_seconds, self.busy_seconds, self.peak_bytes
        )
    }
}

/// The object of an outcome with further measurements.
pub(crate) fn with_extra(json: &str, extra: &[(&str, f64)]) -> String {
    let extra: Vec<String> = extra.iter().map(|(name, value)| format!(r#""{name}":{value}"#)).collect();
    format!(r#"{},"extra":{{{}}}}}"#, json.trim_end_matches('}'), extra.join(","))
}

/// CPU seconds and the largest resident set in bytes, of this process or of its ended children.
pub(crate) fn cpu_seconds(who: libc::c_int) -> Result<(CpuSeconds, u64), String> {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: getrusage fills the structure it is given.
    let status = unsafe { libc::getrusage(who, usage.as_mut_ptr()) };
    if status != 0 {
        return Err(format!("getrusage: {}", io::Error::last_os_error()));
    }
    // SAFETY: the call above succeeded and so filled it.
    let usage = unsafe { usage.assume_init() };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok((CpuSeconds { user: seconds(usage.ru_utime), system: seconds(usage.ru_stime) }, usage.ru_maxrss as u64 * 1024))
}

/// Busy seconds of all processors since boot: user, nice, system, irq, softirq. Stolen time is left
/// out, because the host used it.
pub(crate) fn busy_seconds() -> Result<f64, String> {
    let text = fs::read_to_string("/proc/stat").map_err(|error| format!("/proc/stat: {error}"))?;
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = ticks[..] else {
        return Err(format!("/proc/stat begins with an unknown line: {line}"));
    };
    // SAFETY: sysconf reads a constant of the system.
    let ticks_per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Ok((user + nice + system + irq + softirq) as f64 / ticks_per_second as f64)
}

/// The largest resident set of this process so far.
pub(crate) fn peak_bytes() -> Result<u64, String> {
    status_bytes("VmHWM:")
}

/// The resident set of this process now.
pub(crate) fn resident_bytes() -> Result<u64, String> {
    status_bytes("VmRSS:")
}

/// The peak begins anew.
pub(crate) fn forget_peak() -> Result<(), String> {
    fs::write("/proc/self/clear_refs", "5").map_err(|error| format!("/proc/self/clear_refs: {error}"))
}

fn status_bytes(name: &str) -> Result<u64, String> {
    let text = fs::read_to_string("/proc/self/status").map_err(|error| format!("/proc/self/status: {error}"))?;
    let kilobytes = text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kilobytes.map(|kilobytes| kilobytes * 1024).ok_or_else(|| format!("/proc/self/status has no {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_region_is_charged_to_the_process() -> Result<(), String> {
        let meter = Meter::start()?;
        let started = Instant::now();
        let mut sum = 0_u64;
        while started.elapsed().as_millis() < 60 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let measured = meter.stop()?;
        assert!(measured.user_seconds + measured.system_seconds > 0.01);
        assert!(measured.wall_seconds >= 0.06);
        assert!(measured.peak_bytes > 0);
        Ok(())
    }
}
