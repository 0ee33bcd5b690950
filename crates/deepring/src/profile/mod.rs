//! Profiles: what `deepring tune` has found out about a device, in a text file. The search of an engine begins there.
//!
//! ```text
//!   the driver meets a device ──► a blocking thread: which file? ──► whose is it? ──► what does it say? ──► the driver
//!                                 find.rs             find.rs         text.rs            seeds the search
//! ```
//!
//! * A profile **seeds** the search: the first window, the first block, the first price of an operation. From there the
//!   search goes on as without it, so a profile that is wrong costs what the search takes to leave it.
//! * It belongs to a device (model and serial number, or the UUID of the file system) and to a kernel (its first two
//!   numbers). That of another device, kernel or version of the format is ignored.
//! * It changes what a program does, so it must be the user's own: a file of another user, or one that others can write,
//!   is refused.
//! * Nothing fails because of a profile. What was found, and why it is not used, is in [`ProfileInfo`].
//!
//! The file is read when an engine first uses a device, and not again: neither on the driver nor on the caller's thread.

mod find;
mod text;

use crate::open::Device;
use crate::sys::device;
use find::Source;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where the search of one direction begins. What is absent begins as without a profile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seed {
    /// Bytes in flight, alone and where the device is shared.
    pub(crate) window: Option<u64>,
    pub(crate) shared: Option<u64>,
    /// Blocks of small requests in flight.
    pub(crate) blocks: Option<u64>,
    /// Bytes of a block while the first window is in force. A larger or smaller window has larger or smaller blocks.
    pub(crate) block: Option<u64>,
    /// The price of one operation, in bytes.
    pub(crate) gap: Option<u64>,
}

/// Of reads, and of writes.
pub(crate) type Seeds = [Seed; 2];

/// A profile, and what became of it. See [`Info`](crate::Info) and [`PathInfo`](crate::PathInfo).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProfileInfo {
    /// What profiles name the device by: its model and serial number, or the UUID of the file
    /// system. `None` for a device that has neither, and where no device is meant.
    pub device: Option<String>,
    /// The file in which the device's profile is looked for. Where no device is meant: that of
    /// `DEEPRING_PROFILE`, or the directory of all. `None` if none is looked for.
    pub path: Option<PathBuf>,
    /// Whether the search began with it. Where no device is meant: whether it did at any.
    pub used: bool,
    /// Why it is used or not, in words that a person can act on.
    pub reason: String,
}

/// Where an engine finds profiles, and those that it has found.
pub(crate) struct Profiles {
    source: Source,
    met: Mutex<Vec<(u64, ProfileInfo)>>,
}

impl Profiles {
    /// None are looked for.
    pub(crate) fn off(reason: &'static str) -> Self {
        Self { source: Source::Off(reason), met: Mutex::default() }
    }

    /// As the environment says.
    pub(crate) fn of_environment() -> Self {
        let variable = |name| std::env::var_os(name);
        let source = Source::of(variable(find::VARIABLE), variable("XDG_CONFIG_HOME"), variable("HOME"));
        Self { source, met: Mutex::default() }
    }

    /// The file or the directory; `None` if none are read.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.source.path()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u64, ProfileInfo)>> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds the profile of a device. Blocks. The seeds are there if it is used.
    pub(crate) fn look(&self, found: &Device) -> (ProfileInfo, Option<Seeds>) {
        let device = device::identity(&found.name).or_else(|| found.file_system_uuid.map(find::uuid_text));
        let (path, result) = self.source.look(device.as_deref());
        let (seeds, reason) = match result {
            Ok((seeds, reason)) => (Some(seeds), reason),
            Err(reason) => (None, reason),
        };
        (ProfileInfo { device, path, used: seeds.is_some(), reason }, seeds)
    }

    /// As [`Profiles::look`], for a device that the engine uses from now on.
    pub(crate) fn meet(&self, found: &Device) -> Option<Seeds> {
        let (info, seeds) = self.look(found);
        self.lock().push((found.id, info));
        seeds
    }

    /// What was found of a device, if the engine has used it.
    pub(crate) fn of(&self, id: u64) -> Option<ProfileInfo> {
        self.lock().iter().find(|(met, _)| *met == id).map(|(_, info)| info.clone())
    }

    /// Of all devices.
    pub(crate) fn summary(&self) -> ProfileInfo {
        let met = self.lock();
        let reason = match (&self.source, &met[..]) {
            (Source::Off(reason), _) => (*reason).to_owned(),
            (Source::Nowhere, _) => find::NOWHERE.to_owned(),
            (_, []) => "no device was used yet".to_owned(),
            (_, met) => met.iter().map(|(_, info)| find::sentence(info)).collect::<Vec<_>>().join("; "),
        };
        ProfileInfo { device: None, path: self.path().map(Path::to_path_buf), used: met.iter().any(|(_, info)| info.used), reason }
    }
}
