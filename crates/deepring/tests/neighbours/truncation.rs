//! Truncations among writes.

use super::{LIMIT, handle_sets, handle_sets_with, slow};
use crate::harness::{Rng, assert_same, byte, bytes, directory, engines, within};
use std::time::{Duration, Instant};

#[test]
fn truncations_among_writes_neither_hang_nor_tear() {
    let place = directory();
    for (index, handles) in handle_sets().into_iter().enumerate() {
        let path = place.path().join(format!("{index}"));
        within(LIMIT, "writes and truncations", move || {
            std::fs::write(&path, b"").expect("the file");
            let stop = Instant::now() + Duration::from_millis(600);
            let workers: Vec<_> = handles
                .open(&path)
                .into_iter()
                .enumerate()
                .map(|(worker, file)| {
                    std::thread::spawn(move || {
                        let mut rng = Rng::new();
                        let mut truncations = 0;
                        // On a busy machine the time is soon over, so at least enough rounds for
                        // the run to prove something.
                        while Instant::now() < stop || (worker == 0 && truncations <= 10) {
                            let ops: Vec<_> = (0..8)
                                .map(|_| (rng.below(200_000), 1 + rng.below(20_000) as usize))
                                .map(|(position, len)| file.write_at(bytes(position, len, 5), position))
                                .collect();
                            if worker == 0 || rng.once_in(4) {
                                file.set_len(rng.below(200_000)).wait().expect("set_len");
                                truncations += 1;
                            }
                            for op in ops {
                                op.wait().result.expect("a write");
                            }
                        }
                        (file, truncations)
                    })
                })
                .collect();
            let ended: Vec<_> = workers.into_iter().map(|worker| worker.join().expect("a worker")).collect();
            assert!(ended.iter().map(|(_, truncations)| truncations).sum::<u32>() > 3, "too few truncations, so this run proved nothing");
            let found = std::fs::read(&path).expect("the file");
            let wrong = found.iter().zip(0..).position(|(&found, at)| found != 0 && found != byte(at, 5));
            assert_eq!(wrong, None, "{}: a byte that was never written there", handles.name);
            for (file, _) in &ended {
                file.set_len(12_345).wait().expect("set_len");
                assert_eq!(std::fs::metadata(&path).expect("metadata").len(), 12_345);
                file.write_at(bytes(20_000, 5, 6), 20_000).wait().result.expect("a write");
                assert_eq!(std::fs::metadata(&path).expect("metadata").len(), 20_005);
            }
        });
    }
}

/// One of several operations in flight at once, for a model that applies them in some order.
#[derive(Debug, Clone, Copy)]
enum Change {
    Write(u64, usize, u64),
    SetLen(u64),
}

fn apply(change: Change, model: &mut Vec<u8>) {
    match change {
        Change::SetLen(size) => model.resize(size as usize, 0),
        Change::Write(position, len, salt) => {
            let end = position as usize + len;
            model.resize(model.len().max(end), 0);
            model[position as usize..end].copy_from_slice(&bytes(position, len, salt));
        }
    }
}

/// The results of all orders of three changes.
fn outcomes(old: &[u8], changes: [Change; 3]) -> Vec<Vec<u8>> {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let run = |order: [usize; 3]| {
        let mut model = old.to_vec();
        for index in order {
            apply(changes[index], &mut model);
        }
        model
    };
    orders.into_iter().map(run).collect()
}

#[test]
fn writes_during_a_truncation_end_as_if_run_one_after_the_other() {
    let place = directory();
    for (index, handles) in handle_sets_with(slow).into_iter().enumerate() {
        let path = place.path().join(format!("{index}"));
        within(LIMIT, "the rounds", move || {
            let mut rng = Rng::new();
            let old = bytes(0, 200_000, 1);
            for round in 0..60 {
                std::fs::write(&path, &old).expect("the file");
                let files = handles.open(&path);
                // After the truncation, accepted writes that were inside the file are outside it.
                let far = 60_000 + rng.below(5000);
                let mut changes = [
                    Change::SetLen(rng.below(5000)),
                    Change::Write(far, 1 + rng.below(120_000) as usize, 2),
                    Change::Write(5000 + rng.below(5000), 1 + rng.below(10_000) as usize, 3),
                ];
                if rng.once_in(3) {
                    rng.shuffle(&mut changes);
                }
                let mut ops = Vec::new();
                let mut truncation = None;
                for change in changes {
                    match change {
                        Change::SetLen(size) => truncation = Some(rng.pick(&files).set_len(size)),
                        Change::Write(position, len, salt) => ops.push(rng.pick(&files).write_at(bytes(position, len, salt), position)),
                    }
                }
                for op in ops {
                    op.wait().result.expect("a write");
                }
                truncation.expect("one change truncates").wait().expect("set_len");
                let found = std::fs::read(&path).expect("the file");
                let known = files[0].stat().wait().expect("stat").size;
                let what = format!("{}, round {round}: {changes:?} gave {} bytes", handles.name, found.len());
                assert_eq!(known, found.len() as u64, "{what}");
                let possible = outcomes(&old, changes);
                if !possible.contains(&found) {
                    let same_len: Vec<_> = possible.iter().filter(|model| model.len() == found.len()).collect();
                    let model = same_len.first().copied().unwrap_or(&possible[0]);
                    assert_same(&found, model, &format!("{what}, which no order gives"));
                }
            }
        });
    }
}

#[test]
fn two_whole_file_writes_at_once_leave_the_length_of_one_and_no_hole() {
    let place = directory();
    for engine in engines() {
        let path = place.path().join("file");
        within(LIMIT, "the rounds", move || {
            let mut rng = Rng::new();
            for round in 0..15 {
                let old = *rng.pick(&[0, 5000, 50_000, 3 << 20]);
                std::fs::write(&path, bytes(0, old, 1)).expect("the file");
                let lens = [1 + rng.below(10_000) as usize, 1 + rng.below(2 << 20) as usize];
                let ops: Vec<_> = lens.iter().map(|&len| engine.write_file(&path, bytes(0, len, len as u64))).collect();
                for op in ops {
                    op.wait().result.expect("write_file");
                }
                let found = std::fs::read(&path).expect("the file");
                let what = format!("round {round}: {lens:?} bytes at once over {old} gave {}", found.len());
                assert!(lens.contains(&found.len()), "{what}");
                let wrong = found
                    .iter()
                    .enumerate()
                    .position(|(at, &found)| !lens.iter().any(|&len| at < len && found == byte(at as u64, len as u64)));
                assert_eq!(wrong, None, "{what}: a byte of neither");
            }
        });
    }
}
