//! Files of tiled weights, written through, and their verification.
//!
//! Written with direct I/O and flushed, so that a later read reaches the disk and a later overwrite
//! finds written blocks.

use std::fs;
use std::path::Path;

use crate::aio::Direction;
use crate::arena::{Arena, Pages};
use crate::arguments::Arguments;
use crate::direct;
use crate::small::layout;
use crate::stream::SWITCH;
use crate::tiles::{PAGE_BYTES, Pattern, Tiles};

/// Large enough for the disk's full speed; twice the largest request most devices take.
const CHUNK_BYTES: usize = 8 << 20;

/// Writes one file and flushes it.
pub(crate) fn file(arguments: &Arguments) -> Result<String, String> {
    let path = arguments.path("file")?;
    let bytes = arguments.number("bytes")?;
    let pattern = Pattern { origin: 0, seed: arguments.number("seed")? as u32 };
    let tiles = Tiles::open(&arguments.path("source")?)?;
    arguments.finish()?;
    let mut chunk = Arena::new(CHUNK_BYTES, Pages::Huge)?;
    write(&tiles, &mut chunk, &path, bytes, pattern)?;
    Ok(format!(r#"{{"bytes":{bytes}}}"#))
}

/// Writes one file of tensors and flushes it: a header, and tiled weights behind it.
pub(crate) fn model(arguments: &Arguments) -> Result<String, String> {
    let path = arguments.path("file")?;
    let bytes = arguments.number("bytes")?;
    let pattern = Pattern { origin: arguments.number("origin")?, seed: arguments.number("seed")? as u32 };
    let tiles = Tiles::open(&arguments.path("source")?)?;
    let header = arguments.path("header")?;
    let header = fs::read(&header).map_err(|error| format!("{}: {error}", header.display()))?;
    arguments.finish()?;
    let mut chunk = Arena::new(CHUNK_BYTES, Pages::Huge)?;
    let file = direct::open(&path, Direction::Write)?;
    let mut position = 0;
    // Direct I/O moves whole pages; what is too much at the end is cut off.
    let whole = bytes.next_multiple_of(PAGE_BYTES as u64);
    while position < whole {
        let length = (whole - position).min(CHUNK_BYTES as u64) as usize;
        let piece = &mut chunk.bytes_mut()[..length];
        tiles.fill(piece, pattern, position);
        if let Some(rest) = header.get(position as usize..) {
            let covered = rest.len().min(length);
            piece[..covered].copy_from_slice(&rest[..covered]);
        }
        direct::write_all(&file, piece, position, &path)?;
        position += length as u64;
    }
    let fail = |error| format!("{}: {error}", path.display());
    file.set_len(bytes).map_err(fail)?;
    file.sync_all().map_err(fail)?;
    Ok(format!(r#"{{"bytes":{bytes}}}"#))
}

/// Writes the small files and flushes each.
pub(crate) fn tensors(arguments: &Arguments) -> Result<String, String> {
    let tensors = layout(arguments)?;
    let tiles = Tiles::open(&arguments.path("source")?)?;
    arguments.finish()?;
    let mut chunk = Arena::new(CHUNK_BYTES, Pages::Huge)?;
    for tensor in &tensors {
        write(&tiles, &mut chunk, &tensor.path, tensor.bytes as u64, tensor.pattern)?;
    }
    Ok(format!(r#"{{"files":{}}}"#, tensors.len()))
}

/// Compares what is on the disk with what a contender should have written: one file, or
/// (`many=yes`) the small files.
pub(crate) fn verify(arguments: &Arguments) -> Result<String, String> {
    let tiles = Tiles::open(&arguments.path("source")?)?;
    let mut chunk = Arena::new(CHUNK_BYTES, Pages::Huge)?;
    if arguments.choice("many", &SWITCH)? {
        let tensors = layout(arguments)?;
        arguments.finish()?;
        for tensor in &tensors {
            check(&tiles, &mut chunk, &tensor.path, tensor.bytes as u64, tensor.pattern)?;
        }
    } else {
        let path = arguments.path("file")?;
        let bytes = arguments.number("bytes")?;
        let pattern = Pattern { origin: 0, seed: arguments.number("seed")? as u32 };
        arguments.finish()?;
        check(&tiles, &mut chunk, &path, bytes, pattern)?;
    }
    Ok(r#"{"verified":true}"#.to_owned())
}

fn write(tiles: &Tiles, chunk: &mut Arena, path: &Path, bytes: u64, pattern: Pattern) -> Result<(), String> {
    let file = direct::open(path, Direction::Write)?;
    let fail = |error| format!("{}: {error}", path.display());
    // Direct I/O moves whole pages; what is too much at the end is cut off.
    let whole = bytes.next_multiple_of(PAGE_BYTES as u64);
    file.set_len(whole).map_err(fail)?;
    let mut position = 0;
    while position < whole {
        let length = (whole - position).min(CHUNK_BYTES as u64) as usize;
        let piece = &mut chunk.bytes_mut()[..length];
        tiles.fill(piece, pattern, position);
        direct::write_all(&file, piece, position, path)?;
        position += length as u64;
    }
    file.set_len(bytes).map_err(fail)?;
    file.sync_all().map_err(fail)
}

fn check(tiles: &Tiles, chunk: &mut Arena, path: &Path, bytes: u64, pattern: Pattern) -> Result<(), String> {
    let found = fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?.len();
    if found != bytes {
        return Err(format!("{} has {found} bytes, not {bytes}", path.display()));
    }
    let file = direct::open(path, Direction::Read)?;
    let mut position = 0;
    while position < bytes {
        let length = (bytes - position).min(CHUNK_BYTES as u64) as usize;
        let piece = &mut chunk.bytes_mut()[..length];
        direct::read_all(&file, piece, position, path)?;
        tiles.check(piece, pattern, position).map_err(|error| format!("{}: {error}", path.display()))?;
        position += length as u64;
    }
    Ok(())
}
