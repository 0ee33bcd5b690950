//! [`Place`]: objects in a folder, and a tier before them.

use deepring::Engine;
use deepring_object_store::DeepringStore;
use deepring_tier::v014::TieredStore;
use deepring_tier::{Tier, Validate};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

/// Of the drive, for the tier.
const CAPACITY: u64 = 1 << 30;

/// Objects that `deepring-object-store` keeps in a folder, and that are read through a tier. A process has one of each folder.
#[derive(Debug, Clone)]
pub struct Place {
    tier: Tier,
    objects: Arc<TieredStore>,
}

impl Place {
    /// Opens it in a folder, which must exist. Objects of the first pattern are written once. Those of the others say which of
    /// them there are; they are small, change, and are not cached.
    ///
    /// # Errors
    /// Fails if the engine, the store or the tier does: another process has the tier.
    pub fn open<const N: usize>(folder: &Path, written_once: &str, changing: [&str; N]) -> Result<Self, Box<dyn Error>> {
        let engine = Engine::builder().build()?;
        let objects = folder.join("objects");
        std::fs::create_dir_all(&objects)?;
        let store = DeepringStore::builder(&engine).prefix(objects).build()?;
        let tier = Tier::builder(&engine).validate(written_once, Validate::Immutable).bypass(changing);
        let tier = tier.open(folder.join("tier"), CAPACITY)?;
        let objects = Arc::new(TieredStore::new(&tier, Arc::new(store), "objects"));
        Ok(Self { tier, objects })
    }

    /// The tier.
    pub fn tier(&self) -> &Tier {
        &self.tier
    }

    /// The store that reads through it.
    pub fn objects(&self) -> &Arc<TieredStore> {
        &self.objects
    }

    /// A folder for one, which goes with the test.
    ///
    /// # Errors
    /// Fails if it cannot be made.
    pub fn folder(parent: &str) -> std::io::Result<tempfile::TempDir> {
        tempfile::Builder::new().prefix("place-").tempdir_in(parent)
    }
}
