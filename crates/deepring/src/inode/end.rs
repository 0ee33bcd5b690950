//! The end of a file: how long it is promised to be, and how long it can be on disk meanwhile.
//!
//! A direct write reaches past the end of the file, because it works in whole units, and a write that extends the file
//! preallocates its space first. While any such request (an *extender*) is at work, the file on disk can be longer than
//! promised. The promised size is what was there before, or the end of the furthest settled write.
//!
//! ```text
//!   a file of 1000 bytes, units of 4096; a write of 8000..8500
//!
//!   promised   |--1000--|                                       until the write has settled, then 8500
//!   on disk    |--1000--|.......................12288.........| padded_up_to: preallocated to whole units
//!   claim                                8500 ^                 no trim cuts below it
//! ```
//!
//! **A trim never cuts accepted work.** It goes to the furthest end that any accepted request claims. (Trimming per
//! handle loses data: A pads its tail, B extends the file, A trims B away.)
//!
//! The version counts changes of the set of extenders. A read compares it before and after: if it has changed, the read
//! can have seen padding, and is cut to what was promised all the time.

use std::collections::BTreeMap;

/// A place in the order of accepted writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(super) epoch: u64,
    /// The end of the file that this write claims; 0 if it was given up.
    pub(super) end: u64,
}

impl Accepted {
    /// The same place in the order, with the claim on the end of the file given up.
    #[must_use]
    pub(crate) fn without_end(self) -> Self {
        Self { end: 0, ..self }
    }
}

/// What was promised when a read began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadTicket {
    pub(super) version: u64,
    pub(super) truncations: u64,
    pub(super) size: u64,
}

/// What an extender knows of the end of the file from its start on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extension {
    /// The promised size when the request began.
    pub(crate) promised: u64,
    /// The version of a set of extenders in which this request is alone, else 0.
    pub(super) sole_version: u64,
    /// No block past this is issued while another is in flight. Where nothing is reserved, the end of the file moves
    /// with the writes, and must not show bytes that are still to be written.
    pub(crate) ordered_from: u64,
    /// There was room for the bytes, and none for the padding: the file must be written to the byte.
    pub(crate) exact: bool,
}

/// Where a request that is done may cut the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TrimTarget {
    /// The size the file must keep: the furthest of what was promised and what accepted requests claim.
    pub(crate) size: u64,
    /// The largest size on disk that this process made.
    pub(crate) padded_up_to: u64,
}

/// How a write that needed no extending gives up its claim on the end of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GiveUp {
    Done(Accepted),
    /// Another request can have spared padding for this write: it must trim.
    MustTrim,
}

#[derive(Debug, Default)]
pub(super) struct End {
    /// The promised size.
    size: u64,
    /// Twice the number of changes of the set of extenders, plus one while the file can be padded.
    version: u64,
    /// Ends of accepted, unsettled writes. Those inside the file count too: another process can truncate it under them.
    claims: BTreeMap<u64, u32>,
    extenders: u32,
    /// How far writes have come since the end of the file was locked.
    written_up_to: u64,
    /// How far extenders can have grown the file on disk; 0 when it is known not to be longer than promised.
    padded_up_to: u64,
    /// The size another process gave the file, as it was last measured, and the version at that time.
    adopted: (u64, u64),
}

