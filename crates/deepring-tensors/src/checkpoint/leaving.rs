//! What another place needs of a generation that is open: its listing, and its files.

use super::copy;
use super::generation::Checkpoint;
use super::listing::Listing;
use super::names::{MANIFEST, Member};
use super::part::Part;
use crate::error::{Fault, Reason, Result};
use crate::job::Job;
use crate::shards::index_text;
use crate::tensors::Tensors;
use deepring::File;

impl Checkpoint {
    /// The files of the generation, and their checksums.
    ///
    /// The job fails with [`Error::Format`](crate::Error::Format) if a table was changed since the generation was opened; with
    /// [`Error::Io`](crate::Error::Io).
    pub fn listing(&self) -> Job<Result<Listing>> {
        let this = self.clone();
        Job::new(async move {
            let engine = this.tensors().engine().clone();
            let read = move || {
                let (directory, manifest) = (&this.inner.directory, &this.inner.manifest);
                let text = |name: &str| {
                    let missing = || Fault::new(Reason::Part, "it is not there").at(&directory.path().join(name));
                    copy::read(directory, name, manifest)?.ok_or_else(missing)
                };
                let parts = (0..manifest.parts.len() as u32).map(|writer| text(&Member::Part(writer).to_string()));
                let parts = parts.collect::<Result<Vec<_>>>()?;
                let listing = Listing::new(manifest.generation, text(MANIFEST)?, parts, directory.path())?;
                let index = index_of(&listing.parts, this.tensors());
                Ok(listing.with_index(index))
            };
            engine.run_blocking(read).await?
        })
    }

    /// A data file, open for reading: that of this index in [`Listing::files`].
    ///
    /// # Panics
    /// If there is none, like indexing.
    pub fn data_file(&self, index: usize) -> &File {
        &self.tensors().inner.files[index]
    }
}

/// The index of a generation, unless a tensor of it is split, or it has none.
pub(super) fn index_of(parts: &[Part], tensors: &Tensors) -> Option<Vec<u8>> {
    let table = tensors.table();
    if table.is_empty() || parts.iter().any(|part| !part.split.is_empty()) {
        return None;
    }
    let name = |index: usize| tensors.path(table.file_of(index)).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let files: Vec<&str> = (0..table.len()).map(name).collect();
    Some(index_text(table.bytes(), table.names().zip(files)))
}
