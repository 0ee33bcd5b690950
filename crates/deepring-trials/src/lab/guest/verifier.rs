//! Reads everything a run left on the drive. It uses `std::fs`, not the engine under test, except to
//! open models; the verdict is the lab's.

use super::super::FILE_SYSTEM_BYTES;
use super::super::content::{Content, SLOT_BYTES, SLOTS_START};
use super::super::protocol::{Report, Stream};
use super::port::Port;
use super::{DATA, DEVICE};
use crate::harness::disk::forget_pages;
use crate::saves::Saves;
use deepring::Engine;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The directory of a stream.
pub(super) fn folder(stream: Stream) -> PathBuf {
    Path::new(DATA).join(stream.to_string())
}

/// The file of the slots, and where the slots begin in it.
pub(super) fn slots(stream: Stream) -> (PathBuf, u64) {
    if stream == Stream::Raw { (DEVICE.into(), FILE_SYSTEM_BYTES + SLOTS_START) } else { (folder(stream).join("slots"), SLOTS_START) }
}

pub(super) fn verify(port: &Port, seed: u64) -> Result<(), String> {
    for stream in Stream::GENERATIONS {
        let looked = if stream.is_in_place() { look_at_slots(port, seed, stream) } else { look_at_files(port, seed, stream) };
        match looked {
            // A missing or unprepared file is not reported; the lab knows whether it should exist.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => {}
            looked => looked.map_err(|error| format!("verify {stream}: {error}"))?,
        }
    }
    let engine = Engine::builder().build().map_err(|error| error.to_string())?;
    for stream in Stream::VERSIONS {
        port.send(&Report::Seen(Saves::new(seed, stream, &folder(stream)).look(&engine)));
    }
    port.send(&Report::Verified);
    Ok(())
}

fn look_at_files(port: &Port, seed: u64, stream: Stream) -> io::Result<()> {
    let content = Content::new(seed, stream);
    for entry in std::fs::read_dir(folder(stream))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // Files that are being written have other names.
        let Some(generation) = name.strip_prefix("generation-").and_then(|number| number.parse().ok()) else { continue };
        port.send(&Report::Found(content.look(generation, &std::fs::read(&path)?, 0)));
    }
    Ok(())
}

fn look_at_slots(port: &Port, seed: u64, stream: Stream) -> io::Result<()> {
    let (path, start) = slots(stream);
    let (file, content) = (File::open(path)?, Content::new(seed, stream));
    for slot in 0..2 {
        let (mut bytes, at) = (vec![0; SLOT_BYTES as usize], start + slot * SLOT_BYTES);
        file.read_exact_at(&mut bytes, at)?;
        port.send(&Report::Found(content.look(slot, &bytes, at)));
    }
    // So that the engine writes to the drive, and not around pages that this read left in the
    // cache.
    forget_pages(&file);
    Ok(())
}
