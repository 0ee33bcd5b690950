//! What the result of a device operation means. Pure, and the only place that decides it.
//!
//! | result | verdict |
//! |---|---|
//! | all of it | `Finished` |
//! | less | `Resume` from the last whole unit. A read that ends at the same place again, where the file can end, has met its end: `Finished` |
//! | 0 | reading: the end of the file, `Finished`; writing: as less |
//! | [`VAIN_MAX`] operations without progress | `Failed(EIO)` |
//! | `EAGAIN` with `RWF_NOWAIT` | `Repeat(Punted)`: the kernel would have handed the write to a worker thread; repeated without the flag |
//! | `EINVAL`, `EOPNOTSUPP` with `RWF_NOWAIT` | `Repeat(NowaitRefused)`: the file knows no `RWF_NOWAIT`; repeated without the flag |
//! | `EINTR`, `EAGAIN` | `Repeat(Interrupted)`, at most [`ATTEMPTS_MAX`] times |
//! | `ECANCELED` | `RepeatBlocking`: nothing cancels operations, so the kernel has no worker thread for it (`RLIMIT_NPROC`, a pids cgroup) |
//! | `EINVAL` on a direct operation | `Downgrade`: the file goes on buffered, unless direct I/O was required |
//! | `EIO` on a direct read | `ReadToEnd`, once: XFS refuses to read past the end of the file where it has set space aside for a buffered writer |
//! | `EINVAL`, if the file is buffered by now | `Repeat(Buffered)`: another operation was refused first |
//! | anything else | `Failed` |

use crate::plan::Direction;
use crate::planted::{PlantedBug, planted};
use crate::sys::Errno;
use std::mem;

/// How often an operation is repeated before its error counts. (XFS and old kernels return `EAGAIN` even from files
/// that may block.)
const ATTEMPTS_MAX: u32 = 8;

/// A file that ends at the same place this often ends there, even where it was known to be longer. Two short reads in a
/// row that happen to agree prove nothing; more than this would slow down every read at the end of a file that another
/// process appends to.
const ENDS_MAX: u32 = 4;

/// Zero-progress transfers allowed before the request fails. Even where one transfer in four falls short for no reason,
/// this many reads include enough that end where the file does.
const VAIN_MAX: u32 = 16;

/// How far the operations of one stage of a block have come. All counts are from the start of its extent.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// Where the current operation begins.
    pub(super) from: u64,
    /// How far the extent has been transferred without a gap.
    pub(super) done: u64,
    /// Whether the current operation carries `RWF_NOWAIT`.
    pub(super) nowait: bool,
    /// Whether the file was direct when the current operation was staged.
    pub(super) direct: bool,
    /// Whether the current operation was cut at the end of the file.
    to_end: bool,
    ends: Ends,
    attempts: u32,
}

impl Progress {
    /// Nothing has been transferred.
    pub(super) fn new(nowait: bool) -> Self {
        Self { nowait, ..Self::default() }
    }

    /// Starts over, for the next stage.
    pub(super) fn restart(&mut self) {
        *self = Self::new(self.nowait);
    }
}

/// What is known of an operation, its extent and its file when the result arrives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    /// Of the operation: the read before an edge is written is a read.
    pub(super) direction: Direction,
    /// Bytes of the extent.
    pub(super) len: u64,
    /// Bytes of it that a read must bring. What follows the last wanted byte can lie beyond the end of the file.
    pub(super) wanted: u64,
    /// Direct transfers begin on multiples of this, in the file and in memory.
    pub(super) unit: u64,
    /// Where the file can end, from the start of the extent; 0 if that is before it.
    pub(super) file_end: u64,
    /// Whether the file is direct now.
    pub(super) direct: bool,
}

/// Why an operation is repeated as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Punted,
    NowaitRefused,
    Interrupted,
    Buffered,
}

