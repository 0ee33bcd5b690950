//! Random programs: sequences of reads, writes and truncations of one file. An engine and a vector
//! run each step, and must agree after it.

use super::{Rng, Slice, assert_file, assert_same, bytes, open};
use deepring::{BackendKind, Completed, Direct, Engine, ErrorKind, File, Receipt};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use std::path::Path;

/// Runs this many random programs on the file at `path`. One that fails is shrunk and shown.
pub(crate) fn run_random(programs: u32, backend: BackendKind, direct: Direct, path: &Path) {
    let engine = |block| Engine::builder().backend(backend).block_bytes(block).build().expect("an engine");
    run_random_on(programs, engine, direct, path);
}

/// As [`run_random`], on the engine that `engine` builds for a block size.
pub(crate) fn run_random_on(programs: u32, engine: impl Fn(u64) -> Engine, direct: Direct, path: &Path) {
    let seed = RngSeed::Fixed(Rng::new().next());
    let config = Config { cases: programs, failure_persistence: None, rng_seed: seed, ..Config::default() };
    let run = TestRunner::new(config).run(&self::programs(), |program| {
        let (block, size, steps) = program;
        run_program(&engine(block), direct, path, size, steps);
        Ok(())
    });
    if let Err(failure) = run {
        panic!("{failure}");
    }
}

/// One step of a random program.
#[derive(Debug, Clone)]
enum Step {
    Write { position: u64, len: usize, memory: Memory },
    Read { position: u64, len: usize, memory: Memory, exact: bool },
    SetLen { size: u64 },
    Reopen,
}

/// What the request's buffer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// A vector's slice at this distance from a page boundary.
    Slice(usize),
    /// Engine memory, from this offset on.
    Engine(usize),
}

/// Positions, lengths and sizes that matter: any number, and numbers next to a unit, a page, a
/// block, a bounce block.
fn edges(max: u64) -> impl Strategy<Value = u64> + Clone {
    let near = (prop_oneof![Just(512u64), Just(4096), Just(65536), Just(256 << 10), Just(1 << 20)], 0u64..64, -3i64..=3);
    prop_oneof![
        2 => 0..max,
        3 => near.prop_map(move |(unit, times, delta)| (unit * times).saturating_add_signed(delta) % max),
        1 => 0u64..10_000,
    ]
}

fn memories() -> impl Strategy<Value = Memory> + Clone {
    let offsets = prop_oneof![Just(0usize), Just(512), Just(1), 0usize..4096];
    (any::<bool>(), offsets).prop_map(|(engine, offset)| if engine { Memory::Engine(offset) } else { Memory::Slice(offset) })
}

const FILE_MAX: u64 = 2 << 20;

fn steps() -> impl Strategy<Value = Step> {
    let (position, len) = (edges(FILE_MAX), edges(600 << 10));
    let place = (position, len, memories());
    prop_oneof![
        5 => place.clone().prop_map(|(position, len, memory)| Step::Write { position, len: len as usize, memory }),
        4 => (place, any::<bool>()).prop_map(|((position, len, memory), exact)| Step::Read { position, len: len as usize, memory, exact }),
        1 => edges(FILE_MAX).prop_map(|size| Step::SetLen { size }),
        1 => Just(Step::Reopen),
    ]
}

fn programs() -> impl Strategy<Value = (u64, u64, Vec<Step>)> {
    let blocks = prop_oneof![Just(4096u64), Just(12_288), Just(64 << 10), Just(1 << 20)];
    (blocks, edges(300 << 10), proptest::collection::vec(steps(), 1..16))
}

/// Writes `content` from the given kind of memory.
fn write(engine: &Engine, file: &File, content: &[u8], position: u64, memory: Memory) -> deepring::Result<Receipt> {
    match memory {
        Memory::Slice(offset) => {
            let Completed { buf, result } = file.write_at(Slice::of(content, offset), position).wait();
            let buf = buf.expect("the buffer back");
            assert_same(buf.content(), content, "a write leaves its memory alone");
            result
        }
        Memory::Engine(offset) => {
            let mut whole = engine.pooled_buffer(offset + content.len()).expect("memory");
            let mut buf = whole.split_off(offset);
            buf.copy_from_slice(content);
            file.write_at(buf, position).wait().result
        }
    }
}

