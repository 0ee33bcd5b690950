//! What sysfs tells about the device behind a file.

use std::path::{Path, PathBuf};

/// The queue of a block device. A partition uses its parent's.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    /// The device's name, such as `nvme0n1`.
    pub(crate) name: String,
    /// How many requests the queue holds before submitting blocks the submitter.
    pub(crate) requests: u32,
    /// The largest single request, in bytes.
    pub(crate) request_bytes: u64,
    /// The logical block in bytes.
    pub(crate) logical_block: u64,
}

/// Reads the queue of the device `major:minor`; `None` where there is none (tmpfs, overlay, network file systems).
pub(crate) fn queue(major: u32, minor: u32) -> Option<Queue> {
    #[cfg(feature = "sim")]
    if let Some(queue) = super::fault::queue(major, minor) {
        return Some(queue);
    }
    let node = std::fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let device = if node.join("queue").is_dir() { node } else { node.parent()?.to_path_buf() };
    let queue: PathBuf = device.join("queue");
    Some(Queue {
        name: device.file_name()?.to_string_lossy().into_owned(),
        requests: number(&queue.join("nr_requests"))? as u32,
        request_bytes: number(&queue.join("max_sectors_kb"))?.saturating_mul(1024),
        logical_block: number(&queue.join("logical_block_size"))?,
    })
}

fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}