/// What to do with a block after a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its transfer, or the read before it, is done.
    Finished,
    /// Stage it again, from `Progress::from`.
    Resume,
    /// Stage the same operation again.
    Repeat(Cause),
    /// The same, by a blocking call.
    RepeatBlocking,
    /// The same, by a blocking call, and no further than [`before_end`] says.
    ReadToEnd,
    /// Make the file buffered if direct I/O is not required, and stage it again; else fail with `EINVAL`.
    Downgrade,
    Failed(Errno),
}

/// Judges the result of an operation: bytes moved, or a negative error number.
pub(super) fn judge(progress: &mut Progress, result: i32, facts: Facts) -> Verdict {
    let result = match result {
        _ if planted(PlantedBug::IgnoresResult) => (facts.len - progress.from) as i32,
        result if planted(PlantedBug::ForgetsErrnoSign) => result.abs(),
        result => result,
    };
    let to_end = mem::take(&mut progress.to_end);
    if result >= 0 {
        return judge_transfer(progress, result as u64, facts);
    }
    let verdict = judge_error(progress, -result, facts);
    if verdict == Verdict::ReadToEnd && to_end {
        return Verdict::Failed(-result);
    }
    progress.to_end = verdict == Verdict::ReadToEnd;
    verdict
}

/// The length of a refused read without what lies past the unit in which the file ends. That was `known` when the read
/// began, and has been `measured` since. `None` if the end was not in its way.
pub(super) fn before_end(position: u64, len: u32, unit: u64, known: u64, measured: u64) -> Option<u32> {
    let end = position + u64::from(len);
    let last = |size: u64| size.next_multiple_of(unit);
    (last(known.min(measured)) < end).then(|| last(measured).clamp(position, end) as u32 - position as u32)
}

fn judge_error(progress: &mut Progress, errno: Errno, facts: Facts) -> Verdict {
    match errno {
        libc::EAGAIN if progress.nowait => {
            progress.nowait = false;
            Verdict::Repeat(Cause::Punted)
        }
        libc::EOPNOTSUPP | libc::EINVAL if progress.nowait => {
            progress.nowait = false;
            Verdict::Repeat(Cause::NowaitRefused)
        }
        libc::EINTR | libc::EAGAIN if progress.attempts < ATTEMPTS_MAX => {
            progress.attempts += 1;
            Verdict::Repeat(Cause::Interrupted)
        }
        libc::ECANCELED if progress.attempts < ATTEMPTS_MAX => {
            progress.attempts += 1;
            Verdict::RepeatBlocking
        }
        libc::EIO if progress.direct && facts.direction == Direction::Read && !planted(PlantedBug::FailsPastEnd) => Verdict::ReadToEnd,
        libc::EINVAL if progress.direct && facts.direct => Verdict::Downgrade,
        libc::EINVAL if progress.direct => Verdict::Repeat(Cause::Buffered),
        errno => Verdict::Failed(errno),
    }
}

fn judge_transfer(progress: &mut Progress, moved: u64, facts: Facts) -> Verdict {
    let reached = (progress.from + moved).min(facts.len);
    let advanced = reached > progress.done;
    progress.done = progress.done.max(reached);
    if progress.done == facts.len || planted(PlantedBug::ShortIsDone) {
        progress.done = facts.len;
        return Verdict::Finished;
    }
    if facts.direction == Direction::Read {
        if progress.done >= facts.wanted {
            return Verdict::Finished;
        }
        let times = progress.ends.count(reached);
        // The last unit was read again. To read nothing, or to end at the same place again where the file can end, is to
        // have met its end. To end elsewhere means that the device returned short reads at random, or that another
        // process truncated the file. If the file was truncated, all later reads end at the same offset.
        let enough = if reached >= facts.file_end { 2 } else { ENDS_MAX };
        if !advanced && (moved == 0 || times >= enough) {
            progress.done = reached;
            return Verdict::Finished;
        }
    }
    if !advanced {
        progress.ends.vain += 1;
        if progress.ends.vain > VAIN_MAX {
            return Verdict::Failed(libc::EIO);
        }
    }
    // The last, partly transferred unit is transferred again.
    progress.from = progress.done - progress.done % facts.unit;
    Verdict::Resume
}

