//! The predecessor over one large file.
//!
//! As for every contender, the timed region begins before the open if the run creates the file, and
//! after it otherwise. The memory is mapped, touched and (for writing) filled before the region.

use std::os::fd::AsRawFd;

use crate::aio::Direction;
use crate::arena::{Arena, PAGES};
use crate::arguments::Arguments;
use crate::direct;
use crate::handle::Handle;
use crate::meter::Meter;
use crate::predecessor::{Shape, Slice};
use crate::tiles::{Pattern, Tiles};

/// The words for the direction of a run.
pub(crate) const DIRECTIONS: [(&str, Direction); 2] = [("read", Direction::Read), ("write", Direction::Write)];

/// The words for yes and no.
pub(crate) const SWITCH: [(&str, bool); 2] = [("yes", true), ("no", false)];

/// Reads the shape of the queues from the arguments.
pub(crate) fn shape(arguments: &Arguments) -> Result<Shape, String> {
    Ok(Shape {
        block_bytes: arguments.number("block")? as usize,
        queue_depth: arguments.number("depth")? as usize,
        overlapped: arguments.choice("mode", &[("windowed", false), ("overlapped", true)])?,
        single_submit: arguments.choice("submit", &[("batch", false), ("single", true)])?,
    })
}

pub(crate) fn run(arguments: &Arguments) -> Result<String, String> {
    let shape = shape(arguments)?;
    let parallelism = arguments.number("parallel")? as usize;
    let direction = arguments.choice("direction", &DIRECTIONS)?;
    let path = arguments.path("file")?;
    let bytes = arguments.number("bytes")? as usize;
    let pages = arguments.choice("pages", &PAGES)?;
    let create = arguments.choice("create", &SWITCH)?;
    let source = arguments.path("source")?;
    let pattern = Pattern { origin: 0, seed: arguments.number("seed")? as u32 };
    arguments.finish()?;

    let tiles = Tiles::open(&source)?;
    let mut arena = Arena::new(bytes, pages)?;
    if direction == Direction::Write {
        tiles.fill(arena.bytes_mut(), pattern, 0);
    }
    let handle = Handle::new(shape, parallelism)?;
    let opened = if create { None } else { Some(direct::open(&path, direction)?) };

    let meter = Meter::start()?;
    let file = match opened {
        Some(file) => file,
        None => direct::open(&path, direction)?,
    };
    // SAFETY: nothing touches the arena until `wait` has returned, and it is dropped after the
    // handle.
    unsafe { handle.queue(Slice { direction, file: file.as_raw_fd(), address: arena.address(), bytes: arena.len(), position: 0 })? };
    handle.wait()?;
    let measured = meter.stop()?;

    drop(handle);
    if direction == Direction::Read {
        tiles.check(arena.bytes(), pattern, 0)?;
    }
    Ok(measured.json(bytes as u64, 1, "libaio, direct"))
}
