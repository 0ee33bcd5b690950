//! Loads a safetensors file as the reference implementation does, mapped, and prints what it cost as JSON:
//! `deepring-demo-reference KIND FILE`.
//!
//! | KIND | the tensors at the end of the timed region |
//! |---|---|
//! | `mapped-touched` | in the mapping, which cannot be written to: every page was touched |
//! | `mapped-copied`  | in memory of their own, as after the other contenders |
//!
//! The CRC-32 of the bytes is computed outside of the timed region.
#![expect(clippy::print_stdout, reason = "the results of this program are what it prints")]
#![expect(clippy::print_stderr, reason = "its errors go where a program's errors go")]

use memmap2::Mmap;
use safetensors::SafeTensors;
use std::error::Error;
use std::fs::File;
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::process::ExitCode;
use std::time::Instant;
use std::{fs, io};

const PAGE_BYTES: usize = 4096;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, path] = &arguments[..] else {
        eprintln!("usage: deepring-demo-reference mapped-touched|mapped-copied FILE");
        return ExitCode::from(2);
    };
    match run(kind, path) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{path}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The report of one load, as the demo's `contender.ts` prints it.
fn run(kind: &str, path: &str) -> Result<String, Box<dyn Error>> {
    let cpu = cpu_seconds()?;
    let started = Instant::now();
    let file = File::open(path)?;
    // SAFETY: nothing writes to the file or truncates it while the demo compares its contenders.
    let mapping = unsafe { Mmap::map(&file) }?;
    let tensors = SafeTensors::deserialize(&mapping)?;
    let mut views: Vec<&[u8]> = tensors.iter().map(|(_, view)| view.data()).collect();
    // In the order of the file, which is the fastest for a mapping.
    views.sort_by_key(|data| data.as_ptr());
    let copies: Vec<Vec<u8>> = match kind {
        "mapped-touched" => {
            for view in &views {
                for page in view.chunks(PAGE_BYTES) {
                    black_box(page[0]);
                }
            }
            Vec::new()
        }
        "mapped-copied" => views.iter().map(|view| view.to_vec()).collect(),
        other => return Err(format!("{other} is not a kind").into()),
    };
    let seconds = started.elapsed().as_secs_f64();
    let cpu_seconds = cpu_seconds()? - cpu;
    let peak_bytes = peak_bytes()?;

    let mut sum = crc32fast::Hasher::new();
    if copies.is_empty() {
        for data in views {
            sum.update(data);
        }
    } else {
        for data in &copies {
            sum.update(data);
        }
    }
    let crc32 = sum.finalize();
    let cost = format!(r#"{{"seconds":{seconds},"cpuSeconds":{cpu_seconds},"peakBytes":{peak_bytes},"loopP99Ms":0,"loopMaxMs":0}}"#);
    Ok(format!(r#"{{"cost":{cost},"crc32":{crc32}}}"#))
}

/// CPU seconds of this process, system calls and page faults included.
fn cpu_seconds() -> io::Result<f64> {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is valid for a write of one rusage.
    if unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: getrusage has filled it, and zeros are valid too.
    let usage = unsafe { usage.assume_init() };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok(seconds(usage.ru_utime) + seconds(usage.ru_stime))
}

/// The highest resident memory since the process started, the mapped file included.
fn peak_bytes() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024)
}