/// Where transfers fell short, and how often.
#[derive(Debug, Clone, Copy, Default)]
struct Ends {
    furthest: (u64, u32),
    /// The last one that did not come as far, and how many of them in a row.
    nearer: (u64, u32),
    /// Transfers that brought nothing new.
    vain: u32,
}

impl Ends {
    /// Counts a read that ended at `place`. Returns how many have ended there.
    ///
    /// A read that does not come as far as an earlier one says nothing about the end of the file, so it does not count
    /// against it. Only if the file was truncated in between do all reads end nearer, and at one place.
    fn count(&mut self, place: u64) -> u32 {
        let (furthest, times) = self.furthest;
        let counted = if times == 0 || place >= furthest { &mut self.furthest } else { &mut self.nearer };
        *counted = (place, if counted.0 == place { counted.1 + 1 } else { 1 });
        counted.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LEN: u64 = 1 << 20;
    const UNIT: u64 = 4096;

    /// An operation of a file that goes on far beyond its extent.
    fn facts(direction: Direction) -> Facts {
        Facts { direction, len: LEN, wanted: LEN, unit: UNIT, file_end: 2 * LEN, direct: true }
    }

    fn direct() -> Progress {
        Progress { direct: true, ..Progress::new(false) }
    }

    // ---- the rows of the table ----

    #[test]
    fn all_of_it_is_finished() {
        for direction in [Direction::Read, Direction::Write] {
            let mut progress = direct();
            assert_eq!(judge(&mut progress, LEN as i32, facts(direction)), Verdict::Finished);
            assert_eq!(progress.done, LEN);
        }
    }

    #[test]
    fn less_is_resumed_from_the_last_whole_unit() {
        let mut progress = direct();
        assert_eq!(judge(&mut progress, 10_000, facts(Direction::Write)), Verdict::Resume);
        assert_eq!((progress.done, progress.from), (10_000, 8192));
        assert_eq!(judge(&mut progress, (LEN - 8192) as i32, facts(Direction::Write)), Verdict::Finished);
    }

    #[test]
    fn a_read_that_brings_all_that_is_wanted_is_finished() {
        let mut progress = direct();
        let facts = Facts { wanted: 5000, ..facts(Direction::Read) };
        assert_eq!(judge(&mut progress, 5000, facts), Verdict::Finished);
    }

    #[test]
    fn a_read_that_ends_twice_where_the_file_can_end_has_met_its_end() {
        let mut progress = direct();
        let facts = Facts { file_end: 5000, ..facts(Direction::Read) };
        assert_eq!(judge(&mut progress, 5000, facts), Verdict::Resume);
        assert_eq!(judge(&mut progress, 5000 - 4096, facts), Verdict::Finished);
        assert_eq!(progress.done, 5000);
    }

    #[test]
    fn a_read_that_ends_where_the_file_goes_on_is_tried_more_often() {
        let mut progress = direct();
        assert_eq!(judge(&mut progress, 5000, facts(Direction::Read)), Verdict::Resume);
        for _ in 0..ENDS_MAX - 2 {
            assert_eq!(judge(&mut progress, 5000 - 4096, facts(Direction::Read)), Verdict::Resume);
        }
        assert_eq!(judge(&mut progress, 5000 - 4096, facts(Direction::Read)), Verdict::Finished);
    }

    #[test]
    fn a_read_of_nothing_is_the_end_of_the_file() {
        let mut progress = direct();
        assert_eq!(judge(&mut progress, 0, facts(Direction::Read)), Verdict::Finished);
        assert_eq!(progress.done, 0);
    }

    #[test]
    fn a_write_of_nothing_is_tried_again_and_fails_in_the_end() {
        let mut progress = direct();
        for _ in 0..VAIN_MAX {
            assert_eq!(judge(&mut progress, 0, facts(Direction::Write)), Verdict::Resume);
        }
        assert_eq!(judge(&mut progress, 0, facts(Direction::Write)), Verdict::Failed(libc::EIO));
    }

    #[test]
    fn a_write_that_would_be_punted_is_repeated_without_the_flag() {
        let mut progress = Progress { direct: true, ..Progress::new(true) };
        assert_eq!(judge(&mut progress, -libc::EAGAIN, facts(Direction::Write)), Verdict::Repeat(Cause::Punted));
        assert!(!progress.nowait);
    }

    #[test]
    fn a_file_that_knows_no_nowait_is_written_without_it() {
        for errno in [libc::EINVAL, libc::EOPNOTSUPP] {
            let mut progress = Progress { direct: true, ..Progress::new(true) };
            assert_eq!(judge(&mut progress, -errno, facts(Direction::Write)), Verdict::Repeat(Cause::NowaitRefused));
            assert!(!progress.nowait);
        }
    }

    #[test]
    fn an_interrupted_operation_is_repeated_so_often_and_then_fails() {
        for errno in [libc::EINTR, libc::EAGAIN] {
            let mut progress = direct();
            for _ in 0..ATTEMPTS_MAX {
                assert_eq!(judge(&mut progress, -errno, facts(Direction::Read)), Verdict::Repeat(Cause::Interrupted));
            }
            assert_eq!(judge(&mut progress, -errno, facts(Direction::Read)), Verdict::Failed(errno));
        }
    }

    #[test]
    fn an_operation_that_the_ring_has_no_thread_for_is_carried_out_by_a_blocking_call() {
        let mut progress = direct();
        assert_eq!(judge(&mut progress, -libc::ECANCELED, facts(Direction::Read)), Verdict::RepeatBlocking);
    }

    #[test]
    fn a_refused_direct_operation_makes_the_file_buffered() {
        let mut progress = direct();
        assert_eq!(judge(&mut progress, -libc::EINVAL, facts(Direction::Read)), Verdict::Downgrade);
    }

    #[test]
    fn a_direct_operation_of_a_file_that_became_buffered_is_repeated() {
        let mut progress = direct();
        let facts = Facts { direct: false, ..facts(Direction::Read) };
        assert_eq!(judge(&mut progress, -libc::EINVAL, facts), Verdict::Repeat(Cause::Buffered));
    }

    #[test]
    fn a_refused_direct_read_is_repeated_up_to_the_end_of_the_file_once() {
        let mut progress = direct();
        for _ in 0..2 {
            assert_eq!(judge(&mut progress, -libc::EIO, facts(Direction::Read)), Verdict::ReadToEnd);
            assert_eq!(judge(&mut progress, 5000, facts(Direction::Read)), Verdict::Resume);
        }
        assert_eq!(judge(&mut progress, -libc::EIO, facts(Direction::Read)), Verdict::ReadToEnd);
        assert_eq!(judge(&mut progress, -libc::EIO, facts(Direction::Read)), Verdict::Failed(libc::EIO));
        assert_eq!(judge(&mut Progress::new(false), -libc::EIO, facts(Direction::Read)), Verdict::Failed(libc::EIO));
    }

    #[test]
    fn a_refused_read_is_cut_at_the_unit_in_which_the_file_ends() {
        let cut = |known, measured| before_end(8192, 16384, UNIT, known, measured);
        // The end is not in its way.
        assert_eq!([cut(24_576, 24_576), cut(20_481, 20_481), cut(u64::MAX - UNIT, 1 << 40)], [None; 3]);
        assert_eq!([cut(20_480, 20_480), cut(8193, 8193), cut(8192, 8192), cut(0, 0)], [Some(12_288), Some(4096), Some(0), Some(0)]);
        // Another process has truncated it, or made it longer.
        assert_eq!([cut(1 << 40, 12_288), cut(12_288, 1 << 40)], [Some(4096), Some(16_384)]);
    }

    #[test]
    fn any_other_error_fails() {
        for errno in [libc::EIO, libc::ENOSPC, libc::EBADF, libc::EDQUOT] {
            assert_eq!(judge(&mut direct(), -errno, facts(Direction::Write)), Verdict::Failed(errno));
        }
        let mut buffered = Progress::new(false);
        assert_eq!(judge(&mut buffered, -libc::EINVAL, facts(Direction::Write)), Verdict::Failed(libc::EINVAL));
    }

    // ---- short reads and the end of the file ----

    #[test]
    fn reads_that_fall_short_do_not_hide_the_end_of_the_file() {
        let mut ends = Ends::default();
        let counts = [2506, 165, 2506, 621, 2506, 0, 2506].map(|place| ends.count(place));
        assert_eq!(counts, [1, 1, 2, 1, 3, 1, 4]);
    }

    #[test]
    fn a_file_that_was_truncated_ends_where_all_further_reads_end() {
        let mut ends = Ends::default();
        let counts = [2506, 0, 0, 0, 7, 0].map(|place| ends.count(place));
        assert_eq!(counts, [1, 1, 2, 3, 1, 1]);
    }

    #[test]
    fn a_read_that_comes_further_begins_anew() {
        let mut ends = Ends::default();
        let counts = [512, 512, 4096, 512, 4096].map(|place| ends.count(place));
        assert_eq!(counts, [1, 2, 1, 1, 2]);
    }

    // ---- properties ----

    proptest! {
        /// A device that moves anything between nothing and all of it, and is interrupted now and then: every write
        /// ends, and what counts as done was moved.
        #[test]
        fn a_write_ends_and_counts_only_what_was_moved(results in proptest::collection::vec(-2i32..200_000, 1..200)) {
            let mut progress = direct();
            let mut moved_to = 0;
            for result in results.into_iter().chain(std::iter::repeat_n(100_000, 20)) {
                let result = match result { -2 => -libc::EINTR, -1 => -libc::EAGAIN, moved => moved.min((LEN - progress.from) as i32) };
                if result > 0 {
                    moved_to = moved_to.max(progress.from + result as u64);
                }
                let verdict = judge(&mut progress, result, facts(Direction::Write));
                prop_assert!(progress.done <= moved_to && progress.from <= progress.done);
                prop_assert!(progress.from.is_multiple_of(UNIT));
                match verdict {
                    Verdict::Finished => { prop_assert_eq!(moved_to, LEN); return Ok(()) }
                    Verdict::Failed(_) => return Ok(()),
                    _ => {}
                }
            }
            prop_assert!(false, "{} of {} bytes after all that", progress.done, LEN);
        }

        /// A read of a file that ends inside its extent, on a device that falls short at random, never reports more than
        /// the file has, and reports the end where it is if every other read comes as far as it can.
        #[test]
        fn a_read_finds_the_end_of_the_file(end in 1u64..LEN, shorts in proptest::collection::vec(any::<prop::sample::Index>(), 0..10)) {
            let mut progress = direct();
            let facts = Facts { file_end: end, ..facts(Direction::Read) };
            let mut shorts = shorts.into_iter();
            for turn in 0.. {
                let left = end - progress.from;
                let moved = if turn % 2 == 1 && left > 0 { shorts.next().map_or(left, |short| short.index(left as usize) as u64) } else { left };
                match judge(&mut progress, moved as i32, facts) {
                    Verdict::Resume => prop_assert!(turn < 100),
                    verdict => {
                        prop_assert_eq!(verdict, Verdict::Finished);
                        prop_assert!(progress.done <= end);
                        return Ok(());
                    }
                }
            }
        }
    }
}
