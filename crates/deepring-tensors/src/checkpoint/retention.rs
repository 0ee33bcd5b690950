//! Which generations go. Pure.
//!
//! Numbers order the generations, never a clock. One goes when enough valid ones are newer, and nothing holds it: not its step,
//! a pin, or a reader. So the newest valid one always stays. A damaged one that is newer stays too: it takes the place of
//! none, and may be all that is left of a run.

use std::num::NonZeroU64;

/// What stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Keep {
    /// The newest valid generations, at least one. `None` keeps all.
    pub(crate) last: Option<u32>,
    /// Those whose step is a multiple of this.
    pub(crate) every: Option<NonZeroU64>,
}

/// A generation of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) number: u64,
    /// `None` also if it is damaged.
    pub(crate) step: Option<u64>,
    /// It can be opened.
    pub(crate) valid: bool,
    pub(crate) pinned: bool,
    /// A reader has it open.
    pub(crate) locked: bool,
}

/// The numbers of those that go, the oldest first.
pub(crate) fn retired(generations: &[Candidate], keep: Keep) -> Vec<u64> {
    let Some(last) = keep.last else { return Vec::new() };
    let mut newest_first = generations.to_vec();
    newest_first.sort_unstable_by_key(|candidate| std::cmp::Reverse(candidate.number));
    let (mut newer_valid, mut gone) = (0, Vec::new());
    for Candidate { number, step, valid, pinned, locked } in newest_first {
        let by_step = keep.every.zip(step).is_some_and(|(every, step)| step.is_multiple_of(every.get()));
        if newer_valid >= last.max(1) && !by_step && !pinned && !locked {
            gone.push(number);
        }
        newer_valid += u32::from(valid);
    }
    gone.reverse();
    gone
}

#[cfg(test)]
mod tests {
    use super::{Candidate, Keep, retired};
    use proptest::prelude::*;
    use std::num::NonZeroU64;

    fn whole(number: u64) -> Candidate {
        Candidate { number, step: Some(number * 10), valid: true, pinned: false, locked: false }
    }

    fn keep(last: u32) -> Keep {
        Keep { last: Some(last), every: None }
    }

    #[test]
    fn the_last_ones_and_what_is_held_stay() {
        let mut generations: Vec<Candidate> = (1..=6).map(whole).collect();
        assert_eq!(retired(&generations, keep(3)), [1, 2, 3]);
        assert_eq!(retired(&generations, keep(0)), [1, 2, 3, 4, 5], "the newest stays");
        assert_eq!(retired(&generations, Keep::default()), [] as [u64; 0]);
        assert_eq!(retired(&generations, Keep { every: NonZeroU64::new(20), ..keep(1) }), [1, 3, 5]);
        generations[0].pinned = true;
        generations[2].locked = true;
        assert_eq!(retired(&generations, keep(2)), [2, 4]);
    }

    #[test]
    fn a_damaged_one_takes_the_place_of_none() {
        let mut generations: Vec<Candidate> = (1..=4).map(whole).collect();
        for damaged in [0, 2, 3] {
            generations[damaged] = Candidate { step: None, valid: false, ..generations[damaged] };
        }
        assert_eq!(retired(&generations, keep(1)), [1], "2 is the newest valid one");
        assert_eq!(retired(&generations, keep(2)), [] as [u64; 0]);
    }

    fn generations() -> impl Strategy<Value = Vec<Candidate>> {
        let flags = (prop::option::of(0..20u64), any::<bool>(), prop::bool::weighted(0.1), prop::bool::weighted(0.1));
        let candidate = |number, (step, valid, pinned, locked)| Candidate { number, step, valid, pinned, locked };
        let by_number = prop::collection::btree_map(0..40u64, flags, 0..12);
        by_number.prop_map(move |all| all.into_iter().map(|(number, flags)| candidate(number, flags)).collect::<Vec<_>>()).prop_shuffle()
    }

    proptest! {
        #[test]
        fn nothing_that_stays_by_a_rule_goes_and_all_else_does(generations in generations(), last in 0..4u32, every in 0..5u64) {
            let gone = retired(&generations, Keep { last: Some(last), every: NonZeroU64::new(every) });
            prop_assert!(gone.is_sorted());
            for one in &generations {
                let newer = generations.iter().filter(|other| other.valid && other.number > one.number).count();
                let by_step = every > 0 && one.step.is_some_and(|step| step % every == 0);
                let stays = newer < last.max(1) as usize || by_step || one.pinned || one.locked;
                prop_assert_eq!(gone.contains(&one.number), !stays);
            }
        }
    }
}
