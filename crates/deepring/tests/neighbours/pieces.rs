//! Random pieces, written side by side by several handles.

use super::{Crew, LIMIT, crews, crews_with, files, slow};
use crate::harness::gate::Gate;
use crate::harness::{Chance, assert_file, assert_same, bytes, directory, engines, open, within};
use deepring::{Completed, Direct, ErrorKind, File};

/// One write: where, how long, and (once it has ended) how much of it must be there.
#[derive(Debug, Clone)]
struct Piece {
    position: u64,
    len: usize,
    canceled: bool,
    transferred: u64,
}

/// Odd pieces, side by side, with a gap here and there.
fn pieces(chance: &mut Chance) -> Vec<Piece> {
    let longest = *chance.pick(&[64, 700, 5000, 9000, 40_000]);
    let mut position = chance.below(20_000);
    let mut pieces = Vec::new();
    for _ in 0..=chance.below(20) {
        let len = 1 + chance.below(longest) as usize;
        pieces.push(Piece { position, len, canceled: false, transferred: 0 });
        position += len as u64;
        if chance.once_in(6) {
            position += chance.below(6000);
        }
    }
    chance.shuffle(&mut pieces);
    pieces
}

/// Submits all pieces at once to random handles and waits for them; reads each back through another handle as soon as it is acknowledged.
fn write_pieces(files: &[File], pieces: &mut [Piece], salt: u64, cancel: bool, chance: &mut Chance) {
    let ops: Vec<_> = pieces
        .iter()
        .map(|piece| {
            let op = chance.pick(files).write_at(bytes(piece.position, piece.len, salt), piece.position);
            if cancel && chance.once_in(3) {
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
            let Completed { buf, result } = chance.pick(files).read_exact_at(vec![0; piece.transferred as usize], piece.position).wait();
            result.expect("what was acknowledged can be read");
            let expected = bytes(piece.position, piece.transferred as usize, salt);
            assert_same(&buf.expect("the buffer"), &expected, &format!("acknowledged and read by a neighbour: {piece:?}"));
        }
    }
}

/// What the file must hold: the old bytes under those of the pieces.
fn expected(old: &[u8], pieces: &[Piece], salt: u64) -> Vec<u8> {
    let mut model = old.to_vec();
    for piece in pieces.iter().filter(|piece| piece.transferred > 0) {
        let end = piece.position as usize + piece.transferred as usize;
        model.resize(model.len().max(end), 0);
        model[piece.position as usize..end].copy_from_slice(&bytes(piece.position, piece.transferred as usize, salt));
    }
    model
}

fn rounds_of_pieces(crew: &Crew, rounds: u64, cancel: bool) {
    let place = directory();
    let path = place.path().join("file");
    let mut chance = Chance::new();
    for round in 0..rounds {
        let old = bytes(0, *chance.pick(&[0, 1, 3000, 4096, 5000, 12_288, 30_001]), 1);
        std::fs::write(&path, &old).expect("the file");
        let files = files(crew, &path);
        let mut pieces = pieces(&mut chance);
        write_pieces(&files, &mut pieces, 2 + round, cancel, &mut chance);
        let model = expected(&old, &pieces, 2 + round);
        let what = format!("{}, round {round}, {} old bytes, {pieces:?}", crew.0, old.len());
        for file in &files {
            assert_eq!(file.stat().wait().expect("stat").size, model.len() as u64, "{what}");
        }
        assert_file(&path, &model, &what);
    }
}

fn rounds_of_pieces_by(crew: &'static str, rounds: u64, cancel: bool) {
    within(LIMIT, "the rounds", move || {
        let crews = crews().into_iter().chain(crews_with(slow));
        crews.filter(|its| its.0 == crew).for_each(|crew| rounds_of_pieces(&crew, rounds, cancel));
    });
}

#[test]
fn two_handles_that_pad_extend_and_trim_lose_no_byte() {
    rounds_of_pieces_by("two handles of one engine", 25, false);
}

#[test]
fn two_engines_that_pad_extend_and_trim_lose_no_byte() {
    rounds_of_pieces_by("two engines", 50, false);
}

#[test]
fn a_buffered_and_a_direct_handle_lose_no_byte() {
    rounds_of_pieces_by("a direct and a buffered handle", 25, false);
}

#[test]
fn cancelled_neighbours_leave_neither_padding_nor_holes() {
    for crew in ["two handles of one engine", "two engines", "a direct and a buffered handle"] {
        rounds_of_pieces_by(crew, 12, true);
    }
}

/// A write that is accepted may be what others leave the end of the file to. If it goes without having begun, it must still put the end in order.
#[test]
fn a_write_that_was_counted_on_and_is_cancelled_leaves_the_length_of_the_others() {
    let place = directory();
    let path = place.path().join("file");
    for crew in crews() {
        for (round, end) in [(0, 5000), (1, 8192), (2, 12_289)] {
            std::fs::write(&path, bytes(0, 100, 1)).expect("the file");
            let [here, there] = <[File; 2]>::try_from(files(&crew, &path)).expect("two handles");
            let holding = engines().remove(0);
            let held = open(&holding, &path, Direct::Prefer);
            let gate = Gate::close(&held);
            let counted_on = [held.write_at(bytes(end, 50_000, 2), end), held.write_at(bytes(90_000, 10, 2), 90_000)];
            for (file, from) in [(&here, 100), (&there, end / 2)] {
                let content = bytes(from, (end - from) as usize, 1);
                file.write_at(content, from).wait().result.expect("a write");
            }
            let size = here.stat().wait().expect("stat").size;
            assert_eq!(size, end, "nobody is shown what is not written yet");
            let (_, receipt) = there.read_at(vec![0; 100_000], 0).wait().ok().expect("a read");
            assert_eq!(receipt.bytes, end, "nobody is shown what is not written yet");
            for op in &counted_on {
                op.cancel();
            }
            drop(gate);
            for op in counted_on {
                assert_eq!(op.wait().result.expect_err("it was cancelled").kind(), ErrorKind::Canceled);
            }
            assert_file(&path, &bytes(0, end as usize, 1), &format!("{}, round {round}", crew.0));
        }
    }
}

#[test]
fn odd_records_appended_in_depth_are_all_there() {
    let place = directory();
    let path = place.path().join("log");
    for crew in crews() {
        let mut chance = Chance::new();
        std::fs::write(&path, b"").expect("the file");
        let files = files(&crew, &path);
        let mut records = Vec::new();
        let mut end = 0;
        for _ in 0..400 {
            let len = 1 + chance.below(3000) as usize;
            records.push((end, len));
            end += len as u64;
        }
        // Mostly in order, as appenders are, with some that overtake others.
        for _ in 0..40 {
            let at = chance.below(399) as usize;
            records.swap(at, at + 1);
        }
        let (ops, path_) = (records.iter().zip(files.iter().cycle()), path.clone());
        let ops: Vec<_> = ops.map(|(&(position, len), file)| file.write_at(bytes(position, len, 9), position)).collect();
        within(LIMIT, "the appends", move || {
            for op in ops {
                op.wait().result.expect("an append");
            }
            assert_file(&path_, &bytes(0, end as usize, 9), crew.0);
        });
    }
}

/// Where a direct write meets a page that a buffered one has just made dirty, the kernel cannot throw the page away: its old bytes stay for
/// later readers, and the next `fsync` reports a loss, which the engine would have to remember for ever.
#[test]
fn buffered_and_direct_writes_to_one_place_collide_neither_in_the_cache_nor_at_sync() {
    const LEN: u64 = 512 << 10;
    let place = directory();
    for (index, engine) in engines().into_iter().enumerate() {
        let path = place.path().join(format!("{index}"));
        within(LIMIT, "the rounds", move || {
            std::fs::write(&path, bytes(0, LEN as usize, 1)).expect("the file");
            // All write the same bytes, so that every read can be judged whatever the order.
            let writer = |direct: Direct| {
                let file = open(&engine, &path, direct);
                std::thread::spawn(move || {
                    let mut chance = Chance::new();
                    for round in 0..25 {
                        let places: Vec<_> = (0..16)
                            .map(|_| {
                                let (position, len) = (chance.below(LEN - 100_000), 1 + chance.below(100_000) as usize);
                                (if chance.once_in(2) { position - position % 4096 } else { position }, len)
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
