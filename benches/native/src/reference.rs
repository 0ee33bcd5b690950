//! The reference implementation of safetensors, as programs in Rust use it: a file is mapped, its header is read from the
//! mapping, and tensors are views into it. To save, its own function writes a temporary file and renames it; it does not
//! flush, so that is done behind it.
//!
//! A mapping is lazy: a tensor is read when its bytes are. `copy` ends with all bytes in private memory, as a load does;
//! `touch` only reads one byte of each page, and leaves them in the page cache.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use crate::aio::Direction;
use crate::arena::{Arena, Pages};
use crate::arguments::Arguments;
use crate::direct;
use crate::meter::Meter;
use crate::stream::SWITCH;
use crate::tiles::{PAGE_BYTES, Pattern, Tiles};

/// Loads all tensors of a file. The region begins when the header is read, as for all that load.
pub(crate) fn mapped(arguments: &Arguments) -> Result<String, String> {
    let path = arguments.path("file")?;
    let copies = arguments.choice("mode", &[("copy", true), ("touch", false)])?;
    let source = arguments.path("source")?;
    let pattern = Pattern { origin: arguments.number("origin")?, seed: arguments.number("seed")? as u32 };
    arguments.finish()?;

    let map = map(&path)?;
    let model = SafeTensors::deserialize(&map).map_err(|error| format!("{}: {error}", path.display()))?;
    let names = model.names();
    let mut tensors = Vec::with_capacity(names.len());
    for name in names {
        tensors.push(model.tensor(name).map_err(|error| format!("{name}: {error}"))?);
    }
    // In the order of the file, which is fastest.
    tensors.sort_by_key(|tensor| tensor.data().as_ptr() as usize);
    let bytes: usize = tensors.iter().map(|tensor| tensor.data().len()).sum();
    let mut private: Vec<Vec<u8>> = Vec::with_capacity(tensors.len());
    let mut sum = 0_u64;

    let meter = Meter::start()?;
    for tensor in &tensors {
        if copies {
            private.push(tensor.data().to_vec());
        } else {
            sum += tensor.data().iter().step_by(PAGE_BYTES).map(|&byte| u64::from(byte)).sum::<u64>();
        }
    }
    let measured = meter.stop()?;

    std::hint::black_box(sum);
    let tiles = Tiles::open(&source)?;
    let start = map.as_ptr() as usize;
    for (nth, tensor) in tensors.iter().enumerate() {
        let position = tensor.data().as_ptr() as usize - start;
        let loaded = if copies { &private[nth][..] } else { tensor.data() };
        check(&tiles, pattern, loaded, position)?;
    }
    Ok(measured.json(bytes as u64, tensors.len() as u64, "mapped"))
}

/// The pages that begin in the bytes at a position of the file. Their parts in front and behind are not looked at.
fn check(tiles: &Tiles, pattern: Pattern, bytes: &[u8], position: usize) -> Result<(), String> {
    let first = position.next_multiple_of(PAGE_BYTES);
    match bytes.get(first - position..) {
        Some(rest) => tiles.check(&rest[..rest.len() / PAGE_BYTES * PAGE_BYTES], pattern, first as u64),
        None => Ok(()),
    }
}

fn map(path: &Path) -> Result<Mmap, String> {
    let fail = |error| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(fail)?;
    // SAFETY: no other process changes the files of the bench while one runs.
    unsafe { Mmap::map(&file) }.map_err(fail)
}

/// Saves the tensors of another file, which are in memory, and flushes the file and its folder.
pub(crate) fn saved(arguments: &Arguments) -> Result<String, String> {
    let from = arguments.path("model")?;
    let to = arguments.path("file")?;
    let verifies = arguments.choice("verify", &SWITCH)?;
    arguments.finish()?;

    let length = fs::metadata(&from).map_err(|error| format!("{}: {error}", from.display()))?.len() as usize;
    let mut arena = Arena::new(length.next_multiple_of(PAGE_BYTES), Pages::Huge)?;
    read(&from, arena.bytes_mut())?;
    let model = SafeTensors::deserialize(&arena.bytes()[..length]).map_err(|error| format!("{}: {error}", from.display()))?;
    let tensors = model.tensors();
    let bytes: usize = tensors.iter().map(|(_, tensor)| tensor.data().len()).sum();
    let count = tensors.len() as u64;

    let meter = Meter::start()?;
    save(&tensors, &to)?;
    let measured = meter.stop()?;

    if verifies {
        let map = map(&to)?;
        let written = SafeTensors::deserialize(&map).map_err(|error| format!("{}: {error}", to.display()))?;
        for (name, tensor) in &tensors {
            if written.tensor(name).is_ok_and(|found| found.data() == tensor.data()) {
                continue;
            }
            return Err(format!("{}: the tensor {name} is not what was saved", to.display()));
        }
    }
    Ok(measured.json(bytes as u64, count, "buffered"))
}

fn save(tensors: &[(String, TensorView<'_>)], to: &PathBuf) -> Result<(), String> {
    let fail = |error| format!("{}: {error}", to.display());
    let pairs = tensors.iter().map(|(name, tensor)| (name, tensor));
    safetensors::serialize_to_file(pairs, None, to).map_err(|error| format!("{}: {error}", to.display()))?;
    File::open(to).and_then(|file| file.sync_all()).map_err(fail)?;
    let folder = to.parent().ok_or("the file is in no folder")?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(fail)
}

/// Fills memory with a file that is not longer, past the page cache.
fn read(path: &Path, bytes: &mut [u8]) -> Result<(), String> {
    use std::os::unix::fs::FileExt;
    let file = direct::open(path, Direction::Read)?;
    let mut position = 0;
    loop {
        let read = file.read_at(&mut bytes[position..], position as u64).map_err(|error| format!("{}: {error}", path.display()))?;
        position += read;
        // The end of a file that ends within a page.
        if read == 0 || !position.is_multiple_of(PAGE_BYTES) {
            return Ok(());
        }
    }
}
