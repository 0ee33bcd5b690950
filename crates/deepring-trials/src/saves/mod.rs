//! Models that are saved again and again at the same path, while the power is cut.
//!
//! Each save has a number, its version. Everything about a version follows from the number: how many
//! tensors it has, their names, types and shapes, and every byte. After a cut exactly one version
//! must be at the path, whole: the last one whose save has ended, or the one that was being saved.
//!
//! ```text
//!   save 7 ── ends ──> acknowledged ── save 8 ──╳ cut        then 7 or 8 is there, whole
//! ```
//!
//! What a save leaves beside it is counted: temporary files, and files of a model that no index
//! names. Nothing else may be there.
//!
//! A version is saved as one file, as several with an index, or as a checkpoint ([`generations`]).

mod generations;
mod look;
mod planted;
mod tally;
mod version;

use crate::harness::Rng;
use crate::lab::content::Content;
use crate::lab::protocol::Stream;
use deepring::{Direct, Engine};
use deepring_tensors::{SaveOptions, Writer, save, save_sharded};
pub use look::Seen;
pub use planted::{PlantedBug, require};
use std::io;
use std::path::{Path, PathBuf};
pub use tally::{Broken, Tally};
use version::Version;

/// The name of a model in one file.
const FILE: &str = "model.safetensors";

/// The name of the index of a model in several.
const INDEX: &str = "model.safetensors.index.json";

/// The largest piece of a tensor that is written at once where a file is written in pieces.
const PIECE_BYTES_MAX: u64 = 300_000;

/// A model that is saved again and again.
#[derive(Debug, Clone)]
pub struct Saves {
    seed: u64,
    stream: Stream,
    content: Content,
    folder: PathBuf,
}

impl Saves {
    /// The versions of one of [`Stream::VERSIONS`] in the run with this seed, in a folder of their
    /// own.
    pub fn new(seed: u64, stream: Stream, folder: &Path) -> Self {
        Self { seed, stream, content: Content::new(seed, stream), folder: folder.to_owned() }
    }

    /// The path that is saved to.
    fn path(&self) -> PathBuf {
        self.folder.join(if self.stream == Stream::Shards { INDEX } else { FILE })
    }

    /// Whether the versions are checkpoints.
    fn is_store(&self) -> bool {
        Stream::CHECKPOINTS.contains(&self.stream)
    }

    fn version(&self, number: u64) -> Version {
        Version::new(self.seed, self.content, number)
    }

    /// Saves a version: past the page cache or through it, in one call or piece by piece.
    ///
    /// # Errors
    /// Those of the save.
    pub(crate) fn save(&self, engine: &Engine, number: u64, rng: &mut Rng, bug: Option<PlantedBug>) -> deepring_tensors::Result<()> {
        let bug = bug.filter(|&bug| bug != PlantedBug::IndexFirst || self.stream == Stream::Shards);
        if self.is_store() {
            return generations::commit(self, engine, number, rng, bug);
        }
        let version = self.version(number);
        // Without a flush, only what is in the page cache is lost: ext4 and XFS order a rename behind
        // the direct writes before it.
        let direct = if bug.is_some() || rng.once_in(3) { Direct::Never } else { Direct::Prefer };
        let options = SaveOptions::new().checksums(true).direct(direct).metadata(version.metadata());
        planted::during(bug, options, |options| match self.stream {
            Stream::Shards => {
                let shard_bytes = version.shard_bytes(rng);
                save_sharded(engine, &self.folder, version.tensors(), shard_bytes, options).wait().map(drop)
            }
            _ if rng.once_in(3) => write_in_pieces(engine, &self.path(), &version, options, rng),
            _ => save(engine, self.path(), version.tensors(), options).wait().map(drop),
        })
    }

    /// Removes what earlier saves have left beside the model.
    ///
    /// # Errors
    /// Those of the file system, and what [`Saves::look`] finds wrong.
    pub fn tidy(&self, engine: &Engine) -> io::Result<()> {
        if self.is_store() {
            return generations::tidy(self, engine).map_err(io::Error::other);
        }
        let found = look::find(self, engine).map_err(io::Error::other)?;
        found.leftovers.iter().try_for_each(std::fs::remove_file)
    }

    /// Looks at what is at the path.
    pub fn look(&self, engine: &Engine) -> Seen {
        let found = if self.is_store() { generations::find(self, engine) } else { look::find(self, engine) };
        found.map_or_else(
            |wrong| Seen { stream: self.stream, version: None, leftovers: 0, wrong: Some(wrong) },
            |found| Seen { stream: self.stream, version: found.version, leftovers: found.leftovers.len() as u64, wrong: None },
        )
    }
}

/// Writes a file by a [`Writer`], in any order.
fn write_in_pieces(engine: &Engine, path: &Path, version: &Version, options: SaveOptions, rng: &mut Rng) -> deepring_tensors::Result<()> {
    let tensors = version.tensors();
    let writer = Writer::create(engine, path, version.declared.clone(), options).wait()?;
    let mut pieces = Vec::new();
    for tensor in &tensors {
        let mut start = 0;
        while start < tensor.data.len() {
            let end = tensor.data.len().min(start + 1 + rng.below(PIECE_BYTES_MAX) as usize);
            pieces.push((&tensor.declared.name, start, &tensor.data[start..end]));
            start = end;
        }
    }
    rng.shuffle(&mut pieces);
    for (name, start, bytes) in pieces {
        writer.write(name, bytes.to_vec(), start as u64).wait()?;
    }
    writer.finish().wait().map(drop)
}

#[cfg(test)]
mod tests;
