//! Who has a number: objects that are put only if there is none.

use super::error::{RemoteError, Result};
use super::object_store::path::Path;
use super::object_store::{Error, ObjectStore, PutMode};
use super::{RemoteCheckpoints, failed};
use deepring_tensors::checkpoint::Listing;

/// The object that claims a number.
const CLAIM: &str = "upload.json";

/// A claim is short. One that is longer is not ours.
const CLAIM_BYTES_MAX: u64 = 4096;

/// What a store answers to a put that asks for no object to be there.
enum Created {
    Yes,
    /// There is one.
    Not,
    /// It cannot.
    Unable(String),
}

impl RemoteCheckpoints {
    /// Claims the number of a generation for its content, unless that has it already.
    pub(super) async fn claim(&self, listing: &Listing) -> Result<()> {
        let path = self.path_of(listing.generation(), CLAIM);
        let text = claim_text(listing);
        if !self.is_claimed(listing, &path, &text).await? {
            match self.create(&path, &text).await? {
                Created::Yes => {}
                Created::Not if self.is_claimed(listing, &path, &text).await? => {}
                Created::Not => return Err(RemoteError::Changed { path }),
                Created::Unable(_) if self.unconditional => return self.overwrite(&path, text).await,
                Created::Unable(why) => return Err(self.refused(why)),
            }
        }
        // There is one now. A store that ignores the condition puts another.
        match self.create(&path, &text).await? {
            Created::Not => Ok(()),
            Created::Yes | Created::Unable(_) if self.unconditional => Ok(()),
            Created::Yes => Err(self.refused("it put a second object of the same name".to_owned())),
            Created::Unable(why) => Err(self.refused(why)),
        }
    }

    /// Makes a generation visible.
    pub(super) async fn publish(&self, listing: &Listing) -> Result<()> {
        let path = self.path_of(listing.generation(), Listing::MANIFEST);
        // The store can be one that ignores the condition. This is as late as it can be seen.
        if self.unconditional && self.is_published(listing).await? {
            return Ok(());
        }
        match self.create(&path, listing.manifest()).await? {
            Created::Yes => Ok(()),
            Created::Not if self.is_published(listing).await? => Ok(()),
            Created::Not => Err(RemoteError::Changed { path }),
            Created::Unable(_) if self.unconditional => self.overwrite(&path, listing.manifest().to_vec()).await,
            Created::Unable(why) => Err(self.refused(why)),
        }
    }

    /// Whether this generation is visible. That another one is, is an error.
    pub(super) async fn is_published(&self, listing: &Listing) -> Result<bool> {
        let path = self.path_of(listing.generation(), Listing::MANIFEST);
        self.has(listing, &path, listing.manifest(), Listing::MANIFEST_BYTES_MAX).await
    }

    async fn is_claimed(&self, listing: &Listing, path: &Path, text: &[u8]) -> Result<bool> {
        self.has(listing, path, text, CLAIM_BYTES_MAX).await
    }

    /// Whether an object is there, with these bytes. That it has others is an error.
    async fn has(&self, listing: &Listing, path: &Path, text: &[u8], bytes_max: u64) -> Result<bool> {
        let exists = || RemoteError::Exists { generation: listing.generation(), path: path.clone() };
        match self.whole(path, bytes_max).await {
            Ok(None) => Ok(false),
            Ok(Some(found)) if found == text => Ok(true),
            Ok(Some(_)) => Err(exists()),
            // It is too long to be that.
            Err(RemoteError::Length { expected, .. }) if expected == bytes_max => Err(exists()),
            Err(error) => Err(error),
        }
    }

    /// Puts an object, if there is none.
    async fn create(&self, path: &Path, text: &[u8]) -> Result<Created> {
        match self.store.put_opts(path, text.to_vec().into(), PutMode::Create.into()).await {
            Ok(_) => Ok(Created::Yes),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Created::Not),
            Err(error @ (Error::NotImplemented { .. } | Error::NotSupported { .. })) => Ok(Created::Unable(error.to_string())),
            Err(error) => Err(failed(path, error)),
        }
    }

    /// Puts an object, whatever is there.
    pub(super) async fn overwrite(&self, path: &Path, text: Vec<u8>) -> Result<()> {
        self.store.put_opts(path, text.into(), PutMode::Overwrite.into()).await.map(drop).map_err(|error| failed(path, error))
    }

    fn refused(&self, why: String) -> RemoteError {
        RemoteError::Unconditional { store: self.store.to_string(), why }
    }
}

/// What a claim says: which content the number is for. Equal contents have equal claims.
fn claim_text(listing: &Listing) -> Vec<u8> {
    let (generation, id, manifest) = (listing.generation(), listing.id(), listing.manifest());
    let (bytes, crc) = (manifest.len(), deepring::crc32c(manifest));
    let text = format!(
        "{{\"format\":\"deepring-upload\",\"version\":1,\"generation\":{generation},\"id\":\"{id}\",\
        \"manifest\":{{\"bytes\":{bytes},\"crc\":\"{crc:08x}\"}}}}\n"
    );
    text.into_bytes()
}
