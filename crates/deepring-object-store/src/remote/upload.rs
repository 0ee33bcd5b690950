//! Sending a generation: the number is claimed, then the data files are sent, then the tables, and the manifest last.
//!
//! Every byte is compared with its checksum when it is read from the drive: a damaged file is never sent as a whole. An object
//! that is there before is read back, and compared in the same way. Its length alone proves nothing.

use super::error::{RemoteError, Result};
use super::object_store::path::Path;
use super::object_store::{MultipartUpload, ObjectStore, PutMultipartOptions, PutPayload};
use super::{Budget, RemoteCheckpoints, failed};
use crate::transfer::{Tally, Transfer};
use bytes::Bytes;
use deepring_tensors::Error;
use deepring_tensors::checkpoint::{CheckRun, Checkpoint, FileCheck, Listing};
use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};
use std::ops::Range;
use tokio::sync::OwnedSemaphorePermit;

/// What sending one generation needs.
struct Sending<'r> {
    remote: &'r RemoteCheckpoints,
    checkpoint: &'r Checkpoint,
    listing: &'r Listing,
    budget: Budget,
    tally: Tally,
}

/// A part of a data file that was read and compared, as far as its chunks end in it.
struct Read {
    bytes: Bytes,
    /// Given back when the part was sent.
    room: Option<OwnedSemaphorePermit>,
}

impl RemoteCheckpoints {
    /// Sends a generation. It is visible in the object store when this ends, and not before.
    ///
    /// An upload that was interrupted goes on: objects that are there are read back and compared, and not sent again if they are
    /// right. Several uploads of the same generation can run at once: all end well. If the number is another checkpoint's, the
    /// upload ends before it has sent anything.
    ///
    /// # Errors
    /// [`RemoteError::Exists`] if the number is another checkpoint's; [`RemoteError::Unconditional`];
    /// [`RemoteError::Checkpoint`] if the generation is damaged or cannot be read; [`RemoteError::Store`]. Nothing is
    /// visible then, and what was sent is found by the next upload.
    pub async fn upload(&self, checkpoint: &Checkpoint) -> Result<Transfer> {
        self.check()?;
        let listing = &checkpoint.listing().await?;
        let (generation, files) = (listing.generation(), listing.files());
        let tally = Tally::new(generation, files.len(), listing.bytes(), self.on_progress.clone());
        if self.is_published(listing).await? {
            return Ok(Transfer { complete: true, ..tally.end() });
        }
        self.claim(listing).await?;
        let sending = Sending { remote: self, checkpoint, listing, budget: self.budget(), tally };
        let sent = stream::iter(0..files.len()).map(|file| sending.file(file)).buffer_unordered(self.limits.parts_in_flight);
        sent.try_for_each(|()| std::future::ready(Ok(()))).await?;
        let tables: Vec<_> = listing.parts().chain(listing.index().map(|index| (Listing::INDEX, index))).collect();
        let table = |number: usize| sending.table(tables[number].0, tables[number].1);
        let sent = stream::iter(0..tables.len()).map(table).buffer_unordered(self.limits.parts_in_flight);
        sent.try_for_each(|()| std::future::ready(Ok(()))).await?;
        let Sending { tally, .. } = sending;
        self.publish(listing).await?;
        Ok(tally.end())
    }
}

