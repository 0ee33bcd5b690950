//! Random pieces, written side by side by several handles.

use super::{DIRECT_AND_BUFFERED, Handles, LIMIT, TWO_ENGINES, TWO_HANDLES, handle_sets, handle_sets_with, slow};
use crate::harness::gate::Gate;
use crate::harness::{Rng, assert_file, assert_same, bytes, directory, engines, open, within};
use deepring::{Completed, Direct, ErrorKind, File};

/// One write: its position, its length, and once it has ended how much of it must be there.
#[derive(Debug, Clone)]
struct Piece {
    position: u64,
    len: usize,
    canceled: bool,
    transferred: u64,
}

/// Pieces of odd lengths side by side, with a gap here and there.
fn pieces(rng: &mut Rng) -> Vec<Piece> {
    let longest = *rng.pick(&[64, 700, 5000, 9000, 40_000]);
    let mut position = rng.below(20_000);
    let mut pieces = Vec::new();
    for _ in 0..=rng.below(20) {
        let len = 1 + rng.below(longest) as usize;
        pieces.push(Piece { position, len, canceled: false, transferred: 0 });
        position += len as u64;
        if rng.once_in(6) {
            position += rng.below(6000);
        }
    }
    rng.shuffle(&mut pieces);
    pieces
}

/// Submits all pieces at once to random handles and waits for them. Reads each back through another
/// handle as soon as it is acknowledged.
fn write_pieces(files: &[File], pieces: &mut [Piece], salt: u64, cancel: bool, rng: &mut Rng) {
    let ops: Vec<_> = pieces
        .iter()
        .map(|piece| {
            let op = rng.pick(files).write_at(bytes(piece.position, piece.len, salt), piece.position);
            if cancel && rng.once_in(3) {
                op.cancel();
            }
            op
        })
        .collect();
    for (piece, op) in pieces.iter_mut().zip(ops) {
        match op.wait().result {
            Ok(receipt) => piece.transferred = receipt.bytes,
            Err(error) => {
                assert!(cancel && error.kind() == ErrorKind::Canceled, "{error}");
                (piece.canceled, piece.transferred) = (true, error.transferred());
            }
        }
        if piece.transferred > 0 {
            let Completed { buf, result } = rng.pick(files).read_exact_at(vec![0; piece.transferred as usize], piece.position).wait();
            result.expect("what was acknowledged can be read");
            let expected = bytes(piece.position, piece.transferred as usize, salt);
            assert_same(&buf.expect("the buffer"), &expected, &format!("acknowledged and read by a neighbor: {piece:?}"));
        }
    }
}

/// What the file must hold: the old bytes, overwritten by the pieces.
fn expected(old: &[u8], pieces: &[Piece], salt: u64) -> Vec<u8> {
    let mut model = old.to_vec();
    for piece in pieces.iter().filter(|piece| piece.transferred > 0) {
        let end = piece.position as usize + piece.transferred as usize;
        model.resize(model.len().max(end), 0);
        model[piece.position as usize..end].copy_from_slice(&bytes(piece.position, piece.transferred as usize, salt));
    }
    model
}

fn rounds_of_pieces(handles: &Handles, rounds: u64, cancel: bool) {
    let place = directory();
    let path = place.path().join("file");
    let mut rng = Rng::new();
    for round in 0..rounds {
        let old = bytes(0, *rng.pick(&[0, 1, 3000, 4096, 5000, 12_288, 30_001]), 1);
        std::fs::write(&path, &old).expect("the file");
        let files = handles.open(&path);
        let mut pieces = pieces(&mut rng);
        write_pieces(&files, &mut pieces, 2 + round, cancel, &mut rng);
        let model = expected(&old, &pieces, 2 + round);
        let what = format!("{}, round {round}, {} old bytes, {pieces:?}", handles.name, old.len());
        for file in &files {
            assert_eq!(file.stat().wait().expect("stat").size, model.len() as u64, "{what}");
        }
        assert_file(&path, &model, &what);
    }
}

fn rounds_of_pieces_by(name: &'static str, rounds: u64, cancel: bool) {
    within(LIMIT, "the rounds", move || {
        let sets = handle_sets().into_iter().chain(handle_sets_with(slow));
        sets.filter(|handles| handles.name == name).for_each(|handles| rounds_of_pieces(&handles, rounds, cancel));
    });
}

#[test]
fn two_handles_that_pad_extend_and_trim_lose_no_byte() {
    rounds_of_pieces_by(TWO_HANDLES, 25, false);
}

#[test]
fn two_engines_that_pad_extend_and_trim_lose_no_byte() {
    rounds_of_pieces_by(TWO_ENGINES, 50, false);
}

#[test]
fn a_buffered_and_a_direct_handle_lose_no_byte() {
    rounds_of_pieces_by(DIRECT_AND_BUFFERED, 25, false);
}

