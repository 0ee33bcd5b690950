//! Nearest neighbors in a file of vectors: `cargo run --release -p deepring --example vector_search -- [VECTORS]`.
//!
//! As in an inverted file (IVF), each vector belongs to one of some lists, and a query looks at a few lists only: some
//! thousand vectors of 128 bytes, all over the file. One request reads them all.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program talks to its terminal")]

use deepring::{Engine, ManyOptions, OpenOptions, Piece};
use std::process::ExitCode;
use std::time::Instant;

const DIMENSIONS: usize = 32;
const VECTOR_BYTES: usize = DIMENSIONS * 4;
const LISTS: u64 = 256;
const PROBES: u64 = 4;
const QUERIES: u64 = 50;
/// Vectors that are written at once.
const CHUNK: u64 = 65_536;

fn main() -> ExitCode {
    let count = std::env::args().nth(1).map_or(Ok(200_000), |count| count.parse());
    let Ok(count @ LISTS..) = count else {
        eprintln!("usage: vector_search [VECTORS], at least {LISTS}");
        return ExitCode::from(2);
    };
    let path = std::env::temp_dir().join(format!("deepring-vectors-{}", std::process::id()));
    let searched = search(&path, count);
    // The vectors are made again by the next run.
    drop(std::fs::remove_file(&path));
    match searched {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("vector_search: a nearest vector is WRONG");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("vector_search: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A number that looks random, the same every time.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    z ^ (z >> 32)
}

fn list_of(vector: u64) -> u64 {
    mix(vector) % LISTS
}

fn element(vector: u64, dimension: usize) -> f32 {
    (mix(vector << 8 | dimension as u64) >> 40) as f32 / (1 << 24) as f32
}

fn distance(wanted: &[f32], bytes: &[u8]) -> f32 {
    let elements = bytes.chunks_exact(4).map(|bytes| f32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    wanted.iter().zip(elements).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// Returns whether each query found its vector.
fn search(path: &std::path::Path, count: u64) -> deepring::Result<bool> {
    let engine = Engine::builder().build()?;
    let file = engine.open(path, OpenOptions::new().read(true).write(true).create(true))?;
    let mut lists = vec![Vec::new(); LISTS as usize];
    for first in (0..count).step_by(CHUNK as usize) {
        let vectors = CHUNK.min(count - first);
        let mut chunk = engine.pooled_buffer(vectors as usize * VECTOR_BYTES)?;
        for (vector, bytes) in (first..).zip(chunk.chunks_exact_mut(VECTOR_BYTES)) {
            lists[list_of(vector) as usize].push(vector);
            for (dimension, bytes) in bytes.chunks_exact_mut(4).enumerate() {
                bytes.copy_from_slice(&element(vector, dimension).to_ne_bytes());
            }
        }
        file.write_at(chunk, first * VECTOR_BYTES as u64).wait().ok()?;
    }

    let started = Instant::now();
    let (mut read, mut operations, mut right) = (0, 0, true);
    for query in 0..QUERIES {
        // A vector of the file, so the answer is known: itself comes first.
        let asked = mix(query + 77) % count;
        let wanted: Vec<_> = (0..DIMENSIONS).map(|dimension| element(asked, dimension)).collect();
        let probes = (0..PROBES).map(|probe| (list_of(asked) + probe) % LISTS);
        let candidates: Vec<u64> = probes.flat_map(|list| lists[list as usize].iter().copied()).collect();
        let ranges: Vec<_> = candidates
            .iter()
            .enumerate()
            .map(|(place, vector)| Piece::new(vector * VECTOR_BYTES as u64, place * VECTOR_BYTES, VECTOR_BYTES))
            .collect();
        let memory = engine.pooled_buffer(candidates.len() * VECTOR_BYTES)?;
        let options = ManyOptions::new().exact(true).gap(16 << 10);
        let (found, receipt) = file.read_scatter_with(memory, &ranges, options).wait().ok()?;
        let distances = found.buf.chunks_exact(VECTOR_BYTES).map(|bytes| distance(&wanted, bytes));
        let nearest = candidates.iter().zip(distances).min_by(|(_, a), (_, b)| a.total_cmp(b));
        right &= nearest.is_some_and(|(vector, distance)| *vector == asked && distance == 0.0);
        read += candidates.len();
        operations += receipt.blocks;
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{QUERIES} queries over {count} vectors in {seconds:.2} s");
    println!("{read} vectors read with {operations} operations: {:.0} vectors a second", read as f64 / seconds);
    Ok(right)
}
