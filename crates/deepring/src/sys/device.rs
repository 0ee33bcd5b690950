//! What sysfs reports about the device of a file.

use super::stat::DeviceNumber;
use std::path::PathBuf;

/// The largest logical block that is accepted, in bytes. The largest of any kernel is 64 KiB.
pub(crate) const LOGICAL_BLOCK_MAX: u32 = 256 << 10;

/// The queue of a block device. A partition uses its parent's.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    /// The device's name, such as `nvme0n1`.
    pub(crate) name: String,
    /// Requests that the queue holds; one more blocks its submitter.
    pub(crate) requests: u32,
    /// The largest single request, in bytes.
    pub(crate) request_bytes: u64,
    /// The logical block in bytes.
    pub(crate) logical_block: u32,
}

/// Reads the queue of a device; `None` where there is none (tmpfs, overlay, network file systems).
pub(crate) fn queue(device: DeviceNumber) -> Option<Queue> {
    let DeviceNumber { major, minor } = device;
    if let Some(queue) = super::fault::queue(major, minor) {
        return Some(queue);
    }
    let node = std::fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let device = if node.join("queue").is_dir() { node } else { node.parent()?.to_path_buf() };
    let queue: PathBuf = device.join("queue");
    let read = |name: &str| std::fs::read_to_string(queue.join(name)).ok();
    let name = device.file_name()?.to_string_lossy();
    Queue::parse(&name, &read("nr_requests")?, &read("max_sectors_kb")?, &read("logical_block_size")?)
}

impl Queue {
    /// Parses the files of a queue; `None` if no device could have these values.
    pub(crate) fn parse(name: &str, requests: &str, request_kib: &str, logical_block: &str) -> Option<Self> {
        let logical_block = positive(logical_block)?;
        (logical_block.is_power_of_two() && logical_block <= LOGICAL_BLOCK_MAX.into()).then_some(())?;
        Some(Self {
            name: name.to_owned(),
            requests: positive(requests)?.try_into().unwrap_or(u32::MAX),
            request_bytes: positive(request_kib)?.saturating_mul(1024),
            logical_block: logical_block as u32,
        })
    }
}

fn positive(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|&number| number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_files_of_a_queue_say_is_read() {
        let queue = Queue::parse("nvme0n1", "1023\n", "1280\n", "512\n").expect("a queue");
        assert_eq!((queue.requests, queue.request_bytes, queue.logical_block), (1023, 1280 << 10, 512));
    }

    #[test]
    fn what_no_device_means_is_no_queue() {
        for (requests, kib, block) in
            [("", "4", "512"), ("0", "4", "512"), ("1", "-4", "512"), ("1", "4", "0"), ("1", "4", "520"), ("1", "4", "4294967296")]
        {
            assert!(Queue::parse("disk", requests, kib, block).is_none(), "{requests} {kib} {block}");
        }
    }
}