#[test]
fn canceled_neighbors_leave_neither_padding_nor_holes() {
    for name in [TWO_HANDLES, TWO_ENGINES, DIRECT_AND_BUFFERED] {
        rounds_of_pieces_by(name, 12, true);
    }
}

/// Other writes can leave the end of the file to an accepted extender. If it is canceled before it
/// began, it must still set the end right.
#[test]
fn a_canceled_extender_leaves_the_length_of_the_other_writes() {
    let place = directory();
    let path = place.path().join("file");
    for handles in handle_sets() {
        for (round, end) in [(0, 5000), (1, 8192), (2, 12_289)] {
            std::fs::write(&path, bytes(0, 100, 1)).expect("the file");
            let [here, there] = <[File; 2]>::try_from(handles.open(&path)).expect("two handles");
            let holding = engines().remove(0);
            let held = open(&holding, &path, Direct::Prefer);
            let gate = Gate::close(&held);
            let counted_on = [held.write_at(bytes(end, 50_000, 2), end), held.write_at(bytes(90_000, 10, 2), 90_000)];
            for (file, from) in [(&here, 100), (&there, end / 2)] {
                let content = bytes(from, (end - from) as usize, 1);
                file.write_at(content, from).wait().result.expect("a write");
            }
            let size = here.stat().wait().expect("stat").size;
            assert_eq!(size, end, "bytes that are not written yet are not visible");
            let (_, receipt) = there.read_at(vec![0; 100_000], 0).wait().ok().expect("a read");
            assert_eq!(receipt.bytes, end, "bytes that are not written yet are not visible");
            for op in &counted_on {
                op.cancel();
            }
            drop(gate);
            for op in counted_on {
                assert_eq!(op.wait().result.expect_err("it was canceled").kind(), ErrorKind::Canceled);
            }
            assert_file(&path, &bytes(0, end as usize, 1), &format!("{}, round {round}", handles.name));
        }
    }
}

#[test]
fn odd_records_appended_at_once_are_all_there() {
    let place = directory();
    let path = place.path().join("log");
    for handles in handle_sets() {
        let mut rng = Rng::new();
        std::fs::write(&path, b"").expect("the file");
        let files = handles.open(&path);
        let mut records = Vec::new();
        let mut end = 0;
        for _ in 0..400 {
            let len = 1 + rng.below(3000) as usize;
            records.push((end, len));
            end += len as u64;
        }
        // Mostly in order, as appenders write, with some out of order.
        for _ in 0..40 {
            let at = rng.below(399) as usize;
            records.swap(at, at + 1);
        }
        let (ops, path_) = (records.iter().zip(files.iter().cycle()), path.clone());
        let ops: Vec<_> = ops.map(|(&(position, len), file)| file.write_at(bytes(position, len, 9), position)).collect();
        within(LIMIT, "the appends", move || {
            for op in ops {
                op.wait().result.expect("an append");
            }
            assert_file(&path_, &bytes(0, end as usize, 9), handles.name);
        });
    }
}

/// If a direct write meets a page that a buffered write has just dirtied, the kernel cannot drop
/// the page. Later readers see its old bytes, and the next `fsync` reports a loss, which the engine
/// would remember for good.
#[test]
fn buffered_and_direct_writes_to_one_range_conflict_neither_in_the_cache_nor_at_sync() {
    const LEN: u64 = 512 << 10;
    let place = directory();
    for (index, engine) in engines().into_iter().enumerate() {
        let path = place.path().join(format!("{index}"));
        within(LIMIT, "the rounds", move || {
            std::fs::write(&path, bytes(0, LEN as usize, 1)).expect("the file");
            // All write the same bytes, so every read can be checked in any order.
            let writer = |direct: Direct| {
                let file = open(&engine, &path, direct);
                std::thread::spawn(move || {
                    let mut rng = Rng::new();
                    for round in 0..25 {
                        let places: Vec<_> = (0..16)
                            .map(|_| {
                                let (position, len) = (rng.below(LEN - 100_000), 1 + rng.below(100_000) as usize);
                                (if rng.once_in(2) { position - position % 4096 } else { position }, len)
                            })
                            .collect();
                        let ops: Vec<_> = places.iter().map(|&(position, len)| file.write_at(bytes(position, len, 1), position)).collect();
                        for op in ops {
                            op.wait().result.expect("a write");
                        }
                        for (position, len) in places {
                            let (buf, _) = file.read_exact_at(vec![0; len], position).wait().ok().expect("a read");
                            assert_same(&buf, &bytes(position, len, 1), &format!("{direct:?}, round {round}, {len} bytes at {position}"));
                        }
                        file.sync_data().wait().expect("nothing was lost, so sync has nothing to report");
                    }
                })
            };
            for thread in [writer(Direct::Prefer), writer(Direct::Never)] {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            }
            assert_file(&path, &bytes(0, LEN as usize, 1), "in the end");
        });
    }
}
