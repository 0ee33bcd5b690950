//! Verifying: reading everything that has a checksum, and comparing.

use crate::checksums;
use crate::error::Result;
use crate::job::Job;
use crate::load::mismatches;
use crate::progress::Progress;
use crate::stream::{GroupStream, MEMORY_BYTES};
use crate::tensors::{HeaderSum, Mismatch, Tensors};
use deepring::crc32c;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

/// What [`Tensors::verify`] has found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Verification {
    /// Tensors whose bytes have the checksums that are stated.
    pub verified: u64,
    /// Tensors for which none are stated.
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
    /// The name of the tensor, all of which it is, or a chunk. `None`: the header of the file.
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
    /// Reads all bytes for which checksums are stated, and the headers of the files that have them, and compares. Needs 256 MiB.
    /// `on_progress` is called as [`LoadOptions::on_progress`](crate::LoadOptions::on_progress) says.
    ///
    /// The job fails with [`Error::Io`](crate::Error::Io) if something cannot be read.
    pub fn verify(&self, on_progress: Option<Arc<dyn Fn(u64, u64) + Send + Sync>>) -> Job<Result<Verification>> {
        let tensors = self.clone();
        Job::new(async move {
            let mut found = Verification::default();
            for (file, sum) in tensors.inner.stated.headers.iter().enumerate() {
                if let Some(sum) = sum {
                    found.damaged.extend(header(&tensors, file, sum).await?);
                }
            }
            let summed = (0..tensors.table().len()).filter(|&index| tensors.is_summed(index)).count();
            let mut groups = GroupStream::of_sums(&tensors, Tensors::summed, MEMORY_BYTES).await?;
            let mut progress = Progress::new(on_progress, groups.plan.bytes);
            let (mut damaged, mut done) = (HashSet::new(), 0);
            while let Some(group) = groups.next().await {
                let group = group?;
                for mismatch in mismatches(&tensors, &groups.plan, group.number, &group.checksums) {
                    damaged.insert(mismatch.tensor);
                    found.damaged.push(Damage::of(&tensors, mismatch));
                }
                progress.advance(groups.receipt.bytes - done);
                done = groups.receipt.bytes;
            }
            progress.end();
            found.verified = (summed - damaged.len()) as u64;
            found.unverifiable = (tensors.table().len() - summed) as u64;
            Ok(found)
        })
    }
}

impl Damage {
    fn of(tensors: &Tensors, mismatch: Mismatch) -> Self {
        let Mismatch { tensor, file, position, len, expected, actual } = mismatch;
        let tensor = Some(tensors.table().columns.names.get(tensor as usize).to_owned());
        Self { tensor, path: tensors.path(file).to_owned(), position, len, expected, actual }
    }
}

/// Reads the header of a file again.
async fn header(tensors: &Tensors, file: usize, sum: &HeaderSum) -> Result<Option<Damage>> {
    let buffer = tensors.engine().pooled_buffer(sum.bytes as usize)?;
    let (mut header, _) = tensors.inner.files[file].read_exact_at(buffer, 0).await.ok()?;
    let place = sum.place;
    let of_header = move || match place {
        Some(place) => checksums::of_header(&mut header, place),
        None => crc32c(&header),
    };
    let actual = tensors.engine().run_blocking(of_header).await?;
    let (path, expected) = (tensors.path(file).to_owned(), sum.expected);
    Ok((actual != expected).then_some(Damage { tensor: None, path, position: 0, len: sum.bytes, expected, actual }))
}
