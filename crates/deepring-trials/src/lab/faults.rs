//! Drives that fail and drives that stall under a running engine: nbdkit's error and delay filters,
//! and SIGSTOP.
//!
//! Two drives: a file is read on one, blocks are written and read back on the other, which the
//! delay filter slows all the time. What one drive does must not affect the other.

use super::machine::{Delays, Drive, Machine, Shape};
use super::protocol::{Failed, Order, Progress, Report};
use super::{Artifacts, DRIVE_BYTES, FILE_SYSTEM_BYTES, failure, say};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// The delay of every request on the second drive.
const DELAY_MS: u64 = 60;

/// Shorter than the 30 seconds after which the nvme driver resets the drive: a stall, not a
/// failure.
const STALL: Duration = Duration::from_secs(6);

/// Requests in flight when a drive was broken or repaired have ended after this time.
const SETTLING: Duration = Duration::from_secs(2);

/// How long each state of a drive is observed.
const LOOK: Duration = Duration::from_secs(2);

/// QEMU's drive reports any error of its image as a medium error (unrecovered read, write fault),
/// and so does the kernel to the engine.
const MEDIUM_ERROR: &str = "ENODATA";

/// Errors that a broken drive must cause.
const ERRORS_MIN: usize = 3;

/// How long a broken drive has to cause them, and a guest to answer.
const LIMIT: Duration = Duration::from_secs(60);

/// The results of requests under one name.
#[derive(Debug, Default)]
struct Seen {
    requests: u64,
    longest_ms: u64,
    errors: Vec<Failed>,
}

struct Watch {
    machine: Machine,
    seen: BTreeMap<String, Seen>,
}

/// What was observed in total.
#[derive(Debug, Default, Clone, Copy)]
pub struct FaultSummary {
    /// Errors, each of the right kind.
    pub errors: usize,
    /// The longest request, on the drive that stalled.
    pub stall_ms: u64,
}

/// Breaks, repairs, slows and stalls the drives.
///
/// # Errors
/// If an error has the wrong kind or lacks a field, if there is one where there should be none, if
/// bytes are wrong, or if requests do not continue afterwards.
pub fn run(artifacts: &Artifacts, seed: u64) -> io::Result<FaultSummary> {
    super::format(&Drive::blank(artifacts, "first", DRIVE_BYTES)?, FILE_SYSTEM_BYTES)?;
    Drive::blank(artifacts, "second", DRIVE_BYTES)?;
    let slow = Delays { read_ms: DELAY_MS, write_ms: DELAY_MS };
    let (first, second) = (Drive::serve(artifacts, "first", Delays::default())?, Drive::serve(artifacts, "second", slow)?);
    let shape = Shape { drives: &[&first, &second], sector_bytes: 512, ..Shape::default() };
    let machine = Machine::boot(artifacts, &shape)?;
    let mut watch = Watch { machine, seen: BTreeMap::new() };
    watch.machine.order(&Order::Stress(seed))?;
    watch.wait_for_both_drives()?;
    let mut summary = FaultSummary::default();

    watch.expect_no_errors("the start", LOOK)?;
    let slow = watch.seen["raw"].longest_ms;
    if slow < DELAY_MS {
        return Err(failure(format!("the longest request on the drive with a delay of {DELAY_MS} ms took {slow} ms")));
    }

    summary.errors += watch.expect_errors("file", &first.read_error, "read")?;
    summary.errors += watch.expect_errors("raw", &second.read_error, "read")?;
    summary.errors += watch.expect_errors("raw", &second.write_error, "write")?;

    File::create(&second.flush_error)?;
    watch.expect_sync(MEDIUM_ERROR, "of the failed flush")?;
    watch.expect_sync("ERR_DEEPRING_SYNC_FAILED", "after a failed one")?;
    fs::remove_file(&second.flush_error)?;
    watch.expect_sync("ERR_DEEPRING_SYNC_FAILED", "of the repaired drive: lost bytes do not come back")?;
    watch.expect_no_errors("a failed flush", LOOK)?;
    summary.errors += 3;

    first.pause(true)?;
    watch.watch_for(STALL)?;
    first.pause(false)?;
    watch.expect_no_errors("the stall of the first drive", SETTLING + LOOK)?;
    summary.stall_ms = watch.seen["file"].longest_ms;
    if u128::from(summary.stall_ms) < STALL.as_millis() / 2 {
        return Err(failure(format!("the stall had no effect: the longest request took {} ms", summary.stall_ms)));
    }

    watch.machine.order(&Order::Stop)?;
    loop {
        match watch.machine.next(LIMIT)? {
            Report::Verified => break,
            report => watch.take(report)?,
        }
    }
    watch.machine.off()?;
    say(&format!("faults: {} errors, each typed; a stall of {} s took {} ms", summary.errors, STALL.as_secs(), summary.stall_ms));
    Ok(summary)
}