impl Sending<'_> {
    /// Sends a small file, unless it is there.
    async fn table(&self, name: &str, text: &[u8]) -> Result<()> {
        let path = self.remote.path_of(self.listing.generation(), name);
        let bytes = text.len() as u64;
        let _room = self.budget.room(bytes).await;
        match self.remote.whole(&path, bytes).await {
            Ok(Some(found)) if found == text => return Ok(()),
            Ok(_) | Err(RemoteError::Length { .. }) => {}
            Err(error) => return Err(error),
        }
        self.remote.overwrite(&path, text.to_vec()).await
    }

    /// Sends a data file, unless it is there.
    async fn file(&self, number: usize) -> Result<()> {
        let listed = &self.listing.files()[number];
        let path = self.remote.path_of(self.listing.generation(), &listed.name);
        let check = self.check(number).await?;
        if self.is_there(&path, &check).await? {
            self.tally.found(listed.bytes);
            return Ok(());
        }
        let part_bytes = self.remote.limits.part_bytes_of(listed.bytes);
        if listed.bytes <= part_bytes {
            return self.at_once(number, &path, &check).await;
        }
        let options = PutMultipartOptions::default();
        let mut upload = self.remote.store.put_multipart_opts(&path, options).await.map_err(|error| failed(&path, error))?;
        let sent = self.in_parts(number, &path, &check, part_bytes, &mut *upload).await;
        if sent.is_err() {
            // The caller gets the error that made this necessary.
            let _ = upload.abort().await;
        }
        sent
    }

    /// What the bytes of a file are compared with, by its header.
    async fn check(&self, number: usize) -> Result<FileCheck> {
        const LENGTH_BYTES: u64 = 8;
        let _room = self.budget.room(1).await;
        let first = self.read(number, 0..LENGTH_BYTES).await?;
        let header_bytes = self.listing.header_bytes(number, &first)?;
        let header = self.read(number, 0..header_bytes).await?;
        Ok(self.listing.check(number, &header)?)
    }

    /// Bytes of a file, past the page cache.
    async fn read(&self, number: usize, range: Range<u64>) -> Result<Bytes> {
        let file = self.checkpoint.data_file(number);
        let len = (range.end - range.start) as usize;
        let (buffer, receipt) = file.read_buffer_at(range.start, len).await.ok().map_err(Error::from)?;
        let bytes = Bytes::from_owner(buffer);
        // What is missing at the end of a file that became shorter is found by what compares the bytes.
        Ok(bytes.slice(..bytes.len().min(receipt.bytes as usize)))
    }

    /// Whether an object is there, and has the bytes of this file.
    async fn is_there(&self, path: &Path, check: &FileCheck) -> Result<bool> {
        let Some(seen) = self.remote.head(path).await?.filter(|seen| seen.bytes == check.bytes()) else { return Ok(false) };
        let header = 0..check.header_bytes();
        let pieces = std::iter::once(header).chain(check.pieces(self.remote.limits.part_bytes));
        let compare = |piece: Range<u64>| {
            let seen = &seen;
            async move {
                let _room = self.budget.room(piece.end - piece.start).await;
                let mut run = check.run(piece.start)?;
                for bytes in self.remote.range(seen, piece).await? {
                    run.update(&bytes)?;
                }
                run.end()?;
                Ok::<_, RemoteError>(())
            }
        };
        let compared = stream::iter(pieces).map(compare).buffer_unordered(self.remote.limits.parts_in_flight);
        match compared.try_for_each(|()| std::future::ready(Ok(()))).await {
            Ok(()) => Ok(true),
            // It has other bytes, or another upload of the same generation has just replaced it. It is sent again.
            Err(
                RemoteError::Checkpoint(Error::Checksum { .. } | Error::Format { .. })
                | RemoteError::Length { .. }
                | RemoteError::Changed { .. },
            ) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The parts of a file in their order, each read and compared when it is asked for.
    fn parts<'s>(&'s self, number: usize, check: &FileCheck, part_bytes: u64) -> Result<impl Stream<Item = Result<Read>> + Send + use<'s>> {
        let (run, bytes) = (check.run(0)?, check.bytes());
        let next = move |mut run: CheckRun| async move {
            let at = run.position();
            if at == bytes {
                return Ok(None);
            }
            let range = at..bytes.min(at + part_bytes);
            let room = self.budget.room(range.end - range.start).await;
            let bytes = self.read(number, range.clone()).await?;
            run.update(&bytes)?;
            if run.position() < range.end {
                // The file became shorter: there is no such chunk.
                run.end()?;
                let path = self.remote.path_of(self.listing.generation(), &self.listing.files()[number].name);
                return Err(RemoteError::Length { path, expected: range.end - range.start, actual: bytes.len() as u64 });
            }
            Ok(Some((Read { bytes, room }, run)))
        };
        Ok(stream::try_unfold(run, next))
    }

    /// Sends a file in one request.
    async fn at_once(&self, number: usize, path: &Path, check: &FileCheck) -> Result<()> {
        let mut parts = std::pin::pin!(self.parts(number, check, check.bytes())?);
        let Some(Read { bytes, room }) = parts.next().await.transpose()? else { return Ok(()) };
        let len = bytes.len() as u64;
        let payload = PutPayload::from(bytes);
        self.remote.store.put_opts(path, payload, super::object_store::PutOptions::default()).await.map_err(|error| failed(path, error))?;
        drop(room);
        self.tally.moved(len);
        Ok(())
    }

    /// Sends a file in parts, which are on their way at once.
    async fn in_parts(
        &self,
        number: usize,
        path: &Path,
        check: &FileCheck,
        part_bytes: u64,
        upload: &mut dyn MultipartUpload,
    ) -> Result<()> {
        let put_part = |read: Result<Read>| {
            let part = read.map(|Read { bytes, room }| (bytes.len() as u64, upload.put_part(bytes.into()), room));
            async move {
                let (len, part, room) = part?;
                part.await.map_err(|error| failed(path, error))?;
                drop(room);
                self.tally.moved(len);
                Ok::<_, RemoteError>(())
            }
        };
        let sent = self.parts(number, check, part_bytes)?.map(put_part).buffer_unordered(self.remote.limits.parts_in_flight);
        sent.try_for_each(|()| std::future::ready(Ok(()))).await?;
        upload.complete().await.map(drop).map_err(|error| failed(path, error))
    }
}
