//! Promise: **exact**, between writers. Direct writes work in whole units, so two writers of neighbouring bytes touch the same unit, and the
//! last unit of a file reaches past its end. Whoever they are (two handles, two engines, two backends, one of them buffered): no byte that
//! was acknowledged is lost, the length is that of the bytes, and nobody is ever shown padding.

#[path = "../harness/mod.rs"]
mod harness;

use deepring::binding::{Completion, EngineBinding, FileBinding, Outcome, RawTransfer};
use deepring::{Completed, Direct, Direction, Engine, EngineBuilder, ErrorKind, File};
use harness::gate::Gate;
use harness::{Chance, assert_file, assert_same, builders, byte, bytes, directory, engines, open, patient, within};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(50);

/// Who shares a file: a name, and the handles to open on it.
type Crew = (&'static str, Vec<(Engine, Direct)>);

fn crews() -> Vec<Crew> {
    crews_with(|builder| builder)
}

/// Crews of engines with settings of their own.
fn crews_with(set: impl Fn(EngineBuilder) -> EngineBuilder) -> Vec<Crew> {
    let engines = || builders().into_iter().map(|builder| set(builder).build().expect("an engine"));
    let mut crews = Vec::new();
    for engine in engines() {
        crews.push(("two handles of one engine", vec![(engine.clone(), Direct::Prefer), (engine.clone(), Direct::Prefer)]));
        crews.push(("a direct and a buffered handle", vec![(engine.clone(), Direct::Prefer), (engine, Direct::Never)]));
    }
    // One of each backend, or two of the one that is tested.
    let two = engines().chain(engines()).take(2);
    crews.push(("two engines", two.map(|engine| (engine, Direct::Prefer)).collect()));
    crews
}

fn files(crew: &Crew, path: &Path) -> Vec<File> {
    crew.1.iter().map(|(engine, direct)| open(engine, path, *direct)).collect()
}

// ---- random pieces ----

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

/// Small blocks, few at a time: a long write is still at work when a short one has ended.
fn slow(builder: EngineBuilder) -> EngineBuilder {
    builder.block_bytes(4096).queue_depth(4)
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

// ---- padding and trimming per handle loses data ----

/// A writes an unaligned tail and so pads and trims; B extends the file meanwhile. The failure this guards against: both succeed, the length is
/// A's, and B's bytes are gone.
#[test]
fn padding_and_trimming_in_one_handle_does_not_cut_what_another_wrote() {
    let place = directory();
    for (index, crew) in crews().into_iter().enumerate() {
        let path = place.path().join(format!("{index}"));
        within(LIMIT, "the rounds", move || {
            for round in 0..100u64 {
                std::fs::write(&path, b"").expect("the file");
                let mut pair = files(&crew, &path);
                let (b, a) = (pair.pop().expect("a handle"), pair.pop().expect("a handle"));
                let (a, b) = if round % 2 == 0 { (a, b) } else { (b, a) };
                let b_start = [5000, 8192, 5001, 9000][round as usize / 2 % 4];
                let start = Arc::new(Barrier::new(2));
                let its_start = Arc::clone(&start);
                let other = std::thread::spawn(move || {
                    its_start.wait();
                    b.write_at(bytes(b_start, 12_288 - b_start as usize, 3), b_start).wait().result.expect("B's write");
                });
                start.wait();
                a.write_at(bytes(0, 5000, 3), 0).wait().result.expect("A's write");
                other.join().expect("B");
                let mut model = bytes(0, 12_288, 3);
                model[5000..b_start as usize].fill(0);
                assert_file(&path, &model, &format!("{}, round {round}: A wrote 5000 bytes, B from {b_start} to 12288", crew.0));
            }
        });
    }
}

// ---- what others see meanwhile ----

#[test]
fn reads_during_padding_never_see_beyond_the_promised_size() {
    const END: u64 = 300_000;
    let place = directory();
    for (index, crew) in crews().into_iter().enumerate() {
        let path = place.path().join(format!("{index}"));
        within(LIMIT, "appending and reading", move || {
            let mut chance = Chance::new();
            std::fs::write(&path, b"").expect("the file");
            let mut pair = files(&crew, &path);
            let (reader, writer) = (pair.pop().expect("a handle"), pair.pop().expect("a handle"));
            // What was acknowledged, and what is under way.
            let acknowledged = Arc::new(AtomicU64::new(0));
            let submitted = Arc::new(AtomicU64::new(0));
            let over = Arc::new(AtomicBool::new(false));
            let reading = std::thread::spawn({
                let (acknowledged, submitted, over) = (Arc::clone(&acknowledged), Arc::clone(&submitted), Arc::clone(&over));
                move || {
                    let mut reads = 0u64;
                    while !over.load(Ordering::Acquire) {
                        let floor = acknowledged.load(Ordering::Acquire);
                        let from = floor.saturating_sub(1000 + 700 * (reads % 20));
                        let Completed { buf, result } = reader.read_at(vec![0; 30_000], from).wait();
                        let got = result.expect("a read").bytes;
                        let ceiling = submitted.load(Ordering::Acquire);
                        assert!(from + got >= floor.min(from + 30_000), "{got} bytes from {from}, but {floor} were acknowledged");
                        assert!(from + got <= ceiling, "{got} bytes from {from}, but only {ceiling} were ever written");
                        let (found, there) = (buf.expect("the buffer"), bytes(from, got as usize, 4));
                        assert_same(&found[..got as usize], &there, &format!("read {reads}: {got} bytes at {from}, {floor} acknowledged"));
                        let size = reader.stat().wait().expect("stat").size;
                        assert!(size >= floor && size <= submitted.load(Ordering::Acquire), "stat says {size} after {floor}");
                        reads += 1;
                    }
                    reads
                }
            });
            let mut end = 0;
            while end < END && !reading.is_finished() {
                let longest = *chance.pick(&[900, 900, 9000]);
                let len = 1 + chance.below(longest);
                submitted.store(end + len, Ordering::Release);
                writer.write_at(bytes(end, len as usize, 4), end).wait().result.expect("an append");
                end += len;
                acknowledged.store(end, Ordering::Release);
            }
            over.store(true, Ordering::Release);
            let reads = reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            assert!(reads > 10, "only {reads} reads were made meanwhile: this run proved nothing");
        });
    }
}

// ---- truncation ----

#[test]
fn truncation_among_writes_neither_hangs_nor_tears() {
    let place = directory();
    for (index, crew) in crews().into_iter().enumerate() {
        let path = place.path().join(format!("{index}"));
        within(LIMIT, "writes and truncations", move || {
            std::fs::write(&path, b"").expect("the file");
            let stop = Instant::now() + Duration::from_millis(600);
            let workers: Vec<_> = files(&crew, &path)
                .into_iter()
                .enumerate()
                .map(|(worker, file)| {
                    std::thread::spawn(move || {
                        let mut chance = Chance::new();
                        let mut truncations = 0;
                        // On a busy machine the time is soon over: enough rounds for the run to prove something.
                        while Instant::now() < stop || (worker == 0 && truncations <= 10) {
                            let ops: Vec<_> = (0..8)
                                .map(|_| (chance.below(200_000), 1 + chance.below(20_000) as usize))
                                .map(|(position, len)| file.write_at(bytes(position, len, 5), position))
                                .collect();
                            if worker == 0 || chance.once_in(4) {
                                file.set_len(chance.below(200_000)).wait().expect("set_len");
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
            assert!(ended.iter().map(|(_, truncations)| truncations).sum::<u32>() > 3, "this run proved nothing");
            let found = std::fs::read(&path).expect("the file");
            let wrong = found.iter().zip(0..).position(|(&found, at)| found != 0 && found != byte(at, 5));
            assert_eq!(wrong, None, "{}: a byte nobody wrote there", crew.0);
            for (file, _) in &ended {
                file.set_len(12_345).wait().expect("set_len");
                assert_eq!(std::fs::metadata(&path).expect("metadata").len(), 12_345);
                file.write_at(bytes(20_000, 5, 6), 20_000).wait().result.expect("a write");
                assert_eq!(std::fs::metadata(&path).expect("metadata").len(), 20_005);
            }
        });
    }
}

/// One of several operations under way at once, for a model that applies them in some order.
#[derive(Debug, Clone, Copy)]
enum Act {
    Write(u64, usize, u64),
    SetLen(u64),
}

fn apply(act: Act, model: &mut Vec<u8>) {
    match act {
        Act::SetLen(size) => model.resize(size as usize, 0),
        Act::Write(position, len, salt) => {
            let end = position as usize + len;
            model.resize(model.len().max(end), 0);
            model[position as usize..end].copy_from_slice(&bytes(position, len, salt));
        }
    }
}

/// The results of all orders of three acts.
fn outcomes(old: &[u8], acts: [Act; 3]) -> Vec<Vec<u8>> {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let run = |order: [usize; 3]| {
        let mut model = old.to_vec();
        for index in order {
            apply(acts[index], &mut model);
        }
        model
    };
    orders.into_iter().map(run).collect()
}

#[test]
fn writes_beside_a_truncation_end_as_if_done_one_after_the_other() {
    let place = directory();
    for (index, crew) in crews_with(slow).into_iter().enumerate() {
        let path = place.path().join(format!("{index}"));
        within(LIMIT, "the rounds", move || {
            let mut chance = Chance::new();
            let old = bytes(0, 200_000, 1);
            for round in 0..60 {
                std::fs::write(&path, &old).expect("the file");
                let files = files(&crew, &path);
                // The truncation makes the inside of the file its outside, for writes that are already accepted.
                let far = 60_000 + chance.below(5000);
                let mut acts = [
                    Act::SetLen(chance.below(5000)),
                    Act::Write(far, 1 + chance.below(120_000) as usize, 2),
                    Act::Write(5000 + chance.below(5000), 1 + chance.below(10_000) as usize, 3),
                ];
                if chance.once_in(3) {
                    chance.shuffle(&mut acts);
                }
                let mut ops = Vec::new();
                let mut truncation = None;
                for act in acts {
                    match act {
                        Act::SetLen(size) => truncation = Some(chance.pick(&files).set_len(size)),
                        Act::Write(position, len, salt) => ops.push(chance.pick(&files).write_at(bytes(position, len, salt), position)),
                    }
                }
                for op in ops {
                    op.wait().result.expect("a write");
                }
                truncation.expect("one act truncates").wait().expect("set_len");
                let found = std::fs::read(&path).expect("the file");
                let known = files[0].stat().wait().expect("stat").size;
                let what = format!("{}, round {round}: {acts:?} gave {} bytes", crew.0, found.len());
                assert_eq!(known, found.len() as u64, "{what}");
                let possible = outcomes(&old, acts);
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
            let mut chance = Chance::new();
            for round in 0..15 {
                let old = *chance.pick(&[0, 5000, 50_000, 3 << 20]);
                std::fs::write(&path, bytes(0, old, 1)).expect("the file");
                let lens = [1 + chance.below(10_000) as usize, 1 + chance.below(2 << 20) as usize];
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

// ---- sync ----

/// Counts completions and remembers failures.
#[derive(Default)]
struct Tally {
    settled: AtomicU64,
    failed: Mutex<Vec<String>>,
}

impl Completion for Tally {
    fn settle(self: Arc<Self>, outcome: Outcome) {
        if let Err(error) = outcome.result {
            self.failed.lock().expect("the list").push(error.to_string());
        }
        self.settled.fetch_add(1, Ordering::AcqRel);
    }
    fn canceled(&self) -> bool {
        false
    }
}

#[test]
fn sync_waits_for_every_write_accepted_before_it() {
    const WRITES: u64 = 96;
    const LEN: u64 = 256 << 10;
    let place = directory();
    for (index, crew) in crews().into_iter().enumerate() {
        let path: PathBuf = place.path().join(format!("{index}"));
        let files = files(&crew, &path);
        files[0].set_len(WRITES * LEN).wait().expect("set_len");
        let memory: &'static [u8] = Box::leak(bytes(0, LEN as usize, 7).into_boxed_slice());
        for round in 0..4u64 {
            let tally = Arc::new(Tally::default());
            for write in 0..WRITES {
                let file = &files[((write + round) % 2) as usize];
                let transfer = RawTransfer {
                    direction: Direction::Write,
                    address: memory.as_ptr() as u64,
                    len: LEN - round,
                    position: write * LEN,
                    exact: true,
                    handle: None,
                };
                // SAFETY: the memory is never freed and never written.
                unsafe { file.submit(transfer, Arc::clone(&tally) as Arc<dyn Completion>) };
            }
            let (told, tell) = std::sync::mpsc::channel();
            let its_tally = Arc::clone(&tally);
            // Not a word to the drivers before the sync is accepted, so that none of the writes can have ended by itself.
            files[(round % 2) as usize].sync_then(round < 2, Arc::default(), move |result| {
                let settled = its_tally.settled.load(Ordering::Acquire);
                told.send((settled, result.is_ok())).expect("a listener");
            });
            for file in &files {
                file.engine().wake();
            }
            let (settled, ok) = tell.recv_timeout(patient(LIMIT)).expect("the sync ends");
            assert!(ok);
            assert_eq!(settled, WRITES, "{}: the sync ran before {} writes had ended", crew.0, WRITES - settled);
            assert!(tally.failed.lock().expect("the list").is_empty());
        }
    }
}

#[test]
fn sync_does_not_wait_for_writes_that_come_later() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        let file = Arc::new(open(&engine, &path, Direct::Prefer));
        file.set_len(8 << 20).wait().expect("set_len");
        let over = Arc::new(AtomicBool::new(false));
        // Never fewer than eight writes under way.
        let writer = std::thread::spawn({
            let (file, over) = (Arc::clone(&file), Arc::clone(&over));
            move || {
                let mut ops = std::collections::VecDeque::new();
                let mut writes = 0u64;
                while !over.load(Ordering::Acquire) {
                    let position = writes % 128 * 65_536;
                    ops.push_back(file.write_at(bytes(position, 65_536, writes), position));
                    writes += 1;
                    if ops.len() >= 8 {
                        ops.pop_front().expect("an operation").wait().result.expect("a write");
                    }
                }
                for op in ops {
                    op.wait().result.expect("a write");
                }
            }
        });
        let syncing = Arc::clone(&file);
        within(Duration::from_secs(30), "five syncs under constant writing", move || {
            (0..5).for_each(|_| syncing.sync_data().wait().expect("sync"));
        });
        over.store(true, Ordering::Release);
        writer.join().expect("the writer");
    }
}

#[test]
fn closing_waits_for_the_file_s_own_work_and_leaves_its_neighbour_alone() {
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        std::fs::write(&path, b"").expect("the file");
        let (leaving, staying) = (open(&engine, &path, Direct::Prefer), open(&engine, &path, Direct::Prefer));
        let ops: Vec<_> = (0..50u64)
            .map(|write| {
                let file = if write % 2 == 0 { &leaving } else { &staying };
                file.write_at(bytes(write * 7777, 7777, 1), write * 7777)
            })
            .collect();
        leaving.close().wait().expect("close");
        for op in ops {
            op.wait().result.expect("a write");
        }
        assert_file(&path, &bytes(0, 50 * 7777, 1), "written by two handles, one of which was closed meanwhile");
        staying.write_at(bytes(0, 1, 1), 0).wait().result.expect("the other handle is open");
    }
}

#[test]
fn what_another_process_appended_can_be_read_while_the_file_is_extended() {
    const THERE: u64 = 10_000;
    let place = directory();
    let path = place.path().join("file");
    for engine in engines() {
        for direct in harness::MODES {
            for round in 0..200 {
                std::fs::write(&path, b"").expect("the file");
                let file = open(&engine, &path, direct);
                // What the engine does not know of: it was not there when the file was opened.
                std::fs::write(&path, bytes(0, THERE as usize, 1)).expect("what another process appends");
                let read = file.read_at(vec![0; 300], THERE - 200);
                let position = THERE + round * 100;
                let write = (round % 3 != 0).then(|| file.write_at(bytes(position, 500, 1), position));
                let growth = (round % 3 != 1).then(|| file.set_len(position + 500));
                let (found, receipt) = read.wait().ok().expect("a read");
                assert!(receipt.bytes >= 200, "round {round}: {} bytes were read of 200 that were there", receipt.bytes);
                assert_same(&found[..200], &bytes(THERE - 200, 200, 1), "what another process appended");
                if let Some(write) = write {
                    write.wait().result.expect("a write");
                }
                if let Some(growth) = growth {
                    growth.wait().expect("set_len");
                }
            }
        }
    }
}
