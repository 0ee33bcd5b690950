//! What every engine must do, including one that fell back to another backend: a short form of the
//! suite, for an engine that the caller built.

use super::program::run_random_on;
use super::{MODES, Slice, assert_file, assert_same, bytes, open};
use deepring::{Completed, Direct, Engine, ErrorKind, Op};
use std::path::Path;

const PROGRAMS: u32 = 5;

/// Asserts all of it, with files in `directory`.
pub(crate) fn assert_kept(engine: &Engine, directory: &Path) {
    let backend = engine.info().backend;
    for direct in MODES {
        run_random_on(PROGRAMS, |_| engine.clone(), direct, &directory.join("programs"));
        edges(engine, &directory.join("edges"), direct);
        canceling(engine, &directory.join("canceling"), direct);
        syncing(engine, &directory.join("syncing"), direct);
    }
    paths(engine, directory);
    let stats = engine.stats();
    assert_eq!((stats.queued, stats.in_flight, stats.in_flight_bytes), (0, 0, 0), "nothing is left hanging");
    assert_eq!(engine.info().backend, backend, "the backend stays");
}

/// Ends of files, neighbors in one unit, empty requests.
fn edges(engine: &Engine, path: &Path, direct: Direct) {
    std::fs::write(path, bytes(0, 5000, 1)).expect("the file");
    let file = open(engine, path, direct);
    let (_, receipt) = file.read_at(vec![0; 9000], 4000).wait().ok().expect("a read across the end");
    assert_eq!((receipt.bytes, receipt.backend), (1000, engine.info().backend));
    let error = file.read_exact_at(vec![0; 9000], 4000).wait().result.expect_err("a read across the end");
    assert_eq!((error.kind(), error.transferred(), error.position()), (ErrorKind::Eof, 1000, Some(4000)));
    assert_eq!(file.write_at(Vec::new(), 1 << 40).wait().result.expect("an empty write").bytes, 0);
    let mut ops: Vec<_> = (0..200u64).map(|index| file.write_at(bytes(index * 77, 77, 2), index * 77)).collect();
    ops.reverse();
    for op in ops {
        op.wait().result.expect("a write next to its neighbors");
    }
    assert_file(path, &bytes(0, 200 * 77, 2), "neighbors in the same units");
    file.set_len(333).wait().expect("set_len");
    file.write_at(bytes(1000, 10, 2), 1000).wait().result.expect("a write beyond the end");
    let hole = [bytes(0, 333, 2), vec![0; 667], bytes(1000, 10, 2)].concat();
    assert_file(path, &hole, "a hole");
    file.close().wait().expect("close");
}

/// Canceled or not, every operation settles once, its buffer comes back, and a write is whole or
/// absent.
fn canceling(engine: &Engine, path: &Path, direct: Direct) {
    const LEN: usize = 20_000;
    std::fs::write(path, vec![0; 100 * LEN]).expect("the file");
    let file = open(engine, path, direct);
    let position = |index: usize| (index * LEN) as u64;
    let ops: Vec<_> = (0..100).map(|index| file.write_at(Slice::of(&bytes(position(index), LEN, 3), 0), position(index))).collect();
    ops.iter().step_by(2).for_each(Op::cancel);
    let mut model = vec![0; 100 * LEN];
    for (index, op) in ops.into_iter().enumerate() {
        let Completed { buf, result } = op.wait();
        let content = bytes(position(index), LEN, 3);
        assert_same(buf.expect("the buffer").content(), &content, "a write leaves its memory alone");
        let done = match result {
            Ok(_) => LEN,
            Err(error) => {
                assert_eq!((error.kind(), index % 2), (ErrorKind::Canceled, 0), "{error}");
                error.transferred() as usize
            }
        };
        // Bytes behind the contiguous part of a canceled write can be old or new. Here a write is
        // one block.
        assert!(done == LEN || done == 0 || direct == Direct::Prefer, "{done} bytes");
        model[index * LEN..index * LEN + done].copy_from_slice(&content[..done]);
    }
    let found = std::fs::read(path).expect("the file");
    assert_eq!(found.len(), model.len());
    for index in 0..100 {
        let (found, model) = (&found[index * LEN..][..LEN], &model[index * LEN..][..LEN]);
        if model[LEN - 1] != 0 {
            assert_same(found, model, "a write that was done");
        } else {
            let content = bytes(position(index), LEN, 3);
            assert!(found.iter().zip(&content).all(|(a, b)| a == b || *a == 0), "a canceled write left other bytes");
        }
    }
    file.close().wait().expect("close");
}

/// A sync runs after every write that was accepted before it.
fn syncing(engine: &Engine, path: &Path, direct: Direct) {
    std::fs::write(path, b"").expect("the file");
    let file = open(engine, path, direct);
    let ops: Vec<_> = (0..50u64).map(|index| file.write_at(bytes(index * 5003, 5003, 4), index * 5003)).collect();
    file.sync_all().wait().expect("sync");
    assert!(ops.iter().all(|op| format!("{op:?}") == "Op(done)"), "the sync was done before a write that it covers");
    for op in ops {
        op.wait().result.expect("a write");
    }
    file.sync_data().wait().expect("sync");
    assert_file(path, &bytes(0, 50 * 5003, 4), "after a sync");
    file.close().wait().expect("close");
}

/// Whole files by path.
fn paths(engine: &Engine, directory: &Path) {
    let name = |index: u64| directory.join(format!("whole-{index}"));
    let writes: Vec<_> = (0..30u64).map(|index| engine.write_file(name(index), bytes(index, 3001, 5))).collect();
    for op in writes {
        op.wait().result.expect("write_file");
    }
    let reads: Vec<_> = (0..30u64).map(|index| engine.read_file(name(index), vec![0; 3001])).collect();
    for (index, op) in (0..).zip(reads) {
        assert_same(&op.wait().ok().expect("read_file").0, &bytes(index, 3001, 5), "a whole file");
        std::fs::remove_file(name(index)).expect("the file");
    }
    let error = engine.read_file(name(0), vec![0; 3001]).wait().result.expect_err("it is gone");
    assert_eq!(error.code(), "ENOENT");
}