impl Watch {
    fn take(&mut self, report: Report) -> io::Result<()> {
        match report {
            Report::Progress(Progress { device, requests, longest_ms }) => {
                let seen = self.seen.entry(device).or_default();
                seen.requests += requests;
                seen.longest_ms = seen.longest_ms.max(longest_ms);
            }
            Report::Failed(error) => self.seen.entry(error.device.clone()).or_default().errors.push(error),
            other => return Err(self.machine.error(&format!("{other:?}"))),
        }
        Ok(())
    }

    fn watch_for(&mut self, lasting: Duration) -> io::Result<()> {
        let until = Instant::now() + lasting;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            if let Some(report) = self.machine.next_within(left)? {
                self.take(report)?;
            }
        }
        Ok(())
    }

    fn wait_for_both_drives(&mut self) -> io::Result<()> {
        let started = Instant::now();
        while self.seen.values().filter(|seen| seen.requests > 0).count() < 2 {
            if started.elapsed() > LIMIT {
                return Err(self.machine.error("one of the drives completes no requests"));
            }
            let report = self.machine.next(LIMIT)?;
            self.take(report)?;
        }
        Ok(())
    }

    /// Both drives complete requests, and nothing fails.
    fn expect_no_errors(&mut self, after: &str, lasting: Duration) -> io::Result<()> {
        self.seen.values_mut().for_each(|seen| *seen = Seen::default());
        self.watch_for(lasting)?;
        for (device, seen) in &self.seen {
            if seen.requests == 0 || !seen.errors.is_empty() {
                return Err(self.machine.error(&format!("after {after}, {device}: {seen:?}")));
            }
        }
        Ok(())
    }

    /// While the file exists, requests in one direction on one drive must fail, with complete
    /// errors, and those on the other drive must not. Afterwards nothing fails.
    fn expect_errors(&mut self, device: &str, switch: &Path, direction: &str) -> io::Result<usize> {
        self.seen.values_mut().for_each(|seen| *seen = Seen::default());
        File::create(switch)?;
        let started = Instant::now();
        while self.seen[device].errors.len() < ERRORS_MIN && started.elapsed() < LIMIT {
            self.watch_for(Duration::from_millis(200))?;
        }
        fs::remove_file(switch)?;
        let errors = std::mem::take(&mut self.seen.entry(device.into()).or_default().errors);
        if errors.len() < ERRORS_MIN {
            return Err(self.machine.error(&format!("{direction} of {device}: only {} errors from a broken drive", errors.len())));
        }
        for error in &errors {
            let Failed { code, syscall, position: Some(_), requested, transferred, .. } = error else {
                return Err(failure(format!("an error without a position: {error:?}")));
            };
            if code != MEDIUM_ERROR || syscall != direction || transferred >= requested {
                return Err(failure(format!("{direction} of {device}: {error:?}")));
            }
        }
        let others = self.seen.iter().find(|(name, seen)| *name != device && !seen.errors.is_empty());
        if let Some((name, seen)) = others {
            return Err(failure(format!("the drive of {device} was broken, and {name} had {:?}", seen.errors)));
        }
        say(&format!("faults: {} errors for each {direction} on the drive of {device}, such as {:?}", errors.len(), errors[0]));
        self.watch_for(SETTLING)?;
        self.expect_no_errors(&format!("the repair ({direction} of {device})"), LOOK)?;
        Ok(errors.len())
    }

    fn expect_sync(&mut self, expected: &str, which: &str) -> io::Result<()> {
        self.machine.order(&Order::Sync)?;
        loop {
            match self.machine.next(LIMIT)? {
                Report::Synced(how) if how == expected => return Ok(()),
                Report::Synced(how) => return Err(failure(format!("the sync {which} ended with {how}, not {expected}"))),
                report => self.take(report)?,
            }
        }
    }
}