impl End {
    pub(super) fn new(size: u64) -> Self {
        Self { size, ..Self::default() }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn padded_up_to(&self) -> u64 {
        self.padded_up_to
    }

    pub(super) fn adopted(&self) -> (u64, u64) {
        self.adopted
    }

    /// Whether a file of `measured` bytes on disk can be longer than promised. One that is longer than this process
    /// ever made it was extended by another process, and its size counts.
    pub(super) fn may_be_padded(&self, measured: u64) -> bool {
        self.extenders > 0 || (self.padded_up_to > 0 && measured <= self.padded_up_to)
    }

    /// Whether the file on disk can be longer than promised with no extender left to cut it.
    pub(super) fn is_left_padded(&self) -> bool {
        self.extenders == 0 && self.padded_up_to > 0
    }

    /// Whether the file can be longer than promised for the sake of a request that has not begun.
    pub(super) fn has_spared_padding(&self) -> bool {
        self.is_left_padded() && !self.claims.is_empty()
    }

    /// The file was measured. The size on disk counts, unless it can be padding.
    pub(super) fn adopt_measured_if_quiet(&mut self, measured: u64) {
        if !self.may_be_padded(measured) {
            self.adopt_measured(measured);
        }
    }

    fn adopt_measured(&mut self, measured: u64) {
        if measured > self.size {
            self.adopted = (measured, self.version);
        }
        self.promise(measured);
    }

    /// The file is promised to be this long. Padding that does not reach further is a part of it, unless an extender is at work.
    fn promise(&mut self, size: u64) {
        self.size = size;
        if (1..=size).contains(&self.padded_up_to) {
            self.mark_clean();
        }
    }

    /// The end of the file was locked: forgets what was written before.
    pub(super) fn locked(&mut self) {
        self.written_up_to = 0;
    }

    pub(super) fn claim(&mut self, end: u64) {
        if end > 0 {
            *self.claims.entry(end).or_default() += 1;
        }
    }

    pub(super) fn unclaim(&mut self, end: u64) {
        if let Some(count) = self.claims.get_mut(&end) {
            *count -= 1;
            if *count == 0 {
                self.claims.remove(&end);
            }
        }
    }

    /// How far the file must go for accepted requests, other than one that ends at `end`.
    pub(super) fn claimed_by_others(&self, end: u64) -> u64 {
        let others = |&(&claimed, &count): &(&u64, &u32)| claimed != end || count > 1;
        self.claims.iter().rev().find(others).map_or(0, |(&claimed, _)| claimed)
    }

    /// A request begins to pad, preallocate or extend the file up to `padded_up_to`; `measured` is the size on disk.
    pub(super) fn begin_extending(&mut self, measured: u64, padded_up_to: u64) -> Extension {
        let alone = !self.may_be_padded(measured);
        if alone {
            // If another process cut the file, a write that ended since it was measured can have extended it again.
            self.adopt_measured(measured.max(self.written_up_to));
            self.padded_up_to = 0;
        }
        if !alone && measured > self.padded_up_to.max(self.size) {
            // No extender made it so long. What another process put there must not be cut, however far this one pads.
            self.adopt_measured(measured);
        }
        self.extenders += 1;
        self.padded_up_to = self.padded_up_to.max(padded_up_to);
        self.bump_version();
        let sole_version = if alone { self.version } else { 0 };
        Extension { promised: self.size, sole_version, ordered_from: u64::MAX, exact: false }
    }

    /// An extender has finished. `clean`: the file on disk is not longer than promised.
    pub(super) fn end_extending(&mut self, clean: bool) {
        debug_assert!(self.extenders > 0);
        self.extenders -= 1;
        if clean || self.padded_up_to <= self.size {
            self.mark_clean();
        } else {
            self.bump_version();
        }
    }

    /// The file on disk is known not to be longer than promised, unless an extender is at work.
    pub(super) fn mark_clean(&mut self) {
        if self.extenders == 0 {
            self.padded_up_to = 0;
        }
        self.bump_version();
    }

    /// A request has written up to `reached` (0: nothing) and drops its claim. With `whole`, it replaces the file, and
    /// what was promised before no longer counts.
    pub(super) fn release(&mut self, reached: u64, accepted: Accepted, whole: bool) -> TrimTarget {
        self.size = if whole { reached } else { self.size.max(reached) };
        self.unclaim(accepted.end);
        let furthest = self.claims.last_key_value().map_or(0, |(&end, _)| end);
        TrimTarget { size: self.size.max(furthest), padded_up_to: self.padded_up_to }
    }

    /// As [`End::release`], for a write that needed no extending.
    pub(super) fn give_up(&mut self, accepted: Accepted, reached: u64) -> GiveUp {
        if accepted.end > self.size && (self.extenders > 0 || self.padded_up_to > 0) {
            return GiveUp::MustTrim;
        }
        // Recorded before the claim goes. It extends the file only if another process had cut it.
        self.size = self.size.max(reached);
        self.written_up_to = self.written_up_to.max(reached);
        self.unclaim(accepted.end);
        GiveUp::Done(accepted.without_end())
    }

    /// The file was truncated to this size while its end was locked: no padding is left, unless an extender is at work.
    pub(super) fn record_truncation(&mut self, size: u64) {
        self.size = size;
        if self.padded_up_to > 0 {
            self.mark_clean();
        }
    }

    /// The file was made this long while its end was locked.
    pub(super) fn record_allocation(&mut self, size: u64) {
        self.promise(size);
    }

    fn bump_version(&mut self) {
        let may_be_padded = self.extenders > 0 || self.padded_up_to > 0;
        self.version = (self.version / 2 + 1) * 2 + u64::from(may_be_padded);
    }

    /// Claims and extenders, for an audit.
    #[cfg(feature = "sim")]
    pub(super) fn open(&self) -> (&BTreeMap<u64, u32>, u32) {
        (&self.claims, self.extenders)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(end: &mut End, to: u64) -> Accepted {
        end.claim(to);
        Accepted { epoch: 0, end: to }
    }

    #[test]
    fn padding_is_not_promised_and_is_cut_off() {
        let mut end = End::new(1000);
        let write = accepted(&mut end, 8500);
        let extension = end.begin_extending(1000, 12288);
        assert_eq!((extension.promised, end.size(), end.version() % 2), (1000, 1000, 1));
        assert!(end.may_be_padded(12288));
        let target = end.release(8500, write, false);
        assert_eq!((target.size, target.padded_up_to), (8500, 12288));
        end.end_extending(true);
        assert_eq!((end.size(), end.may_be_padded(8500), end.version() % 2), (8500, false, 0));
    }

    #[test]
    fn a_trim_spares_what_another_request_claims() {
        let mut end = End::new(0);
        let (first, second) = (accepted(&mut end, 5000), accepted(&mut end, 9000));
        end.begin_extending(0, 8192);
        assert_eq!(end.claimed_by_others(5000), 9000);
        assert_eq!(end.release(5000, first, false).size, 9000);
        end.end_extending(false);
        assert_eq!(end.give_up(second, 9000), GiveUp::MustTrim, "the padding was spared for it");
        assert_eq!(end.release(9000, second, false).size, 9000);
    }

    #[test]
    fn a_write_inside_the_file_gives_up_its_claim_without_a_trim() {
        let mut end = End::new(10_000);
        let write = accepted(&mut end, 4096);
        assert_eq!(end.give_up(write, 4096), GiveUp::Done(write.without_end()));
        assert_eq!((end.size(), end.claimed_by_others(0)), (10_000, 0));
    }

    #[test]
    fn only_a_request_that_extends_alone_knows_that_the_rest_is_empty() {
        let mut end = End::new(0);
        let first = end.begin_extending(0, 4096);
        assert_eq!(first.sole_version, end.version());
        let second = end.begin_extending(4096, 8192);
        assert_eq!((second.sole_version, second.promised), (0, 0));
        assert_ne!(first.sole_version, end.version());
    }

    #[test]
    fn a_file_longer_than_this_process_made_it_was_extended_by_another_and_counts() {
        let mut end = End::new(0);
        end.begin_extending(0, 4096);
        end.end_extending(false);
        end.adopt_measured_if_quiet(4096);
        assert_eq!(end.size(), 0, "it can be padding");
        end.adopt_measured_if_quiet(5000);
        assert_eq!(end.size(), 5000);
    }

    #[test]
    fn what_another_process_appended_beside_an_extender_is_not_cut() {
        let mut end = End::new(0);
        end.begin_extending(0, 4096);
        let second = accepted(&mut end, 20_000);
        assert_eq!(end.begin_extending(10_000, 20_480).promised, 10_000);
        assert_eq!(end.release(0, second, false).size, 10_000, "the second write failed before its first byte");
    }

    #[test]
    fn a_truncation_leaves_no_padding_and_an_allocation_takes_it_in() {
        for (size, is_clean) in [(262_144, [true, true]), (4096, [true, true]), (11, [true, false])] {
            for (record, is_clean) in [End::record_truncation, End::record_allocation].into_iter().zip(is_clean) {
                let mut end = End::new(0);
                end.begin_extending(0, 4096);
                end.end_extending(false);
                assert_eq!(end.version() % 2, 1, "the padding was spared");
                record(&mut end, size);
                assert_eq!((end.size(), end.version().is_multiple_of(2), end.is_left_padded()), (size, is_clean, !is_clean), "{size}");
            }
        }
    }

    #[test]
    fn padding_that_does_not_reach_beyond_the_size_is_a_part_of_the_file() {
        let mut end = End::new(0);
        end.begin_extending(0, 4096);
        end.end_extending(false);
        end.adopt_measured_if_quiet(5000);
        assert_eq!((end.version() % 2, end.is_left_padded()), (0, false), "another process made it longer");
        let write = accepted(&mut end, 8192);
        end.begin_extending(5000, 8192);
        end.release(8192, write, false);
        end.end_extending(false);
        assert_eq!((end.version() % 2, end.is_left_padded()), (0, false), "it was written as far as it was padded");
    }

    #[test]
    fn a_request_that_replaces_the_file_ends_it() {
        let mut end = End::new(10_000);
        let write = accepted(&mut end, 300);
        end.begin_extending(10_000, 4096);
        assert_eq!(end.release(300, write, true).size, 300);
    }
}
