//! Verifying: reading everything that has a checksum, and comparing.

use crate::error::{Error, Result};
use crate::job::Job;
use crate::load::mismatches;
use crate::progress::Progress;
use crate::stream::{GroupStream, StreamOptions};
use crate::tensors::{HeaderSum, Tensors};
use std::path::PathBuf;
use std::sync::Arc;

/// What [`Tensors::verify`] has found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Verification {
    /// Tensors whose bytes have the checksum that their file states.
    pub verified: u64,
    /// Tensors whose files state none.
    pub unverifiable: u64,
    /// What does not have its checksum.
    pub damaged: Vec<Damage>,
}

impl Verification {
    /// Whether everything has a checksum, and the right one.
    pub fn is_whole(&self) -> bool {
        self.unverifiable == 0 && self.damaged.is_empty()
    }
}

/// Bytes that do not have their checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The name of the tensor. `None`: the header of the file.
    pub tensor: Option<String>,
    /// The file.
    pub path: PathBuf,
    /// Where the bytes begin.
    pub position: u64,
    /// How many there are.
    pub len: u64,
    /// The CRC-32C that the file states.
    pub expected: u32,
    /// The CRC-32C that the bytes have.
    pub actual: u32,
}

impl Tensors {
    /// Reads all tensors whose files state checksums, and the headers of these files, and compares. Needs 256 MiB.
    /// `on_progress` is called as [`LoadOptions::on_progress`](crate::LoadOptions::on_progress) says.
    ///
    /// The job fails with [`Error::Io`] if something cannot be read.
    pub fn verify(&self, on_progress: Option<Arc<dyn Fn(u64, u64) + Send + Sync>>) -> Job<Result<Verification>> {
        let tensors = self.clone();
        Job::new(async move {
            let mut found = Verification::default();
            for (file, sum) in tensors.inner.headers.iter().enumerate() {
                if let Some(sum) = sum {
                    found.damaged.extend(header(&tensors, file, sum).await?);
                }
            }
            let with = tensors.table().selection((0..tensors.table().len()).filter(|&index| tensors.checksum(index).is_some()).collect());
            found.unverifiable = (tensors.table().len() - with.len()) as u64;
            let mut progress = Progress::new(on_progress, with.bytes());
            let largest = with.indices().map(|index| tensors.table().info(index).len).max().unwrap_or(0);
            let options = StreamOptions::new().verify(true);
            let memory = options.memory_bytes().max(largest);
            let mut groups = GroupStream::new(&tensors, &with, &options.memory(memory))?;
            let (mut damaged, mut done) = (0, 0);
            while let Some(group) = groups.next().await {
                let group = group?;
                for error in mismatches(&tensors, &groups.selection, &groups.plan, group.number, &group.checksums) {
                    damaged += 1;
                    found.damaged.extend(Damage::of(&tensors, error));
                }
                progress.advance(groups.receipt.bytes - done);
                done = groups.receipt.bytes;
            }
            progress.end();
            found.verified = with.len() as u64 - damaged;
            Ok(found)
        })
    }
}

impl Damage {
    fn of(tensors: &Tensors, error: Error) -> Option<Self> {
        let Error::Checksum { tensor, path, position, expected, actual } = error else { return None };
        let len = tensors.table().info(tensors.table().find(&tensor)?).len;
        Some(Self { tensor: Some(tensor), path, position, len, expected, actual })
    }
}

/// Reads the header of a file again.
async fn header(tensors: &Tensors, file: usize, sum: &HeaderSum) -> Result<Option<Damage>> {
    let buffer = tensors.engine().pooled_buffer(sum.bytes as usize)?;
    let (mut header, _) = tensors.inner.files[file].read_exact_at(buffer, 0).await.ok()?;
    let place = sum.place;
    let actual = tensors.engine().run_blocking(move || crate::checksums::of_header(&mut header, place)).await?;
    let (path, expected) = (tensors.inner.table.files[file].path.clone(), sum.expected);
    Ok((actual != expected).then_some(Damage { tensor: None, path, position: 0, len: sum.bytes, expected, actual }))
}
