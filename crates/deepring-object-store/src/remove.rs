//! Deletes: names that are removed, and directories that are flushed once for all of them.

use crate::failure::{Failure, Kind, Use};
use crate::held::Held;
use crate::stats::add;
use crate::store::DeepringStore;
use deepring::Directory;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

impl DeepringStore {
    /// Deletes objects. The results are in the order of the paths.
    pub(crate) async fn remove(&self, locations: Vec<String>) -> Vec<Result<(), Failure>> {
        let count = locations.len();
        let removed = self.job(self.prefix(), move |store| Ok(store.remove_now(&locations))).await;
        removed.unwrap_or_else(|failure| {
            let again = || Err(Failure::new(failure.kind, Path::new(&failure.path), failure.source.to_string()));
            (0..count).map(|_| again()).collect()
        })
    }

    /// Blocks.
    fn remove_now(&self, locations: &[String]) -> Vec<Result<(), Failure>> {
        let mut results: Vec<Result<(), Failure>> = locations.iter().map(|_| Ok(())).collect();
        let mut directories: BTreeMap<PathBuf, Vec<(usize, PathBuf)>> = BTreeMap::new();
        for (index, location) in locations.iter().enumerate() {
            match self.file_of(location) {
                Ok(path) => {
                    let directory = path.parent().unwrap_or(self.prefix()).to_owned();
                    directories.entry(directory).or_default().push((index, path));
                }
                Err(failure) => results[index] = Err(failure),
            }
        }
        for (directory, files) in directories {
            let directory = match Directory::open(&directory) {
                Ok(directory) => directory,
                Err(error) => {
                    for (index, path) in files {
                        results[index] = Err(Failure::of(error.clone(), &path, Use::Finds));
                    }
                    continue;
                }
            };
            self.remove_from(&directory, &files, &mut results);
        }
        results
    }

    fn remove_from(&self, directory: &Directory, files: &[(usize, PathBuf)], results: &mut [Result<(), Failure>]) {
        let mut removed = 0;
        for (index, path) in files {
            let held = Held::take(self.settings().locking, &[directory], self.counters());
            let name = path.file_name().unwrap_or_default();
            results[*index] = directory.remove_file(name).map_err(|error| Failure::of(error, path, Use::Finds));
            removed += u64::from(results[*index].is_ok());
            drop(held);
        }
        add(&self.counters().deletes, removed);
        if removed == 0 || !self.settings().is_synced() {
            return;
        }
        if let Err(error) = directory.sync() {
            for (index, path) in files.iter().filter(|(index, _)| results[*index].is_ok()).cloned().collect::<Vec<_>>() {
                let why =
                    format!("the object is gone, but flushing its directory failed, so it can be back after a power failure: {error}");
                results[index] = Err(Failure::new(Kind::Other, &path, why));
            }
        }
    }
}
