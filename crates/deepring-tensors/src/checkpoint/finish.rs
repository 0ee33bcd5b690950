//! The end of the data files: writes that nothing has waited for, headers, flushes and names.

use super::block::Pending;
use super::data::{Data, Whole};
use super::files::DataFile;
use crate::error::{Error, Result};
use deepring::{Replacement, crc32c};
use std::sync::Arc;

/// Files that are complete and still open. Of more, the first are flushed before the commit.
const COMPLETE_MAX: usize = 32;

impl Data {
    pub(super) async fn settle(&self, pending: Pending) -> Result<()> {
        let Pending { file, parts, op } = pending;
        let name = |index: usize| {
            let part = parts.get(index).or(parts.first())?;
            self.lock().files[file].declared.get(part.tensor).map(|declared| declared.name.clone())
        };
        let whole = Whole::new(self, &name(0).unwrap_or_default());
        let settled = match op.await.ok() {
            Ok((written, _)) => {
                self.lock().written(file, &parts, written.checksums().unwrap_or_default());
                self.staging.give(written.buf);
                Ok(())
            }
            Err(error) => {
                let tensor = name(error.index().map_or(0, |index| index as usize));
                Err(Error::io(error, tensor.as_deref()))
            }
        };
        whole.end(settled)
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

    /// Flushes all files, at once, and gives them their names.
    pub(super) async fn commit(&self) -> Result<()> {
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
