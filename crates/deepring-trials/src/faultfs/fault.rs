//! What can go wrong in the fault file system, and the faults that are set now.
//!
//! A fault names a call, a range of file positions and a number of times. It is written as one line
//! of words, because the test sends it to the process that serves: `read 4096..8192 2 errno 5`
//! fails the next two reads that touch these bytes with `EIO`.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A call that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// A read of data.
    Read,
    /// A write of data.
    Write,
    /// `fsync` and `fdatasync`.
    Sync,
    /// `fsync` of a directory. Its position is the number of the inode: 1 of the one that is mounted.
    SyncDirectory,
    /// `fallocate`.
    Allocate,
    /// A change of the file size.
    Truncate,
    /// `close`: the kernel's `FLUSH`.
    Close,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The call fails with this error number, and no bytes are moved.
    Errno(i32),
    /// Fewer bytes are moved than requested: any number from one on, odd ones included. Only where
    /// no file uses the page cache: for the cache a short read is the end of the file, and the
    /// kernel sends the rest of a short direct transfer through the cache.
    Short,
    /// The call takes this long. Other calls proceed.
    Stall(Duration),
    /// A direct transfer that does not begin and end on a multiple of 512 fails with `EINVAL`, as on a server that passes
    /// it on to a disk. It does not count as triggered.
    Unaligned,
}

/// One thing that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The call it happens to.
    pub call: Call,
    /// The bytes of a file that a read, write or `fallocate` must touch, or the number of a directory. For the other calls
    /// any range matches.
    pub range: Range<u64>,
    /// How often it happens; `u64::MAX` means always.
    pub times: u64,
    /// What happens.
    pub effect: Effect,
}

impl Fault {
    /// Happens to every call of this kind, at any position, always.
    pub fn always(call: Call, effect: Effect) -> Self {
        Self { call, range: 0..u64::MAX, times: u64::MAX, effect }
    }
}

const CALLS: &[(&str, Call)] = &[
    ("read", Call::Read),
    ("write", Call::Write),
    ("sync", Call::Sync),
    ("sync-directory", Call::SyncDirectory),
    ("allocate", Call::Allocate),
    ("truncate", Call::Truncate),
    ("close", Call::Close),
];

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = CALLS.iter().find(|(_, call)| *call == self.call).map_or("?", |(name, _)| name);
        write!(f, "{name} {}..{} {} ", self.range.start, self.range.end, self.times)?;
        match self.effect {
            Effect::Errno(errno) => write!(f, "errno {errno}"),
            Effect::Short => write!(f, "short"),
            Effect::Stall(time) => write!(f, "stall {}", time.as_millis()),
            Effect::Unaligned => write!(f, "unaligned"),
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let wrong = || format!("not a fault: {line}");
        let words: Vec<&str> = line.split_whitespace().collect();
        let [call, range, times, effect @ ..] = words.as_slice() else { return Err(wrong()) };
        let call = CALLS.iter().find(|(name, _)| name == call).map(|&(_, call)| call).ok_or_else(wrong)?;
        let (start, end) = range.split_once("..").ok_or_else(wrong)?;
        let number = |word: &str| word.parse::<u64>().map_err(|_| wrong());
        let effect = match effect {
            ["errno", errno] => Effect::Errno(number(errno)? as i32),
            ["short"] => Effect::Short,
            ["unaligned"] => Effect::Unaligned,
            ["stall", milliseconds] => Effect::Stall(Duration::from_millis(number(milliseconds)?)),
            _ => return Err(wrong()),
        };
        Ok(Self { call, range: number(start)?..number(end)?, times: number(times)?, effect })
    }
}

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verdict {
    /// It fails with this.
    pub errno: Option<i32>,
    /// It moves this many bytes instead of all.
    pub short: Option<u32>,
    /// It takes this long.
    pub stall: Option<Duration>,
    /// It fails with `EINVAL` if it is direct.
    pub unaligned: bool,
}

/// The faults of a mounted file system.
#[derive(Debug)]
pub struct Faults(Mutex<State>);

