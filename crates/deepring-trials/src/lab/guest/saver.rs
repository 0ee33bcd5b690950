//! Saves versions of a model, until the power is cut.

use super::super::protocol::{LeftOut, Report, Stream, Writing};
use super::port::Port;
use super::verifier::folder;
use super::writer::{Failure, sync_directory};
use crate::harness::Rng;
use crate::saves::{PlantedBug, Saves, require};
use deepring::Engine;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

pub(super) struct Saver {
    engine: Engine,
    port: Arc<Port>,
    stream: Stream,
    model: Saves,
    bug: Option<PlantedBug>,
    rng: Rng,
}

impl Saver {
    /// Starts to save, from the version `first` on.
    pub(super) fn start(engine: &Engine, port: &Arc<Port>, writing: &Writing, stream: Stream, first: u64) -> Result<(), String> {
        let bug = match (writing.left_out, stream) {
            (LeftOut::Nothing, _) => None,
            // The index is synced, so it can only be the files that are not whole.
            (LeftOut::Sync, Stream::Shards) => Some(PlantedBug::IndexFirst),
            (LeftOut::Sync, _) => Some(PlantedBug::ForgetsFileSync),
            (LeftOut::DirectorySync, _) => Some(PlantedBug::ForgetsDirectorySync),
            (LeftOut::Order, _) => Some(PlantedBug::RenamesFirst),
        };
        require(bug)?;
        let model = Saves::new(writing.seed, stream, &folder(stream));
        let rng = Rng::seeded(writing.seed ^ first);
        let mut saver = Self { engine: engine.clone(), port: Arc::clone(port), stream, model, bug, rng };
        std::thread::spawn(move || {
            let Err(error) = saver.save_from(first);
            saver.port.send(&Report::Broken(format!("{stream}: {error}")));
        });
        Ok(())
    }

    fn save_from(&mut self, first: u64) -> Result<Infallible, Failure> {
        // What the last cut interrupted would fill the drive.
        std::fs::create_dir_all(folder(self.stream))?;
        self.model.tidy(&self.engine)?;
        sync_directory(Path::new(super::DATA))?;
        let mut version = first;
        loop {
            self.model.save(&self.engine, version, &mut self.rng, self.bug)?;
            self.port.send(&Report::Acknowledged(self.stream, version));
            version += 1;
        }
    }
}
