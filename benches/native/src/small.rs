//! The predecessor over many small files: its asynchronous calls for all of them, then one wait.
//!
//! Per file: stat and open on the caller's thread, a slice for each worker, at the end one close.
//! All of it is in the timed region. Every file stays open from its call to the wait, as in the
//! original.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use crate::aio::Direction;
use crate::arena::{Arena, PAGES};
use crate::arguments::Arguments;
use crate::direct;
use crate::handle::Handle;
use crate::meter::Meter;
use crate::predecessor::Slice;
use crate::stream::{DIRECTIONS, shape};
use crate::tiles::{Pattern, Tiles};

/// The small files of a benchmark: what one process needs to know about each.
pub(crate) struct Tensor {
    pub(crate) path: PathBuf,
    pub(crate) bytes: usize,
    /// Its offset in the arena that holds all tensors, and in the tiling.
    pub(crate) offset: usize,
    pub(crate) pattern: Pattern,
}

/// Reads the list of sizes (one a line) and lays the tensors out one after another.
pub(crate) fn layout(arguments: &Arguments) -> Result<Vec<Tensor>, String> {
    let list = arguments.path("list")?;
    let folder = arguments.path("folder")?;
    let seed = arguments.number("seed")? as u32;
    let text = fs::read_to_string(&list).map_err(|error| format!("{}: {error}", list.display()))?;
    let mut offset = 0;
    let mut tensors = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let bytes: usize = line.parse().map_err(|_| format!("{}: line {} is not a size: {line}", list.display(), index + 1))?;
        let pattern = Pattern { origin: offset as u64, seed: seed.wrapping_add(index as u32) };
        tensors.push(Tensor { path: folder.join(format!("{index:04}.bin")), bytes, offset, pattern });
        offset += bytes;
    }
    Ok(tensors)
}

pub(crate) fn run(arguments: &Arguments) -> Result<String, String> {
    let shape = shape(arguments)?;
    let parallelism = arguments.number("parallel")? as usize;
    let direction = arguments.choice("direction", &DIRECTIONS)?;
    let pages = arguments.choice("pages", &PAGES)?;
    let source = arguments.path("source")?;
    let tensors = layout(arguments)?;
    arguments.finish()?;

    direct::raise_file_limit()?;
    let tiles = Tiles::open(&source)?;
    let total: usize = tensors.iter().map(|tensor| tensor.bytes).sum();
    let mut arena = Arena::new(total, pages)?;
    if direction == Direction::Write {
        for tensor in &tensors {
            tiles.fill(&mut arena.bytes_mut()[tensor.offset..tensor.offset + tensor.bytes], tensor.pattern, 0);
        }
    }
    let handle = Handle::new(shape, parallelism)?;

    let meter = Meter::start()?;
    let mut files = Vec::with_capacity(tensors.len());
    for tensor in &tensors {
        if direction == Direction::Read {
            let found = fs::metadata(&tensor.path).map_err(|error| format!("{}: {error}", tensor.path.display()))?.len();
            if found != tensor.bytes as u64 {
                return Err(format!("{} has {found} bytes, not {}", tensor.path.display(), tensor.bytes));
            }
        }
        let file = direct::open(&tensor.path, direction)?;
        let operation =
            Slice { direction, file: file.as_raw_fd(), address: arena.address() + tensor.offset, bytes: tensor.bytes, position: 0 };
        files.push(file);
        // SAFETY: nothing touches the arena until every operation has been waited for; files and
        // arena outlive the handle.
        unsafe { handle.queue(operation)? };
    }
    for file in files.drain(..) {
        handle.wait()?;
        drop(file);
    }
    let measured = meter.stop()?;

    drop(handle);
    if direction == Direction::Read {
        for tensor in &tensors {
            tiles
                .check(&arena.bytes()[tensor.offset..tensor.offset + tensor.bytes], tensor.pattern, 0)
                .map_err(|error| format!("{}: {error}", tensor.path.display()))?;
        }
    }
    Ok(measured.json(total as u64, tensors.len() as u64, "libaio, direct"))
}