#[derive(Debug)]
struct State {
    faults: Vec<Fault>,
    /// How often a fault was triggered.
    triggered: u64,
    /// Chooses the length of a short transfer.
    seed: u64,
}

impl Faults {
    /// No faults yet; `seed` chooses the lengths of short transfers.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(State { faults: Vec::new(), triggered: 0, seed }))
    }

    /// Adds a fault.
    pub fn add(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Removes all faults.
    pub fn clear(&self) {
        self.lock().faults.clear();
    }

    /// How often a fault was triggered.
    pub fn triggered(&self) -> u64 {
        self.lock().triggered
    }

    /// What happens to a call on `len` bytes at `position`. `may_be_short`: the page cache is not
    /// involved.
    pub fn judge(&self, call: Call, position: u64, len: u64, may_be_short: bool) -> Verdict {
        let mut state = self.lock();
        let State { faults, triggered, seed } = &mut *state;
        let end = position.saturating_add(len);
        let mut verdict = Verdict::default();
        for fault in faults.iter_mut().filter(|fault| fault.call == call && fault.times > 0) {
            let touches =
                matches!(call, Call::Sync | Call::Truncate | Call::Close) || position < fault.range.end && fault.range.start < end;
            if !touches {
                continue;
            }
            match fault.effect {
                Effect::Errno(errno) => verdict.errno = verdict.errno.or(Some(errno)),
                Effect::Stall(time) => verdict.stall = verdict.stall.max(Some(time)),
                // Most transfers stay whole, so that a caller who resumes short ones makes
                // progress.
                Effect::Short if may_be_short && len > 1 && next(seed).is_multiple_of(4) => {
                    verdict.short = Some((1 + next(seed) % (len - 1)) as u32);
                }
                Effect::Short => continue,
                Effect::Unaligned => {
                    verdict.unaligned = !position.is_multiple_of(512) || !end.is_multiple_of(512);
                    continue;
                }
            }
            *triggered += 1;
            if fault.times < u64::MAX {
                fault.times -= 1;
            }
        }
        faults.retain(|fault| fault.times > 0);
        verdict
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// splitmix64
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_parsed_from_what_it_prints() {
        for effect in [Effect::Errno(libc::EIO), Effect::Short, Effect::Stall(Duration::from_secs(2)), Effect::Unaligned] {
            for (_, call) in CALLS {
                let fault = Fault { call: *call, range: 7..1 << 40, times: 3, effect };
                assert_eq!(fault.to_string().parse(), Ok(fault));
            }
        }
        for wrong in ["", "read", "read 1..2 3", "read 1 3 short", "read 1..2 3 errno", "chmod 1..2 3 short"] {
            assert!(wrong.parse::<Fault>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_fault_applies_to_its_range_and_only_so_many_times() {
        let faults = Faults::new(1);
        faults.add(Fault { call: Call::Read, range: 100..200, times: 2, effect: Effect::Errno(libc::EIO) });
        let judge = |call, position, len| faults.judge(call, position, len, true).errno;
        assert_eq!([judge(Call::Read, 0, 100), judge(Call::Read, 200, 10), judge(Call::Write, 100, 10)], [None; 3]);
        assert_eq!([judge(Call::Read, 0, 101), judge(Call::Read, 199, 10)], [Some(libc::EIO); 2]);
        assert_eq!((judge(Call::Read, 100, 10), faults.triggered()), (None, 2));
    }

    #[test]
    fn a_short_transfer_moves_something_and_not_all() {
        let faults = Faults::new(1);
        faults.add(Fault::always(Call::Write, Effect::Short));
        let lengths: Vec<_> = (0..1000).map(|_| faults.judge(Call::Write, 0, 4096, true).short).collect();
        assert!(lengths.iter().flatten().all(|&len| (1..4096).contains(&len)));
        assert!((150..350).contains(&lengths.iter().flatten().count()));
        assert!(lengths.iter().flatten().any(|len| len % 2 == 1));
        assert_eq!(faults.judge(Call::Write, 0, 4096, false).short, None, "nothing is cut short in the page cache");
    }
}
