//! Looks at a model after a cut. The engine opens it and compares its checksums; its bytes are read
//! by `std::fs` and compared with what the version must have.

use super::version::{NUMBER, Version};
use super::{Saves, Stream};
use deepring::Engine;
use deepring_tensors::{Safetensors, TensorInfo};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// What is at the path of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Which model.
    pub stream: Stream,
    /// The version that is there, whole; `None` if nothing is there.
    pub version: Option<u64>,
    /// Files beside it that a save has left.
    pub leftovers: u64,
    /// What is there is not a whole version, or something else is beside it.
    pub wrong: Option<String>,
}

pub(super) struct Finding {
    pub(super) version: Option<u64>,
    pub(super) leftovers: Vec<PathBuf>,
}

/// What is there, or what is wrong with it.
pub(super) fn find(saves: &Saves, engine: &Engine) -> Result<Finding, String> {
    let path = saves.path();
    let mut belongs = BTreeSet::from([path.clone()]);
    let version = if path.symlink_metadata().is_ok() {
        let model = Safetensors::open(engine, &path).wait().map_err(|error| format!("it cannot be opened: {error}"))?;
        belongs.extend(model.table().paths().map(PathBuf::from));
        Some(whole(saves, &model)?)
    } else {
        None
    };
    let mut leftovers = Vec::new();
    let entries = match saves.folder.read_dir() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Finding { version, leftovers }),
        entries => entries.map_err(|error| error.to_string())?,
    };
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        if belongs.contains(&path) {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_temporary = name.starts_with(".model") && name.ends_with(".tmp");
        let is_shard = saves.stream == Stream::Shards && name.starts_with("model-") && name.ends_with(".safetensors");
        if !is_temporary && !is_shard {
            return Err(format!("{name} is beside it, which no save makes"));
        }
        leftovers.push(path);
    }
    Ok(Finding { version, leftovers })
}

/// The version of a model, if all of it is that version.
fn whole(saves: &Saves, model: &Safetensors) -> Result<u64, String> {
    let number = model.metadata().get(NUMBER).and_then(|number| number.parse().ok()).ok_or("it has no version")?;
    let version = saves.version(number);
    let table = model.table();
    if table.len() != version.declared.len() || !model.unindexed().is_empty() || !model.missing().is_empty() {
        let others = model.unindexed().len() + model.missing().len();
        return Err(format!("version {number} has {} tensors, not {}, and {others} others", table.len(), version.declared.len()));
    }
    let found = saves.content.look(number, &bytes(model, &version)?, 0);
    if found.pure() != Some(number) && found.len > 0 {
        return Err(format!("version {number}: {found}"));
    }
    let verified = model.verify(None).wait().map_err(|error| format!("version {number} cannot be verified: {error}"))?;
    if !verified.is_whole() || verified.verified != table.len() as u64 {
        return Err(format!("version {number} has other checksums: {verified:?}"));
    }
    Ok(number)
}

/// All bytes of a model, one tensor behind the other as the version declares them.
fn bytes(model: &Safetensors, version: &Version) -> Result<Vec<u8>, String> {
    let mut all = Vec::new();
    for declared in &version.declared {
        let index = model.table().index_of(&declared.name).map_err(|error| error.to_string())?;
        let TensorInfo { name, dtype, shape, path, position, len, .. } = model.table().info(index);
        if dtype != Some(declared.dtype) || shape != declared.shape {
            return Err(format!("tensor {name} is {dtype:?} {shape:?}, not {:?} {:?}", declared.dtype, declared.shape));
        }
        let start = all.len();
        all.resize(start + len as usize, 0);
        let read = File::open(path).and_then(|file| file.read_exact_at(&mut all[start..], position));
        read.map_err(|error| format!("tensor {name}: {error}"))?;
    }
    Ok(all)
}
