//! The end of the data files: writes that nothing has waited for, headers, flushes and names.

use super::block::{Bytes, Pending};
use super::data::{Data, Whole};
use super::files::{DataFile, Failure, State};
use crate::error::{Error, Result};
use deepring::{Buffer, Completed, Replacement, Scattered, Task, crc32c};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Files that are complete and still open. Of more, the first are flushed before the commit.
const COMPLETE_MAX: usize = 32;

impl Data {
    /// Waits for a write.
    pub(super) async fn settle(&self, pending: Pending) -> Result<()> {
        let Pending { file, parts, op } = pending;
        let whole = Whole::new(self, &self.name_of(file, parts.first()));
        whole.end(self.settled(file, &parts, op.await))
    }

    /// A write has ended.
    fn settled(&self, file: usize, parts: &[Bytes], ended: Completed<Scattered<Buffer>>) -> Result<()> {
        match ended.ok() {
            Ok((written, _)) => {
                self.written(file, parts, written.checksums().unwrap_or_default());
                // A header has no parts, and no block.
                if !parts.is_empty() {
                    self.staging.give(written.buf);
                }
                Ok(())
            }
            Err(error) => {
                let part = parts.get(error.index().map_or(0, |index| index as usize));
                let error = Error::io(error, Some(self.name_of(file, part.or(parts.first()))).filter(|name| !name.is_empty()).as_deref());
                self.lock().failure.get_or_insert(Failure::of(&error));
                Err(error)
            }
        }
    }

    /// The tensor of a part; empty if there is none.
    fn name_of(&self, file: usize, part: Option<&Bytes>) -> String {
        let state = self.lock();
        part.and_then(|part| state.files[file].declared.get(part.tensor)).map(|declared| declared.name.clone()).unwrap_or_default()
    }

    /// Takes back the blocks of writes that have ended.
    pub(super) fn reap(&self) {
        let mut context = Context::from_waker(Waker::noop());
        let ended = || {
            let mut state = self.lock();
            let Poll::Ready(ended) = Pin::new(&mut state.pending.front_mut()?.op).poll(&mut context) else { return None };
            state.pending.pop_front().map(|Pending { file, parts, .. }| (file, parts, ended))
        };
        for (file, parts, ended) in std::iter::from_fn(ended) {
            // A failure is kept for the calls that follow.
            let _ = self.settled(file, &parts, ended);
        }
        let mut context = Context::from_waker(Waker::noop());
        let State { behind, failure, .. } = &mut *self.lock();
        behind.retain_mut(|task| match Pin::new(task).poll(&mut context) {
            Poll::Pending => true,
            Poll::Ready(ended) => {
                if let Err(error) = ended {
                    failure.get_or_insert(Failure::Io(error, None));
                }
                false
            }
        });
    }

    /// Waits for the writes of a file that nothing else waits for.
    pub(super) async fn settle_file(&self, number: usize) -> Result<()> {
        loop {
            let next = {
                let mut state = self.lock();
                let place = state.pending.iter().position(|pending| pending.file == number);
                place.and_then(|place| state.pending.remove(place))
            };
            match next {
                Some(pending) => self.settle(pending).await?,
                None => return Ok(()),
            }
        }
    }

    /// Gives back descriptors of files that are complete, the first ones first.
    pub(super) async fn commit_early(&self) -> Result<()> {
        loop {
            let replacement = {
                let mut state = self.lock();
                let complete = |file: &DataFile| file.replacement.is_some() && file.header_crc.is_some() && file.writes == 0;
                if state.files.iter().filter(|file| complete(file)).count() <= COMPLETE_MAX {
                    return Ok(());
                }
                state.files.iter_mut().find(|file| complete(file)).and_then(|file| file.replacement.take())
            };
            if let Some(replacement) = replacement.and_then(Arc::into_inner) {
                if self.durable {
                    replacement.flush().await?;
                }
                replacement.commit().await?;
            }
        }
    }

    /// Ends all writes, and writes the headers.
    pub(super) async fn complete(self: &Arc<Self>) -> Result<()> {
        {
            let mut state = self.lock();
            for file in 0..state.files.len() {
                state.flush_block(file);
            }
        }
        while let Some(task) = { self.lock().behind.pop() } {
            task.await?;
        }
        self.check()?;
        let unmade =
            |file: &DataFile| file.replacement.is_none() && file.adopted.is_none() && (file.header.is_some() || file.header_crc.is_none());
        while let Some(number) = { self.lock().files.iter().position(unmade) } {
            self.made(number).await?;
        }
        // All of them are awaited, so that the first failure is the one of the oldest.
        let mut failed = Ok(());
        while let Some(pending) = { self.lock().pending.pop_front() } {
            failed = failed.and(self.settle(pending).await);
        }
        failed?;
        self.check()?;
        let this = Arc::clone(self);
        let headers = self.engine.run_blocking(move || this.lock().headers(this.origin)).await??;
        let writes: Vec<_> = headers
            .into_iter()
            .map(|(file, header)| {
                let crc = crc32c(&header);
                let replacement = self.lock().files[file].replacement.clone();
                (file, crc, replacement.map(|replacement| replacement.file().write_at(header, 0)))
            })
            .collect();
        for (file, crc, write) in writes {
            if let Some(write) = write {
                write.await.ok()?;
            }
            self.lock().files[file].header_crc = Some(crc);
        }
        Ok(())
    }

    /// Begins to flush all files, at once.
    pub(super) fn flush(&self) -> Vec<Task<()>> {
        let files: Vec<_> = self.lock().files.iter().filter_map(|file| file.replacement.clone()).collect();
        files.iter().filter(|_| self.durable).map(|file| file.flush()).collect()
    }

    /// Gives all files their names, once they are flushed.
    pub(super) async fn name(&self) -> Result<()> {
        let replacements: Vec<_> = self.lock().files.iter_mut().filter_map(|file| file.replacement.take()).collect();
        let commits: Option<Vec<_>> = replacements.into_iter().map(|file| Arc::into_inner(file).map(Replacement::commit)).collect();
        let commits = commits.ok_or_else(|| Error::Argument("a write has not ended".into()))?;
        let mut result = Ok(());
        for commit in commits {
            result = result.and(commit.await);
        }
        Ok(result?)
    }

    /// Removes all files that do not have their names yet.
    pub(super) async fn abandon(&self) -> Result<()> {
        while let Some(task) = { self.lock().behind.pop() } {
            task.await?;
        }
        let (pending, replacements): (Vec<_>, Vec<_>) = {
            let mut state = self.lock();
            let replacements = state.files.iter_mut().filter_map(|file| file.replacement.take()).collect();
            (state.pending.drain(..).collect(), replacements)
        };
        for Pending { op, .. } in pending {
            // What comes of it does not matter any more.
            let _ = op.await;
        }
        for replacement in replacements.into_iter().filter_map(Arc::into_inner) {
            replacement.abandon().await?;
        }
        Ok(())
    }
}
