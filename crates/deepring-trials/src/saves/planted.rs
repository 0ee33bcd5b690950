//! Planted bugs of a save. They are in the engine and only in builds with the feature `planted`, so
//! that everything else is tried as it ships.

use deepring_tensors::SaveOptions;

/// A mistake in the steps of a save, or of the commit of a checkpoint. The other mistakes in a commit
/// are for the replay of its calls (`deepring-tensors/tests/replayed`): ext4 and XFS keep the order in
/// which names change, and flush the drive's cache for all files at once, so they forgive them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlantedBug {
    /// No file is flushed; of a checkpoint, no data file.
    ForgetsFileSync,
    /// The directory is not flushed after the rename.
    ForgetsDirectorySync,
    /// Files get their names before they are flushed, and keep them; a checkpoint, before it has its manifest.
    RenamesFirst,
    /// The index is committed, and the files that it names were never flushed.
    IndexFirst,
}

/// Whether this build has planted bugs.
///
/// # Errors
/// It has none, and how to build with them.
pub fn require(bug: Option<PlantedBug>) -> Result<(), String> {
    if bug.is_none() || cfg!(feature = "planted") {
        return Ok(());
    }
    Err("this build has no planted bugs; build with --features planted".into())
}

/// Saves on this thread, with this bug.
#[cfg(feature = "planted")]
pub(super) fn during<T>(bug: Option<PlantedBug>, options: SaveOptions, save: impl FnOnce(SaveOptions) -> T) -> T {
    use deepring::sim::{self, plant};
    plant(bug.map(|bug| match bug {
        PlantedBug::ForgetsFileSync | PlantedBug::IndexFirst => sim::PlantedBug::ForgetsFileSync,
        PlantedBug::ForgetsDirectorySync => sim::PlantedBug::ForgetsDirectorySync,
        PlantedBug::RenamesFirst => sim::PlantedBug::RenamesFirst,
    }));
    let options = if bug == Some(PlantedBug::IndexFirst) {
        // Everything is done when all files have their names. Then comes the index, which is flushed.
        options.on_progress(|bytes, total| {
            if bytes == total {
                plant(None);
            }
        })
    } else {
        options
    };
    let saved = save(options);
    plant(None);
    saved
}

/// Begins a checkpoint on this thread, with this bug.
#[cfg(feature = "planted")]
pub(super) fn begins<T>(bug: Option<PlantedBug>, begins: impl FnOnce() -> T) -> T {
    use deepring_tensors::checkpoint::{self, plant};
    plant(bug.map(|bug| match bug {
        PlantedBug::ForgetsFileSync => checkpoint::PlantedBug::ForgetsDataSync,
        PlantedBug::ForgetsDirectorySync => checkpoint::PlantedBug::ForgetsStoreSync,
        PlantedBug::RenamesFirst | PlantedBug::IndexFirst => checkpoint::PlantedBug::PublishesFirst,
    }));
    let writers = begins();
    plant(None);
    writers
}

/// Begins a checkpoint. There is no bug: see [`require`].
#[cfg(not(feature = "planted"))]
pub(super) fn begins<T>(_: Option<PlantedBug>, begins: impl FnOnce() -> T) -> T {
    begins()
}

/// Saves. There is no bug: see [`require`].
#[cfg(not(feature = "planted"))]
pub(super) fn during<T>(_: Option<PlantedBug>, options: SaveOptions, save: impl FnOnce(SaveOptions) -> T) -> T {
    save(options)
}
