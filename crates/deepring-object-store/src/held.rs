//! [`Held`]: what keeps out others while names in a directory change under a condition.
//!
//! Everything that publishes or removes a name holds it for that moment, so that no unconditional put gets in between the
//! look and the rename of a conditional one. Nothing is flushed meanwhile, but another process can be stopped while it holds
//! the lock: so it is taken only by jobs that hold up no others, of `Engine::run_blocking`.
//!
//! Between processes it is a lock on the directory itself. It needs no file of its own, goes where the directory goes, and
//! names in one directory are changed one at a time by the kernel anyway.

use crate::settings::Locking;
use crate::stats::{Counters, add};
use deepring::{Directory, FileLock, LockKind, Result};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Directories that share a mutex wait for each other for microseconds; a prime spreads the numbers of inodes.
const STRIPES: usize = 127;

static MUTEXES: [Mutex<()>; STRIPES] = [const { Mutex::new(()) }; STRIPES];

/// See the module.
#[derive(Debug)]
#[must_use = "it holds nothing when it is dropped"]
pub(crate) enum Held {
    Mutex {
        _guards: Vec<MutexGuard<'static, ()>>,
    },
    Locks {
        _locks: Vec<FileLock>,
    },
    /// The file system has no locks.
    Nothing,
}

impl Held {
    /// Keeps out others that change names in one of these directories.
    ///
    /// # Errors
    /// If the directory cannot be locked for another reason than that its file system has no locks.
    pub(crate) fn take(locking: Locking, directories: &[&Directory], counters: &Counters) -> Result<Self> {
        match locking {
            Locking::Process => Self::take_mutexes(directories),
            Locking::Host => match Self::take_locks(directories) {
                Err(error) if has_no_locks(&error) => {
                    add(&counters.unlocked, 1);
                    Ok(Self::Nothing)
                }
                taken => taken,
            },
        }
    }

    /// Whether a condition that was looked at still holds.
    pub(crate) fn is_safe(&self) -> bool {
        !matches!(self, Self::Nothing)
    }

    fn take_mutexes(directories: &[&Directory]) -> Result<Self> {
        let mut stripes = directories.iter().map(|directory| identity(directory).map(stripe)).collect::<Result<Vec<_>>>()?;
        // In one order, and each once.
        stripes.sort_unstable();
        stripes.dedup();
        let guards = stripes.into_iter().map(|stripe| MUTEXES[stripe].lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Self::Mutex { _guards: guards.collect() })
    }

    fn take_locks(directories: &[&Directory]) -> Result<Self> {
        let locks = if let [directory] = directories {
            vec![directory.lock_entries(LockKind::Exclusive)?]
        } else {
            let mut order = Vec::with_capacity(directories.len());
            for &directory in directories {
                order.push((identity(directory)?, directory));
            }
            order.sort_unstable_by_key(|&(identity, _)| identity);
            order.dedup_by_key(|&mut (identity, _)| identity);
            order.into_iter().map(|(_, directory)| directory.lock_entries(LockKind::Exclusive)).collect::<Result<_>>()?
        };
        Ok(Self::Locks { _locks: locks })
    }
}

/// Device and inode of an open directory.
fn identity(directory: &Directory) -> Result<(u64, u64)> {
    directory.own_stat().map(|stat| (stat.dev, stat.ino))
}

fn stripe((device, inode): (u64, u64)) -> usize {
    (device.wrapping_mul(31).wrapping_add(inode) % STRIPES as u64) as usize
}

fn has_no_locks(error: &deepring::Error) -> bool {
    let numbers = [libc::EOPNOTSUPP, libc::ENOLCK, libc::ENOSYS, libc::EBADF, libc::EINVAL];
    error.syscall() == "flock" && error.errno().is_some_and(|errno| numbers.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn one_at_a_time_holds_a_directory_also_among_two_in_any_order() {
        let place = tempfile::tempdir().expect("a directory");
        let names = ["one", "two"].map(|name| place.path().join(name));
        for name in &names {
            std::fs::create_dir(name).expect("a directory");
        }
        for locking in [Locking::Process, Locking::Host] {
            let (inside, counters) = (AtomicU32::new(0), Counters::default());
            std::thread::scope(|scope| {
                for turn in 0..4 {
                    let (inside, counters, names) = (&inside, &counters, &names);
                    scope.spawn(move || {
                        let opened = names.each_ref().map(|name| Directory::open(name).expect("a directory"));
                        let pair = [&opened[turn % 2], &opened[(turn + 1) % 2], &opened[0]];
                        for _ in 0..200 {
                            let held = Held::take(locking, &pair, counters).expect("locks");
                            assert!(held.is_safe());
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two at once with {locking:?}");
                            std::thread::yield_now();
                            inside.fetch_sub(1, Ordering::SeqCst);
                        }
                    });
                }
            });
        }
    }
}
