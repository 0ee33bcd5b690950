//! Generations as objects: each is a put into a store.

use super::super::protocol::LeftOut;
use super::writer::Failure;
use crate::harness::Rng;
use deepring::Engine;
use deepring_object_store::DeepringStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Name;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use pollster::block_on;
use std::path::Path;
use std::time::Duration;

/// The largest part of an object that is put in parts.
const PART_BYTES_MAX: u64 = 600_000;

pub(super) struct Objects(Box<dyn ObjectStore>);

impl Objects {
    /// The store of a folder, without what the last cut interrupted. Without its syncs it is the store of `object_store` itself.
    pub(super) fn open(engine: &Engine, folder: &Path, left_out: LeftOut) -> Result<Self, Failure> {
        if left_out == LeftOut::Sync {
            return Ok(Self(Box::new(LocalFileSystem::new_with_prefix(folder)?)));
        }
        let store = DeepringStore::builder(engine).prefix(folder).build()?;
        block_on(store.sweep(Duration::ZERO))?;
        Ok(Self(Box::new(store)))
    }

    /// Puts an object. One that replaces another comes in parts now and then, in any order.
    pub(super) fn put(&self, name: &str, content: Vec<u8>, creates: bool, rng: &mut Rng) -> Result<(), Failure> {
        let name = Name::from(name);
        if creates {
            block_on(self.0.put_opts(&name, content.into(), PutMode::Create.into()))?;
        } else if rng.once_in(3) {
            block_on(put_in_parts(&*self.0, &name, &content, rng))?;
        } else {
            block_on(self.0.put(&name, content.into()))?;
        }
        Ok(())
    }
}

async fn put_in_parts(store: &dyn ObjectStore, name: &Name, content: &[u8], rng: &mut Rng) -> object_store::Result<()> {
    let mut upload = store.put_multipart(name).await?;
    let part_bytes = 1 + rng.below(PART_BYTES_MAX) as usize;
    let mut parts: Vec<_> = content.chunks(part_bytes).map(|part| upload.put_part(PutPayload::from(part.to_vec()))).collect();
    rng.shuffle(&mut parts);
    for part in parts {
        part.await?;
    }
    upload.complete().await.map(drop)
}
