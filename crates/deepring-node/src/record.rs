//! What one completion carries to JavaScript: ten numbers, and for some a detail.
//!
//! Every bare number that crosses the boundary is named here once: the fields of a record, its
//! status and flags, and the flags of `open`. `lib/core/record.ts` is the other side;
//! `__test__/record.spec.ts` compares both through [`layout`].

use crate::convert::{Detail, Many};
use crate::failure::{Failure, MemberFailure};
use crate::tensors_job::Outcome;
use deepring::binding::GroupFailure;
use deepring::{BackendKind, Direct, OpenOptions, Priority, Receipt};
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Declares constants, and the table by which JavaScript knows them.
macro_rules! numbers {
    ($table:ident: $type:ty { $($(#[$note:meta])* $name:ident = $value:expr => $key:literal,)* }) => {
        $($(#[$note])* pub const $name: $type = $value;)*
        const $table: &[(&str, $type)] = &[$(($key, $name),)*];
    };
}

numbers! { FIELDS: usize {
    ID = 0 => "id",
    STATUS = 1 => "status",
    TRANSFERRED = 2 => "transferred",
    BLOCKS = 3 => "blocks",
    BOUNCED = 4 => "bounced",
    RESUMED = 5 => "resumed",
    RETRIED = 6 => "retried",
    QUEUE_MS = 7 => "queueMs",
    DEVICE_MS = 8 => "deviceMs",
    FLAGS = 9 => "flags",
}}

/// Numbers per record.
pub const RECORD: usize = FIELDS.len();

numbers! { STATUSES: u32 {
    SUCCESS = 0 => "success",
    /// The detail is a [`Failure`].
    FAILURE = 1 => "failure",
    SUCCESS_WITH_DETAIL = 2 => "successWithDetail",
    /// Of transfers that the environment has canceled: a hundred thousand can be at once. Without a detail; what would have
    /// been the bytes is how many more follow whose ids follow, too.
    CANCELED = 3 => "canceled",
}}

numbers! { RECORD_FLAGS: u32 {
    /// Every block bypassed the page cache.
    FLAG_DIRECT = 1 => "direct",
    /// The backend was `threads`, else `uring`.
    FLAG_THREADS = 2 => "threads",
    /// Of a file: its writes keep out those of other processes.
    FLAG_LOCKS = 4 => "locks",
    /// There is a checksum: that many times [`CHECKSUM_SCALE`] is added to the flags.
    FLAG_CHECKSUM = 8 => "checksum",
}}

numbers! { SCALES: u32 {
    /// More than all flags, and small enough that a double is exact.
    CHECKSUM_SCALE = 65_536 => "checksum",
}}

numbers! { OPEN_FLAGS: u32 {
    OPEN_READ = 1 => "read",
    OPEN_WRITE = 2 => "write",
    OPEN_CREATE = 4 => "create",
    OPEN_TRUNCATE = 8 => "truncate",
    OPEN_EXCLUSIVE = 16 => "exclusive",
}}

numbers! { DIRECTS: u32 {
    DIRECT_NEVER = 0 => "never",
    DIRECT_PREFER = 1 => "prefer",
    DIRECT_REQUIRE = 2 => "require",
    DIRECT_AUTO = 3 => "auto",
}}

/// A transfer on its way to the binding.
pub mod staged {
    numbers! { FIELDS: usize {
        FLAGS = 0 => "flags",
        ID = 1 => "id",
        /// The file; by path, the engine.
        TARGET = 2 => "target",
        HANDLE = 3 => "handle",
        GROUP = 4 => "group",
        POSITION = 5 => "position",
        LEN = 6 => "length",
        PRIORITY = 7 => "priority",
        /// Of a write by path, the mode of a file that it creates. Of a read with `STAGED_EXPECT`, the
        /// checksum.
        EXTRA = 8 => "extra",
        /// What cancels it together with others; 0 if nothing does.
        CANCELLATION = 9 => "cancellation",
    }}

    pub const TABLE: &[(&str, usize)] = FIELDS;
}

/// Numbers per staged transfer.
pub const STAGED: usize = staged::TABLE.len();

numbers! { STAGED_FLAGS: u32 {
    STAGED_WRITE = 1 => "write",
    /// Fewer bytes are an error.
    STAGED_EXACT = 2 => "exact",
    STAGED_BY_PATH = 4 => "byPath",
    /// By path: a read requires equal sizes; a write ends the file where the memory ends.
    STAGED_WHOLE = 8 => "whole",
    STAGED_SUM = 16 => "sum",
    /// Any other checksum is an error.
    STAGED_EXPECT = 32 => "expect",
}}

/// A call with many ranges on its way to the binding.
pub mod many {
    numbers! { FIELDS: usize {
        ID = 0 => "id",
        FILE = 1 => "file",
        FLAGS = 2 => "flags",
        PRIORITY = 3 => "priority",
        COUNT = 4 => "count",
        /// Between ranges that are read together.
        GAP = 5 => "gap",
        /// Of every range, if they have no list of lengths.
        LEN = 6 => "length",
        /// The kinds of the lists.
        POSITIONS = 7 => "positions",
        LENGTHS = 8 => "lengths",
        OFFSETS = 9 => "offsets",
    }}

    pub const TABLE: &[(&str, usize)] = FIELDS;
}

numbers! { MANY_FLAGS: u32 {
    MANY_WRITE = 1 => "write",
    MANY_EXACT = 2 => "exact",
    /// Go on after a failure.
    MANY_PARTIAL = 4 => "partial",
    MANY_COUNTS = 8 => "counts",
    MANY_SUMS = 16 => "sums",
    /// Any other checksum is an error.
    MANY_EXPECT = 32 => "expect",
}}

numbers! { NUMBER_KINDS: u32 {
    /// There is no list.
    NUMBERS_NONE = 0 => "none",
    NUMBERS_FLOAT64 = 1 => "float64",
    NUMBERS_UINT64 = 2 => "uint64",
    NUMBERS_UINT32 = 3 => "uint32",
}}

numbers! { PRIORITIES: u32 {
    PRIORITY_NONE = 0 => "none",
    PRIORITY_LATENCY = 1 => "latency",
    PRIORITY_THROUGHPUT = 2 => "throughput",
    PRIORITY_BACKGROUND = 3 => "background",
}}

/// The numbers as they are on this side.
pub fn layout() -> HashMap<String, HashMap<String, u32>> {
    let places = |fields: &[(&'static str, usize)]| fields.iter().map(|&(name, field)| (name, field as u32)).collect::<Vec<_>>();
    let (fields, staged, many) = (places(FIELDS), places(staged::TABLE), places(many::TABLE));
    let tables = [
        ("field", &fields[..]),
        ("status", STATUSES),
        ("flag", RECORD_FLAGS),
        ("scale", SCALES),
        ("staged", &staged[..]),
        ("stagedFlag", STAGED_FLAGS),
        ("many", &many[..]),
        ("manyFlag", MANY_FLAGS),
        ("numbers", NUMBER_KINDS),
        ("open", OPEN_FLAGS),
        ("direct", DIRECTS),
        ("priority", PRIORITIES),
    ];
    let table = |entries: &[(&str, u32)]| entries.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
    tables.into_iter().map(|(name, entries)| (name.to_owned(), table(entries))).collect()
}

/// The flags of a record, or of a file.
pub fn flags(direct: bool, backend: BackendKind) -> u32 {
    let mut flags = 0;
    if direct {
        flags |= FLAG_DIRECT;
    }
    if backend == BackendKind::Threads {
        flags |= FLAG_THREADS;
    }
    flags
}

/// What a checksum adds to the flags of a record.
fn checksum(crc: Option<u32>) -> f64 {
    crc.map_or(0.0, |crc| f64::from(FLAG_CHECKSUM) + f64::from(crc) * f64::from(CHECKSUM_SCALE))
}

/// The `direct` of an `open`.
pub fn direct(number: u32) -> Direct {
    match number {
        DIRECT_NEVER => Direct::Never,
        DIRECT_REQUIRE => Direct::Require,
        DIRECT_AUTO => Direct::Auto,
        _ => Direct::Prefer,
    }
}

/// The options of an `open`, without those that are not flags.
pub fn open_options(flags: u32, direct: u32) -> OpenOptions {
    let has = |flag: u32| flags & flag != 0;
    OpenOptions::new()
        .read(has(OPEN_READ))
        .write(has(OPEN_WRITE))
        .create(has(OPEN_CREATE) && !has(OPEN_EXCLUSIVE))
        .create_new(has(OPEN_EXCLUSIVE))
        .truncate(has(OPEN_TRUNCATE))
        .direct(self::direct(direct))
}

/// The class that a number names.
pub fn priority(number: u32) -> Option<Priority> {
    match number {
        PRIORITY_LATENCY => Some(Priority::Latency),
        PRIORITY_THROUGHPUT => Some(Priority::Throughput),
        PRIORITY_BACKGROUND => Some(Priority::Background),
        _ => None,
    }
}

/// The requests that the numbers of a record are of.
pub fn ids(numbers: &[f64]) -> RangeInclusive<u64> {
    let (first, canceled) = (numbers[ID] as u64, numbers[STATUS] as u32 == CANCELED);
    first..=first + if canceled { numbers[TRANSFERRED] as u64 } else { 0 }
}

pub struct Record {
    pub id: u64,
    pub numbers: [f64; RECORD],
    pub detail: Option<Detail>,
}

impl Record {
    fn plain(id: u64) -> Self {
        let mut numbers = [0.0; RECORD];
        numbers[ID] = id as f64;
        Self { id, numbers, detail: None }
    }

    /// The record of a request that moves no bytes.
    pub fn of(id: u64, result: deepring::Result<Option<Detail>>) -> Self {
        let mut record = Self::plain(id);
        match result {
            Ok(None) => record.numbers[STATUS] = SUCCESS.into(),
            Ok(Some(detail)) => {
                record.numbers[STATUS] = SUCCESS_WITH_DETAIL.into();
                record.detail = Some(detail);
            }
            Err(error) => record.fail(&error),
        }
        record
    }

    /// The record of a transfer.
    pub fn of_transfer(id: u64, result: &deepring::Result<Receipt>) -> Self {
        let mut record = Self::plain(id);
        match result {
            Ok(receipt) => record.succeed(receipt),
            Err(error) => record.fail(error),
        }
        record
    }

    /// The record of `count` transfers that JavaScript has canceled, at least one: neighbors by their numbers.
    pub fn of_canceled(first: u64, count: usize) -> Self {
        let mut record = Self::plain(first);
        record.numbers[STATUS] = CANCELED.into();
        record.numbers[TRANSFERRED] = count as f64 - 1.0;
        record
    }

    /// The requests that it is of.
    pub fn ids(&self) -> RangeInclusive<u64> {
        ids(&self.numbers)
    }

    /// Adds `count` transfers that JavaScript has canceled. Returns whether it could.
    pub fn extend(&mut self, first: u64, count: usize) -> bool {
        let follows = self.numbers[STATUS] as u32 == CANCELED && *self.ids().end() + 1 == first;
        if follows {
            self.numbers[TRANSFERRED] += count as f64;
        }
        follows
    }

    /// Takes the first requests, of several, out of it.
    pub fn split_off_first(&mut self, count: usize) -> Self {
        let first = Self::of_canceled(self.id, count);
        self.id += count as u64;
        self.numbers[ID] = self.id as f64;
        self.numbers[TRANSFERRED] -= count as f64;
        first
    }

    /// The record of a call with many ranges. Its detail has the failure.
    pub fn of_many(id: u64, result: &deepring::Result<Receipt>, many: Many) -> Self {
        let mut record = Self::plain(id);
        if let Ok(receipt) = result {
            record.succeed(receipt);
        }
        record.numbers[STATUS] = SUCCESS_WITH_DETAIL.into();
        record.detail = Some(Detail::Many(Box::new(many)));
        record
    }

    /// The record of a job.
    pub fn of_job(id: u64, outcome: Outcome) -> Self {
        match outcome {
            Ok(detail) => Self::of(id, Ok(detail)),
            Err(failure) => {
                let mut record = Self::plain(id);
                record.numbers[STATUS] = FAILURE.into();
                record.numbers[TRANSFERRED] = failure.transferred;
                record.detail = Some(Detail::Failure(*failure));
                record
            }
        }
    }

    /// The record of memory that was summed.
    pub fn of_sum(id: u64, result: deepring::Result<u32>) -> Self {
        let mut record = Self::plain(id);
        match result {
            Ok(crc) => {
                record.numbers[STATUS] = SUCCESS.into();
                record.numbers[FLAGS] = checksum(Some(crc));
            }
            Err(error) => record.fail(&error),
        }
        record
    }

    /// The record of an append.
    pub fn of_bytes(id: u64, result: deepring::Result<u64>) -> Self {
        let mut record = Self::plain(id);
        match result {
            Ok(bytes) => {
                record.numbers[STATUS] = SUCCESS.into();
                record.numbers[TRANSFERRED] = bytes as f64;
            }
            Err(error) => record.fail(&error),
        }
        record
    }

    /// The record of a group of transfers.
    pub fn of_group(id: u64, failures: &[GroupFailure]) -> Self {
        let failures: Vec<_> = failures.iter().map(MemberFailure::from).collect();
        Self::of(id, Ok((!failures.is_empty()).then_some(Detail::Failures(failures))))
    }

    fn succeed(&mut self, receipt: &Receipt) {
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        let numbers = &mut self.numbers;
        numbers[STATUS] = SUCCESS.into();
        numbers[TRANSFERRED] = receipt.bytes as f64;
        numbers[BLOCKS] = receipt.blocks.into();
        numbers[BOUNCED] = receipt.bounced as f64;
        numbers[RESUMED] = receipt.resumed.into();
        numbers[RETRIED] = receipt.retried.into();
        numbers[QUEUE_MS] = ms(receipt.queue);
        numbers[DEVICE_MS] = ms(receipt.device);
        numbers[FLAGS] = f64::from(flags(receipt.direct, receipt.backend)) + checksum(receipt.checksum);
    }

    fn fail(&mut self, error: &deepring::Error) {
        self.numbers[STATUS] = FAILURE.into();
        self.numbers[TRANSFERRED] = error.transferred() as f64;
        self.detail = Some(Detail::Failure(Failure::from(error)));
    }
}
