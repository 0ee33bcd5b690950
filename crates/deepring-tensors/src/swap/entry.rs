//! [`Entry`]: what has a name in a store, and what is being done with it.

use super::version::Version;
use crate::budget::Permit;
use crate::error::{Error, Result};
use deepring::SharedBuffer;
use std::sync::{Arc, OnceLock};

/// Bytes of a version in memory.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) bytes: SharedBuffer,
    /// Where in them the tensor begins.
    pub(super) start: usize,
    pub(super) permit: Permit,
}

impl Block {
    /// The bytes of a tensor that has so many.
    pub(super) fn part(&self, len: usize) -> &[u8] {
        &self.bytes[self.start..self.start + len]
    }
}

/// The bytes of one version, which are being read: who was granted them waits for them here, whatever comes after that version.
#[derive(Debug, Clone, Default)]
pub(super) struct Arrival(Arc<OnceLock<Result<Arc<Block>>>>);

impl Arrival {
    /// Bytes that are there already.
    pub(super) fn of(block: Arc<Block>) -> Self {
        let arrival = Self::default();
        arrival.end(Ok(block));
        arrival
    }

    pub(super) fn end(&self, read: Result<Arc<Block>>) {
        // A read ends once.
        let _ = self.0.set(read);
    }

    pub(super) fn get(&self) -> Option<Result<Arc<Block>>> {
        self.0.get().cloned()
    }
}

/// What of the newest version is in memory.
#[derive(Debug, Clone, Default)]
pub(super) enum Memory {
    #[default]
    Absent,
    /// Being read.
    Reading(Arrival),
    Here(Arc<Block>),
    /// A lease has it, to change it.
    Lent,
}

/// A version that is in memory alone.
#[derive(Debug, Clone)]
pub(super) struct Unwritten {
    pub(super) version: Arc<Version>,
    pub(super) memory: Arc<Block>,
    /// When it came.
    pub(super) since: u64,
    /// Its turn to be written: when the first came of those that the drive never got, and that it took the place of.
    pub(super) turn: u64,
}

/// Where it stands among what can be dropped: the largest goes first. The next use that is known of, then how long it was not
/// used.
pub(super) type Rank = (u64, u64, Arc<str>);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// The newest version that the drive has.
    pub(super) stored: Option<Arc<Version>>,
    /// A newer one.
    pub(super) unwritten: Option<Unwritten>,
    pub(super) memory: Memory,
    /// Counts the versions, so that a lease of an older one is known.
    pub(super) number: u64,
    /// Leases of the newest version that only read.
    pub(super) readers: u32,
    /// A lease changes it, or brings a new version.
    pub(super) has_writer: bool,
    pub(super) pins: u32,
    /// The version that is on its way to the drive, and when it came: the unwritten one, or an older one.
    pub(super) writing: Option<(u64, Arc<Version>)>,
    /// Reads from the drive into memory of the caller.
    pub(super) drive_readers: u32,
    /// Why its last read has failed.
    pub(super) read_fault: Option<Error>,
    /// It was read ahead, and not asked for yet.
    pub(super) is_guess: bool,
    /// When it was used last.
    pub(super) age: u64,
    pub(super) rank: Option<Rank>,
}

impl Entry {
    /// The newest version.
    pub(super) fn newest(&self) -> Option<&Arc<Version>> {
        self.unwritten.as_ref().map(|unwritten| &unwritten.version).or(self.stored.as_ref())
    }

    /// Whether its bytes on the drive stay as they are, and are what memory has.
    pub(super) fn is_written(&self) -> bool {
        self.unwritten.is_none() && self.writing.is_none()
    }

    /// Whether the newest version is on its way to the drive.
    pub(super) fn is_being_written(&self) -> bool {
        let newest = self.unwritten.as_ref().map(|unwritten| unwritten.since);
        newest.is_some() && self.writing.as_ref().map(|(since, _)| *since) == newest
    }

    /// Whether a lease can read it, now or when it is there.
    pub(super) fn is_readable(&self) -> bool {
        !self.has_writer && !matches!(self.memory, Memory::Lent)
    }

    /// Whether nothing reads its bytes on the drive.
    pub(super) fn is_unread(&self) -> bool {
        self.drive_readers == 0 && !matches!(self.memory, Memory::Reading(_))
    }

    /// Whether it can be changed in place, or removed.
    pub(super) fn is_free(&self) -> bool {
        !self.has_writer && self.readers == 0 && self.is_unread() && self.is_written()
    }

    /// Whether its memory can go.
    pub(super) fn is_evictable(&self) -> bool {
        matches!(self.memory, Memory::Here(_)) && self.pins == 0 && self.readers == 0 && !self.has_writer && self.is_written()
    }
}
