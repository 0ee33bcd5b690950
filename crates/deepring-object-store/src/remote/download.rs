//! Fetching a generation: its tables, then what is missing of its data files, and one commit that makes it visible.

use super::error::{RemoteError, Result};
use super::fetch::Seen;
use super::object_store::path::Path;
use super::{Budget, RemoteCheckpoints};
use crate::transfer::{Tally, Transfer};
use deepring_tensors::checkpoint::{Arrival, ArrivingFile, Checkpoints, FileCheck, Listing};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::ops::Range;

/// Fetched first of a data file: more than the header of most.
const FIRST_BYTES: u64 = 256 << 10;

/// The most chunks of an answer that are written as they came; more are put together first.
const CHUNKS_MAX: usize = 1 << 16;

/// What fetching one generation needs.
struct Fetching<'r> {
    remote: &'r RemoteCheckpoints,
    arrival: &'r Arrival,
    budget: Budget,
    tally: Tally,
}

impl RemoteCheckpoints {
    /// Fetches a generation into a store, under the same number. It is there as a whole or not at all, as after a commit, and
    /// outlives a power failure when this ends. All bytes are compared with their checksums before they are written.
    ///
    /// A download that was interrupted goes on, also in another process: data files that are there are read and compared, and not
    /// fetched again if they are right. What it has left goes with the next commit or
    /// [`collect`](Checkpoints::collect) of the store. If the store has this very generation, nothing is fetched.
    ///
    /// Nothing is removed for it. But the next commit of the store keeps the newest generations alone: [pin](Checkpoints::pin)
    /// an old one that is to stay.
    ///
    /// # Errors
    /// [`RemoteError::NoGeneration`]; [`RemoteError::Checkpoint`] with [`Checksum`](deepring_tensors::Error::Checksum) or
    /// [`Format`](deepring_tensors::Error::Format) if an object is damaged, with [`Conflict`](deepring_tensors::Error::Conflict) if
    /// the store has another generation of this number or the same one is arriving already;
    /// [`RemoteError::Length`], [`RemoteError::Missing`], [`RemoteError::Changed`]; [`RemoteError::Store`]. Nothing is visible then.
    pub async fn download(&self, store: &Checkpoints, generation: u64) -> Result<Transfer> {
        self.check()?;
        let listing = &self.listing(generation).await?;
        let files = listing.files();
        let tally = Tally::new(generation, files.len(), listing.bytes(), self.on_progress.clone());
        let Some(arrival) = store.receive(listing).await? else {
            // It can be read.
            store.generation(generation).await?;
            return Ok(Transfer { complete: true, ..tally.end() });
        };
        let fetching = Fetching { remote: self, arrival: &arrival, budget: self.budget(), tally };
        let mut missing = Vec::new();
        for (number, file) in files.iter().enumerate() {
            if arrival.has(number).await? {
                fetching.tally.found(file.bytes);
            } else {
                missing.push(number);
            }
        }
        let fetched = stream::iter(missing).map(|file| fetching.file(file)).buffer_unordered(self.limits.parts_in_flight);
        fetched.try_for_each(|()| std::future::ready(Ok(()))).await?;
        let Fetching { tally, .. } = fetching;
        arrival.commit().await?;
        Ok(tally.end())
    }

    /// Fetches the [newest](RemoteCheckpoints::latest) generation, as [`RemoteCheckpoints::download`] does.
    ///
    /// # Errors
    /// Those of both; [`RemoteError::NoGeneration`] if there is none.
    pub async fn download_latest(&self, store: &Checkpoints) -> Result<Transfer> {
        match self.latest().await? {
            Some(generation) => self.download(store, generation).await,
            None => Err(RemoteError::NoGeneration { generation: None, prefix: self.prefix.clone() }),
        }
    }

    /// The tables of a generation that is visible.
    async fn listing(&self, generation: u64) -> Result<Listing> {
        let place = self.place_of(generation);
        let path = place.clone().join(Listing::MANIFEST);
        let manifest = self.whole(&path, Listing::MANIFEST_BYTES_MAX).await?;
        let manifest = manifest.ok_or_else(|| RemoteError::NoGeneration { generation: Some(generation), prefix: self.prefix.clone() })?;
        let parts = Listing::parts_of(generation, &manifest, place.as_ref())?;
        let part = |listed: deepring_tensors::checkpoint::ListedFile| {
            let path = place.clone().join(listed.name);
            async move { self.whole(&path, listed.bytes).await?.ok_or(RemoteError::Missing { path }) }
        };
        let parts = stream::iter(parts).map(part).buffered(self.limits.parts_in_flight).try_collect().await?;
        Ok(Listing::new(generation, manifest, parts, place.as_ref())?)
    }
}

impl Fetching<'_> {
    /// Fetches a data file.
    async fn file(&self, number: usize) -> Result<()> {
        let listing = self.arrival.listing();
        let listed = &listing.files()[number];
        let path = self.remote.path_of(listing.generation(), &listed.name);
        let (seen, check, file, is_whole) = self.begin(number, &path, listed.bytes).await?;
        if !is_whole {
            let pieces = stream::iter(check.pieces(self.remote.limits.part_bytes)).map(|piece| self.piece(&seen, &file, piece));
            let fetched = pieces.buffer_unordered(self.remote.limits.parts_in_flight);
            fetched.try_for_each(|()| std::future::ready(Ok(()))).await?;
        }
        Ok(file.finish().await?)
    }

    /// Fetches the header of a data file, or all of it, if it is small. Returns whether that is so.
    async fn begin(&self, number: usize, path: &Path, bytes: u64) -> Result<(Seen, FileCheck, ArrivingFile, bool)> {
        let listing = self.arrival.listing();
        let _room = self.budget.room(bytes.min(FIRST_BYTES)).await;
        let (seen, chunks) = self.remote.first(path, bytes, bytes.min(FIRST_BYTES)).await?;
        let mut first = chunks.concat();
        drop(chunks);
        let header_bytes = listing.header_bytes(number, &first)?;
        if header_bytes > first.len() as u64 {
            let rest = self.remote.range(&seen, first.len() as u64..header_bytes).await?;
            first.extend_from_slice(&rest.concat());
        }
        let check = listing.check(number, &first[..header_bytes as usize])?;
        let file = self.arrival.begin(number, &check).await?;
        let is_whole = first.len() as u64 == bytes;
        if !is_whole {
            first.truncate(header_bytes as usize);
        }
        let len = first.len() as u64;
        file.write(0, vec![first]).await?;
        self.tally.moved(len);
        Ok((seen, check, file, is_whole))
    }

    /// Fetches bytes of a data file.
    async fn piece(&self, seen: &Seen, file: &ArrivingFile, piece: Range<u64>) -> Result<()> {
        let (at, len) = (piece.start, piece.end - piece.start);
        let _room = self.budget.room(len).await;
        let chunks = self.remote.range(seen, piece).await?;
        if chunks.len() > CHUNKS_MAX {
            file.write(at, vec![chunks.concat()]).await?;
        } else {
            file.write(at, chunks).await?;
        }
        self.tally.moved(len);
        Ok(())
    }
}
