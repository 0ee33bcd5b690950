//! Shrinks a failing script: leaves out chunks of operations as long as it still fails (delta
//! debugging, Zeller and Hildebrandt 2002), then simplifies the rest, operation by operation.
//!
//! A failure can depend on timing, so a candidate must pass several runs before it counts as
//! passing.

use super::script::{Mode, Op, Patience, Range, Script};
use crate::harness::program::Memory;
use std::time::{Duration, Instant};

/// Runs of a candidate before it counts as passing.
const TRIES: u32 = 4;

/// Shrinking ends after this time, with the shortest failing script known by then.
const TIME_MAX: Duration = Duration::from_secs(60);

/// A failing script, and what its last failing run reported.
#[derive(Debug, Clone)]
pub(crate) struct Failing {
    pub(crate) script: Script,
    pub(crate) what: String,
}

struct Shrinker<F> {
    run: F,
    until: Instant,
    best: Failing,
}

/// The shortest failing script found. `run` returns what is wrong with a script, or `None`.
pub(crate) fn shrink(failing: Failing, run: impl FnMut(&Script) -> Option<String>) -> Failing {
    let mut shrinker = Shrinker { run, until: Instant::now() + TIME_MAX, best: failing };
    while shrinker.leave_out() | shrinker.simplify_setup() | shrinker.simplify_ops() {}
    shrinker.best
}

impl<F: FnMut(&Script) -> Option<String>> Shrinker<F> {
    /// Whether the candidate fails too. If so, it becomes the best known.
    fn accepts(&mut self, candidate: Script) -> bool {
        if candidate == self.best.script {
            return false;
        }
        for _ in 0..TRIES {
            if Instant::now() >= self.until {
                return false;
            }
            if let Some(what) = (self.run)(&candidate) {
                self.best = Failing { script: candidate, what };
                return true;
            }
        }
        false
    }

    fn leave_out(&mut self) -> bool {
        let mut shorter = false;
        let mut chunk = self.best.script.ops.len().div_ceil(2);
        while chunk > 0 {
            let mut start = 0;
            while start < self.best.script.ops.len() {
                let mut candidate = self.best.script.clone();
                let end = (start + chunk).min(candidate.ops.len());
                candidate.ops.drain(start..end);
                if self.accepts(candidate) {
                    shorter = true;
                } else {
                    start = end;
                }
            }
            chunk /= 2;
        }
        shorter
    }

    fn simplify_setup(&mut self) -> bool {
        let mut simpler = false;
        let changes: [fn(&mut Script); 6] = [
            |script| script.writers = 1,
            |script| script.handles.truncate(1),
            |script| script.handles.truncate(2),
            |script| script.engines.truncate(1 + script.handles.iter().map(|handle| handle.engine).max().unwrap_or(0)),
            |script| script.handles.iter_mut().for_each(|handle| handle.engine = 0),
            |script| script.engines.iter_mut().for_each(|engine| (engine.block_bytes, engine.queue_depth) = (1 << 20, 0)),
        ];
        for change in changes {
            let mut candidate = self.best.script.clone();
            change(&mut candidate);
            simpler |= self.accepts(candidate);
        }
        simpler
    }

    fn simplify_ops(&mut self) -> bool {
        let mut simpler = false;
        for index in 0..self.best.script.ops.len() {
            for op in simpler_ones(self.best.script.ops[index]) {
                let mut candidate = self.best.script.clone();
                candidate.ops[index] = op;
                simpler |= self.accepts(candidate);
            }
        }
        simpler
    }
}

/// Operations a little simpler than this one, each in one respect.
fn simpler_ones(op: Op) -> Vec<Op> {
    let mut simpler = Vec::new();
    let mut offer = |change: &dyn Fn(&mut Op)| {
        let mut other = op;
        change(&mut other);
        if other != op {
            simpler.push(other);
        }
    };
    let mut offer_range = |change: &dyn Fn(&mut Range)| {
        offer(&|op| {
            if let Some(range) = op.range_mut() {
                change(range);
            }
        });
    };
    for len in [1, 512, 4096] {
        offer_range(&|range| range.len = range.len.min(len));
    }
    offer_range(&|range| range.len = range.len.div_ceil(2));
    for unit in [u64::MAX, 1 << 20, 4096, 512] {
        offer_range(&|range| range.position -= range.position % unit);
    }
    offer(&|op| match op {
        Op::Write { memory, .. } | Op::Read { memory, .. } => *memory = Memory::Slice(0),
        Op::SetLen { size, .. } => *size -= *size % 4096,
        Op::Reopen { mode, .. } => *mode = Mode::Direct,
        _ => {}
    });
    offer(&|op| {
        if let Op::Write { patience, .. } | Op::Read { patience, .. } = op {
            *patience = Patience::Waits;
        }
    });
    simpler
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsx::generate;
    use deepring::BackendKind;

    /// A bug that needs a truncation and, later, a write of more than 600 bytes.
    fn is_wrong(script: &Script) -> Option<String> {
        let cut = script.ops.iter().position(|op| matches!(op, Op::SetLen { .. }))?;
        let late = |op: &Op| matches!(op, Op::Write { range, .. } if range.len > 600);
        script.ops[cut..].iter().any(late).then(|| "a late write".into())
    }

    #[test]
    fn a_bug_that_needs_two_operations_shrinks_to_two() {
        for seed in 0..20 {
            let script = generate::script(seed, &[BackendKind::Threads]);
            let Some(what) = is_wrong(&script) else { continue };
            let short = shrink(Failing { script, what }, is_wrong).script;
            assert_eq!(short.len(), 2, "seed {seed}:\n{short}");
            assert_eq!((short.handles.len(), short.engines.len(), short.writers), (1, 1, 1));
            assert!(is_wrong(&short).is_some());
        }
    }
}
