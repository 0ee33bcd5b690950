//! [`Checked`]: bytes of a generation that have checksums, read ahead in their order, compared, and written elsewhere.

use crate::error::{Error, Result};
use crate::progress::{OnProgress, Progress};
use crate::stream::{GroupStream, StreamedGroup};
use crate::sums::Summed;
use crate::tensors::Tensors;
use deepring::File;

/// See the module.
pub(super) struct Checked {
    groups: GroupStream,
    next: Option<StreamedGroup>,
    progress: Progress,
}

impl Checked {
    /// Begins to read these bytes, within this memory, or what the largest chunk of them takes.
    pub(super) async fn new(
        tensors: &Tensors,
        summed: impl FnOnce(&Tensors) -> Vec<Summed> + Send + 'static,
        memory: u64,
        on_progress: Option<OnProgress>,
    ) -> Result<Self> {
        let mut groups = GroupStream::of_sums(tensors, summed, memory).await?;
        let next = groups.next().await.transpose()?;
        let progress = Progress::new(on_progress, groups.plan.bytes);
        Ok(Self { groups, next, progress })
    }

    /// Writes those that come next of this file. Its byte at `from` becomes the one at `position` of the other file.
    pub(super) async fn write(&mut self, file: usize, from: u64, to: &File, position: u64) -> Result<()> {
        while let Some(group) = self.next.take_if(|group| self.groups.plan.groups[group.number].files[0].file == file) {
            self.groups.check(&group)?;
            let reads = &self.groups.plan.groups[group.number].files[0];
            let (Some(first), Some(last)) = (reads.pieces.first(), reads.pieces.last()) else { break };
            let done = last.offset + last.len - first.offset;
            let (at, range) = (first.position - from + position, first.offset..last.offset + last.len);
            let tensor = reads.checks.first().map(|check| self.groups.tensors.table().columns.names.get(check.tensor as usize));
            let written = to.write_at(group.buffer.slice(range), at).await.ok();
            written.map_err(|error| Error::io(error, tensor))?;
            drop(group.permit);
            self.progress.advance(done as u64);
            self.next = self.groups.next().await.transpose()?;
        }
        Ok(())
    }

    /// All of them were written.
    pub(super) fn end(self) {
        self.progress.end();
    }
}
