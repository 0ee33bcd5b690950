//! The native part of `npm run bench`: one small program, with one command for each thing that
//! JavaScript cannot do itself.
//!
//! | command | does |
//! |---|---|
//! | `prepare`  | writes a file of tiled real weights past the page cache |
//! | `tensors`  | the same for many small files whose sizes are in a list |
//! | `model`    | writes a file of tensors past the page cache: a header, and tiled real weights |
//! | `evict`    | flushes the file system and takes files out of the page cache, and reports what stayed |
//! | `warm`     | reads every n-th stretch of a file into the page cache, and no more |
//! | `resident` | reports how much of a file is in the page cache |
//! | `verify`   | reads a file or the small files back from the disk and compares every page with what should be there |
//! | `stream`   | the predecessor's loop over one large file (rival) |
//! | `small`    | the predecessor's loop over many small files (rival) |
//! | `random`   | 4 KiB random reads through the deepring crate, without JavaScript (contender) |
//! | `scatter`  | the same in calls of many ranges; `scatter-memory`: what the largest of them takes |
//! | `mapped`, `saved` | the reference implementation of safetensors: loads a file that it maps, and saves one (rivals) |
//! | `checkpoint`, `checkpoint-read` | checkpoints of a model through deepring-tensors (contenders); `checkpoint-make`: one to read |
//! | `swap`, `swap-read` | a step over the states of an optimizer, and reads of experts, through deepring-tensors (contenders); `swap-model`: a model of experts |
//! | `swap-predecessor` | such a step in the predecessor's order of operations (rival) |
//! | `store-read`, `store-write` | objects through `object_store`: the crate's store (contender), and its own local one (rival) |
//! | `launch`   | runs a foreign program (fio) and measures it from outside |
//!
//! Arguments are `key=value`. Measuring commands print one JSON object on standard output: seconds
//! of the timed region, its CPU seconds, the machine's busy seconds, peak memory, bytes. An error
//! goes to standard error in one sentence, with exit code 1.
#![expect(clippy::print_stdout, reason = "the results of this program are what it prints")]
#![expect(clippy::print_stderr, reason = "its errors go where a program's errors go")]

mod aio;
mod arena;
mod arguments;
mod cache;
mod checkpoint;
mod direct;
mod handle;
mod launch;
mod meter;
mod predecessor;
mod prepare;
mod random;
mod reference;
mod scatter;
mod small;
mod store;
mod stream;
mod swap;
mod through;
mod tiles;

use std::process::ExitCode;

use arguments::Arguments;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let command = words.next().and_then(|word| word.into_string().ok()).unwrap_or_default();
    let outcome = if command == "launch" {
        launch::launch(words.collect())
    } else {
        Arguments::parse(words).and_then(|arguments| match command.as_str() {
            "prepare" => prepare::file(&arguments),
            "tensors" => prepare::tensors(&arguments),
            "model" => prepare::model(&arguments),
            "resident" => cache::count(&arguments),
            "mapped" => reference::mapped(&arguments),
            "saved" => reference::saved(&arguments),
            "evict" => cache::evict(&arguments),
            "warm" => cache::warm(&arguments),
            "verify" => prepare::verify(&arguments),
            "stream" => stream::run(&arguments),
            "small" => small::run(&arguments),
            "random" => random::run(&arguments),
            "scatter" => scatter::run(&arguments),
            "scatter-memory" => scatter::memory(&arguments),
            "checkpoint" => checkpoint::write(&arguments),
            "checkpoint-read" => checkpoint::read(&arguments),
            "checkpoint-make" => checkpoint::make(&arguments),
            "swap" => swap::step(&arguments),
            "swap-predecessor" => swap::predecessor(&arguments),
            "swap-model" => swap::model(&arguments),
            "swap-read" => swap::read(&arguments),
            "store-read" => store::read(&arguments),
            "store-write" => store::write(&arguments),
            other => Err(format!("unknown command '{other}'; the module header of benches/native/src/main.rs lists them")),
        })
    };
    match outcome {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("deepring-bench-native {command}: {message}");
            ExitCode::FAILURE
        }
    }
}
