//! Snapshots: the tensors of a store, as of a flush, in a checkpoint in progress.

use super::flush;
use super::read;
use super::shared::Shared;
use super::version::Version;
use crate::checkpoint::CheckpointWriter;
use crate::dtype::DType;
use crate::error::Result;
use crate::order::Declared;
use crate::save::Source;
use deepring::Priority;
use std::sync::Arc;

/// Flushes, and puts all tensors.
pub(super) async fn snapshot(shared: &Arc<Shared>, writer: &CheckpointWriter) -> Result<()> {
    let disk = shared.disk()?;
    shared.lock().check_open()?;
    let (still, mut entries) = flush::hold(shared, disk).await?;
    if shared.lock().is_durable() {
        still.write();
    }
    entries.sort_by_key(|(_, version)| version.position);
    for (name, version) in entries {
        let mut data = read::own(&shared.engine, disk, &name, &version, Priority::Background).await?;
        data.truncate(version.len as usize);
        let Version { dtype, shape, position, .. } = Version::clone(&version);
        let declared = Declared { name: name.to_string(), dtype: dtype.unwrap_or(DType::U8), shape };
        writer.put_from(Source { declared, data }, &disk.file, position).await?;
    }
    Ok(())
}
