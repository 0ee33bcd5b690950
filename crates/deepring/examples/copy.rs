//! Copies a file through the engine: `cargo run -p deepring --example copy -- SRC DST`.
//!
//! Some steps are read ahead while others are written, so both directions keep the device busy;
//! memory stays bounded.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program talks to its terminal")]

use deepring::{Buffer, Completed, Direct, Engine, Op, OpenOptions};
use std::collections::VecDeque;
use std::process::ExitCode;

/// Bytes per step, and how many steps are in progress at once.
const STEP_BYTES: u64 = 8 << 20;
const STEPS: usize = 8;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [source, target] = &arguments[..] else {
        eprintln!("usage: copy SRC DST");
        return ExitCode::from(2);
    };
    match copy(source.as_ref(), target.as_ref()) {
        Ok(bytes) => {
            println!("{bytes} bytes copied");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("copy: {error}");
            ExitCode::FAILURE
        }
    }
}

fn copy(source: &std::path::Path, target: &std::path::Path) -> deepring::Result<u64> {
    let engine = Engine::builder().build()?;
    let from = engine.open(source, OpenOptions::new().read(true).direct(Direct::Prefer))?;
    let size = from.stat().wait()?.size;
    let to = engine.open(target, OpenOptions::new().read(true).write(true).create(true).truncate(true))?;
    // The final size first: the file is never longer or shorter than it should be when all is
    // written.
    to.set_len(size).wait()?;

    let mut reads: VecDeque<(u64, Op<Buffer>)> = VecDeque::new();
    let mut writes: VecDeque<Op<Buffer>> = VecDeque::new();
    let mut next = 0;
    loop {
        while next < size && reads.len() + writes.len() < STEPS {
            let len = STEP_BYTES.min(size - next);
            reads.push_back((next, from.read_exact_at(engine.pooled_buffer(len as usize)?, next)));
            next += len;
        }
        if let Some((position, read)) = reads.pop_front() {
            let (buf, _) = read.wait().ok()?;
            writes.push_back(to.write_at(buf, position));
        }
        if writes.len() >= STEPS / 2 || reads.is_empty() {
            let Some(write) = writes.pop_front() else { break };
            let Completed { result, .. } = write.wait();
            result?;
        }
    }
    to.sync_all().wait()?;
    to.close().wait()?;
    Ok(size)
}
