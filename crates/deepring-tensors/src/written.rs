//! [`Written`]: a model whose bytes are all written, and which is not visible yet.

use crate::error::Result;
use crate::progress::Progress;
use deepring::{Engine, ErrorKind, Replacement};
use std::path::{Path, PathBuf};

/// What a save has written, and what it did for that. Dropping it leaves what was there before.
pub(crate) struct Written<R> {
    /// Of the file, or of the index of several.
    pub(crate) replacement: Replacement,
    /// The files that an index names.
    pub(crate) files: Option<Files>,
    pub(crate) receipt: R,
    pub(crate) progress: Progress,
}

impl<R> Written<R> {
    /// Puts it in the place of what was there.
    pub(crate) async fn commit(self) -> Result<R> {
        let Self { replacement, files, receipt, progress } = self;
        let committed = replacement.commit().await;
        match (files, &committed) {
            (None, _) => {}
            (Some(files), Ok(())) => files.named().await?,
            (Some(files), Err(error)) if matches!(error.kind(), ErrorKind::Uncertain(_)) => files.leave(),
            (Some(files), Err(_)) => files.remove().await?,
        }
        committed?;
        progress.end();
        Ok(receipt)
    }

    /// Removes it, and waits for that.
    pub(crate) async fn abandon(self) -> Result<()> {
        if let Some(files) = self.files {
            files.remove().await?;
        }
        Ok(self.replacement.abandon().await?)
    }
}

/// Files of a directory that have been made and that no index names yet. They are removed if it comes to nothing.
pub(crate) struct Files {
    engine: Engine,
    directory: PathBuf,
    made: Vec<String>,
    /// What is not named any more once they are.
    old: Vec<String>,
}

impl Files {
    pub(crate) fn new(engine: &Engine, directory: &Path, old: Vec<String>) -> Self {
        Self { engine: engine.clone(), directory: directory.to_owned(), made: Vec::new(), old }
    }

    /// A file has this name from now on.
    pub(crate) fn add(&mut self, name: String) {
        self.made.push(name);
    }

    /// The index names them now.
    async fn named(mut self) -> Result<()> {
        self.made.clear();
        let old = std::mem::take(&mut self.old);
        self.remove_all(old).await
    }

    /// The index names them, but that may not last: the old ones stay, too.
    fn leave(mut self) {
        self.made.clear();
    }

    /// No index will name them.
    pub(crate) async fn remove(mut self) -> Result<()> {
        let made = std::mem::take(&mut self.made);
        self.remove_all(made).await
    }

    async fn remove_all(&self, names: Vec<String>) -> Result<()> {
        let directory = self.directory.clone();
        Ok(self.engine.run_blocking(move || remove_all(&directory, &names)).await?)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if self.made.is_empty() {
            return;
        }
        let (directory, made) = (self.directory.clone(), std::mem::take(&mut self.made));
        // On a thread of the engine, whose end nothing waits for.
        drop(self.engine.run_blocking(move || remove_all(&directory, &made)));
    }
}

/// Blocks. What cannot be removed stays: no index names it.
fn remove_all(directory: &Path, names: &[String]) {
    for name in names {
        let _ = std::fs::remove_file(directory.join(name));
    }
}
