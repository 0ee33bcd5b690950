//! Each target on the corpus that fuzzing left, and on mutations of it.

use super::{PLANTED, TARGETS, Target};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use std::panic::catch_unwind;
use std::path::Path;

/// Mutated inputs per target; about a second.
const CASES: u32 = 4096;

/// The committed corpus of a target, sorted by file name.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut paths: Vec<_> = std::fs::read_dir(&directory).expect("a corpus").map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("an input")).collect()
}

/// A mutation: some bytes change, and some are added or removed at the end.
fn mutations() -> impl Strategy<Value = (Index, Vec<(Index, u8)>, Vec<u8>, Index)> {
    let more = prop::collection::vec(any::<u8>(), 0..16);
    (any::<Index>(), prop::collection::vec((any::<Index>(), any::<u8>()), 0..8), more, any::<Index>())
}

/// Runs a target on mutations of a corpus. Failing inputs are shrunk and printed; no file is
/// written.
fn mutate(corpus: &[Vec<u8>], target: Target) {
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let run = runner.run(&mutations(), |(which, edits, more, end)| {
        let mut input = which.get(corpus).clone();
        input.extend(more);
        for (at, byte) in edits {
            if !input.is_empty() {
                let at = at.index(input.len());
                input[at] = byte;
            }
        }
        // Half of the inputs keep their end.
        let len = input.len();
        input.truncate(end.index(2 * len + 1));
        target(&input);
        Ok(())
    });
    if let Err(error) = run {
        panic!("{error}");
    }
}

#[test]
fn no_input_of_the_corpus_breaks_a_promise() {
    for &(name, target) in TARGETS {
        let inputs = corpus(name);
        assert!(inputs.len() > 4, "the corpus of {name} is missing");
        for input in &inputs {
            target(input);
        }
    }
}

#[test]
fn no_mutation_of_the_corpus_breaks_a_promise() {
    for &(name, target) in TARGETS {
        mutate(&corpus(name), target);
    }
}

#[test]
fn a_reader_with_a_bug_is_noticed() {
    let (_, target) = PLANTED;
    let corpus = corpus("nearly");
    assert!(catch_unwind(|| mutate(&corpus, target)).is_err(), "the planted bug was not noticed");
}
