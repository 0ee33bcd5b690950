//! The commit of a generation: from the moment at which all bytes were handed over to that at which all are visible.
//!
//! ```text
//!   (1) begin: the temporary directory, a lock       (2) put: the bytes
//!   (3) SyncData        every data file is flushed, and gets its name
//!   (4) WritePart       the tables of this writer: a temporary file, flushed, renamed
//!       ── of a writer that has joined, this is the end ──
//!   (5) AwaitParts      all writers have theirs, and their tensors agree
//!   (6) WriteManifest   the index and the manifest, in the same way
//!   (7) SyncTemporary   the names in the directory are flushed
//!   (8) Publish         the directory gets its number: this is the moment
//!   (9) SyncStore       that name is flushed          Unlock: the locks are removed
//! ```
//!
//! Each step has succeeded before the next begins, but for what has no name yet: the part, and the index and manifest of a
//! writer that is alone, are written and flushed beside the data files in (3). (4) and (6) then only give the names. Before
//! (8), a power cut or `kill -9` leaves a directory that no reader looks at. From (8) on all is there, and from (9) on it stays. `collect` reads the locks, so they go last.

use super::planted::{PlantedBug, planted};

/// One step of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    SyncData,
    WritePart,
    AwaitParts,
    WriteManifest,
    SyncTemporary,
    Publish,
    SyncStore,
    Unlock,
}

/// The last steps, which change names alone: they make a generation of a directory that is whole.
pub(super) const LAST: [Step; 4] = [Step::SyncTemporary, Step::Publish, Step::SyncStore, Step::Unlock];

/// What a writer does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Commit {
    pub(super) steps: Vec<Step>,
    /// The flush that is left out, by a planted bug.
    forgotten: Option<PlantedBug>,
}

/// Bugs that leave out a flush which is part of a step.
const FORGETFUL: [PlantedBug; 5] = [
    PlantedBug::ForgetsDataSync,
    PlantedBug::ForgetsPartSync,
    PlantedBug::ForgetsManifestSync,
    PlantedBug::ForgetsIndexSync,
    PlantedBug::ForgetsRetiredSync,
];

impl Commit {
    /// That of a writer. Called on the thread that begins it: a planted bug is the calling thread's.
    pub(super) fn new(is_first: bool) -> Self {
        let mut steps = vec![Step::SyncData, Step::WritePart];
        if planted(PlantedBug::PartBeforeData) {
            steps.reverse();
        }
        if is_first {
            let mut rest = [&[Step::AwaitParts, Step::WriteManifest][..], &LAST].concat();
            rest.retain(|step| match step {
                Step::SyncTemporary => !planted(PlantedBug::ForgetsTemporarySync),
                Step::SyncStore => !planted(PlantedBug::ForgetsStoreSync),
                _ => true,
            });
            let (early, before): (&[Step], _) = match () {
                () if planted(PlantedBug::SyncsTemporaryFirst) => (&[Step::SyncTemporary], Step::WriteManifest),
                () if planted(PlantedBug::PublishesFirst) => (&[Step::Publish, Step::SyncStore], Step::WriteManifest),
                () if planted(PlantedBug::SyncsStoreFirst) => (&[Step::SyncStore], Step::Publish),
                () if planted(PlantedBug::UnlocksFirst) => (&[Step::Unlock], Step::Publish),
                () => (&[], Step::AwaitParts),
            };
            rest.retain(|step| !early.contains(step));
            let at = rest.iter().position(|&step| step == before).unwrap_or(0);
            rest.splice(at..at, early.iter().copied());
            steps.append(&mut rest);
        }
        Self { steps, forgotten: FORGETFUL.into_iter().find(|&bug| planted(bug)) }
    }

    /// Whether the flush is made that this bug leaves out.
    pub(super) fn flushes(&self, bug: PlantedBug) -> bool {
        self.forgotten != Some(bug)
    }

    /// The steps after which nothing is visible yet. Of a writer that has joined, all.
    pub(super) fn before_moment(&self) -> &[Step] {
        &self.steps[..self.moment()]
    }

    /// The others.
    pub(super) fn rest(&self) -> &[Step] {
        &self.steps[self.moment()..]
    }

    fn moment(&self) -> usize {
        self.steps.iter().position(|&step| step == Step::Publish).unwrap_or(self.steps.len())
    }
}

#[cfg(test)]
mod tests {
    use super::{Commit, FORGETFUL, Step};
    use crate::checkpoint::planted::{PlantedBug, plant};

    fn with(bug: PlantedBug) -> Commit {
        plant(Some(bug));
        let commit = Commit::new(true);
        plant(None);
        commit
    }

    fn order(bug: PlantedBug) -> Vec<Step> {
        with(bug).steps
    }

    #[test]
    fn the_steps_are_those_of_the_format() {
        use Step::{AwaitParts, Publish, SyncData, SyncStore, SyncTemporary, Unlock, WriteManifest, WritePart};
        let all = [SyncData, WritePart, AwaitParts, WriteManifest, SyncTemporary, Publish, SyncStore, Unlock];
        assert_eq!(Commit::new(true).steps, all);
        assert_eq!(Commit::new(false).steps, all[..2]);
        assert!(FORGETFUL.iter().all(|&bug| Commit::new(true).flushes(bug)));
        let (first, joined) = (Commit::new(true), Commit::new(false));
        assert_eq!((first.before_moment(), first.rest()), all.split_at(5));
        assert_eq!((joined.before_moment(), joined.rest()), all[..2].split_at(2));
    }

    #[test]
    fn a_planted_bug_changes_just_its_step() {
        use Step::{AwaitParts, Publish, SyncData, SyncStore, SyncTemporary, Unlock, WriteManifest, WritePart};
        assert_eq!(order(PlantedBug::PartBeforeData)[..2], [WritePart, SyncData]);
        assert!(!order(PlantedBug::ForgetsTemporarySync).contains(&SyncTemporary));
        assert!(!order(PlantedBug::ForgetsStoreSync).contains(&SyncStore));
        let expected = [SyncData, WritePart, AwaitParts, SyncTemporary, WriteManifest, Publish, SyncStore, Unlock];
        assert_eq!(order(PlantedBug::SyncsTemporaryFirst), expected);
        let expected = [SyncData, WritePart, AwaitParts, WriteManifest, SyncTemporary, SyncStore, Publish, Unlock];
        assert_eq!(order(PlantedBug::SyncsStoreFirst), expected);
        let expected = [SyncData, WritePart, AwaitParts, Publish, SyncStore, WriteManifest, SyncTemporary, Unlock];
        assert_eq!(order(PlantedBug::PublishesFirst), expected);
        let expected = [SyncData, WritePart, AwaitParts, WriteManifest, SyncTemporary, Unlock, Publish, SyncStore];
        assert_eq!(order(PlantedBug::UnlocksFirst), expected);
        for bug in FORGETFUL {
            assert!(FORGETFUL.iter().all(|&other| with(bug).flushes(other) == (other != bug)), "{bug:?}");
        }
    }
}