/// Reads into the given kind of memory, and returns the memory's content with the result.
pub(crate) fn read(
    engine: &Engine,
    file: &File,
    len: usize,
    position: u64,
    memory: Memory,
    exact: bool,
) -> (Vec<u8>, deepring::Result<Receipt>) {
    match memory {
        Memory::Slice(offset) => {
            let slice = Slice::new(len, offset, 0xee);
            let op = if exact { file.read_exact_at(slice, position) } else { file.read_at(slice, position) };
            let Completed { buf, result } = op.wait();
            let buf = buf.expect("the buffer back");
            assert!(buf.is_guarded(), "a read of {len} bytes at {position} wrote outside its memory");
            (buf.content().to_vec(), result)
        }
        Memory::Engine(offset) => {
            let mut before = engine.pooled_buffer(offset + len + 64).expect("memory");
            before.fill(0xa5);
            let mut buf = before.split_off(offset);
            let after = buf.split_off(len);
            let op = if exact { file.read_exact_at(buf, position) } else { file.read_at(buf, position) };
            let Completed { buf, result } = op.wait();
            let guarded = before.iter().chain(after.iter()).all(|&byte| byte == 0xa5);
            assert!(guarded, "a read of {len} bytes at {position} wrote outside its memory");
            (buf.expect("the buffer back").to_vec(), result)
        }
    }
}

/// Asserts the result of a read of a file with this content.
#[track_caller]
pub(crate) fn check_read(model: &[u8], position: u64, exact: bool, (found, result): (Vec<u8>, deepring::Result<Receipt>)) {
    let start = position.min(model.len() as u64) as usize;
    let there = &model[start..(start + found.len()).min(model.len())];
    match result {
        Ok(receipt) => {
            assert_eq!(receipt.bytes, there.len() as u64, "a read of {} at {position} of {}", found.len(), model.len());
            assert!(!exact || there.len() == found.len(), "an exact read past the end succeeded");
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Eof, "{error}");
            assert!(exact && there.len() < found.len(), "{error}");
            assert_eq!((error.transferred(), error.requested()), (there.len() as u64, found.len() as u64));
            assert_eq!(error.position(), Some(position));
        }
    }
    assert_same(&found[..there.len()], there, "what was read");
}

fn run_program(engine: &Engine, direct: Direct, path: &Path, size: u64, steps: Vec<Step>) {
    let mut model = bytes(0, size as usize, 7);
    std::fs::write(path, &model).expect("the file");
    let mut file = open(engine, path, direct);
    for (salt, step) in steps.into_iter().enumerate() {
        match step {
            Step::Write { position, len, memory } => {
                let content = bytes(position, len, salt as u64);
                let receipt = write(engine, &file, &content, position, memory).expect("a write");
                assert_eq!(receipt.bytes, len as u64);
                if len > 0 {
                    let end = position as usize + len;
                    model.resize(model.len().max(end), 0);
                    model[position as usize..end].copy_from_slice(&content);
                }
                assert_file(path, &model, "after a write");
            }
            Step::Read { position, len, memory, exact } => {
                if len == 0 {
                    let (_, result) = read(engine, &file, 0, position, memory, exact);
                    assert_eq!(result.expect("an empty read").bytes, 0);
                } else {
                    check_read(&model, position, exact, read(engine, &file, len, position, memory, exact));
                }
            }
            Step::SetLen { size } => {
                file.set_len(size).wait().expect("set_len");
                model.resize(size as usize, 0);
                assert_file(path, &model, "after set_len");
            }
            Step::Reopen => {
                file.close().wait().expect("close");
                file = open(engine, path, direct);
            }
        }
        assert_eq!(file.stat().wait().expect("stat").size, model.len() as u64);
    }
}
