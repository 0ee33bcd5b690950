//! A model that is saved again and again until the crash, and its account.

use super::explained;
use crate::harness::Rng;
use crate::lab::protocol::Stream;
use crate::saves::{Broken, PlantedBug, Saves, Tally};
use deepring::Engine;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) struct Model {
    stream: Stream,
    saves: Saves,
    folder: PathBuf,
    tally: Tally,
    /// Versions acknowledged since the last crash.
    acknowledged: u64,
}

impl Model {
    pub(super) fn new(seed: u64, stream: Stream, disk: &Path) -> Self {
        let folder = disk.join(stream.to_string());
        Self { stream, saves: Saves::new(seed, stream, &folder), folder, tally: Tally::default(), acknowledged: 0 }
    }

    pub(super) fn stream(&self) -> Stream {
        self.stream
    }

    /// Saves until the crash. Returns how many saves ended in an error.
    pub(super) fn save(&mut self, engine: &Engine, mut rng: Rng, bug: Option<PlantedBug>, crashing: &AtomicBool) -> Result<u64, String> {
        while !crashing.load(Ordering::SeqCst) {
            let version = self.tally.next();
            self.tally.begin(version);
            match self.saves.save(engine, version, &mut rng, bug) {
                // The file system reports success while it is being shut down.
                Ok(()) if crashing.load(Ordering::SeqCst) => {}
                Ok(()) => {
                    self.tally.acknowledge(version);
                    self.acknowledged += 1;
                }
                // Of several writers, one meets what the crash has made of another.
                Err(_) if crashing.load(Ordering::SeqCst) && Stream::CHECKPOINTS.contains(&self.stream) => return Ok(1),
                Err(deepring_tensors::Error::Io { error, .. }) => return explained(&error).map(|()| 1),
                Err(error) => return Err(format!("an error that a crash does not explain: {error}")),
            }
        }
        Ok(0)
    }

    /// After a crash: looks at what is there. Returns how many versions were acknowledged since the
    /// last one, and how many files were found beside the model.
    pub(super) fn judge(&mut self, engine: &Engine) -> Result<(u64, u64), String> {
        let seen = self.saves.look(engine);
        self.tally.judge(&seen).map_err(|(Broken::Lost(what) | Broken::Mixed(what))| what)?;
        Ok((std::mem::take(&mut self.acknowledged), seen.leftovers))
    }

    /// Makes the folder, and removes what saves have left in it.
    pub(super) fn prepare(&self, engine: &Engine) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        std::fs::File::open(self.folder.parent().unwrap_or(&self.folder))?.sync_all()?;
        self.saves.tidy(engine)
    }
}
