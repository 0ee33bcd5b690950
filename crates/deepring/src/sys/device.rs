//! What sysfs reports about the device of a file.

use super::stat::DeviceNumber;
use std::path::{Path, PathBuf};

/// The largest logical block that is accepted, in bytes. The largest of any kernel is 64 KiB.
pub(crate) const LOGICAL_BLOCK_MAX: u32 = 256 << 10;

/// The queue of a block device. A partition uses its parent's.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    /// The device's name, such as `nvme0n1`.
    pub(crate) name: String,
    /// The number of the disk that has the queue.
    pub(crate) number: DeviceNumber,
    /// Requests that the queue holds; one more blocks its submitter.
    pub(crate) requests: u32,
    /// The largest single request, in bytes.
    pub(crate) request_bytes: u64,
    /// The logical block in bytes.
    pub(crate) logical_block: u32,
}

/// Reads the queue of a device; `None` where there is none (tmpfs, network file systems). A
/// partition has its disk's. So has a device that only passes requests on to one other (LUKS, a
/// volume of LVM on one disk).
pub(crate) fn queue(device: DeviceNumber) -> Option<Queue> {
    let DeviceNumber { major, minor } = device;
    if let Some(queue) = super::fault::queue(major, minor) {
        return Some(queue);
    }
    let read = |file: PathBuf| std::fs::read_to_string(file).ok();
    let mut disk = disk_of(&format!("/sys/dev/block/{major}:{minor}").into())?;
    let logical_block = read(disk.join("queue/logical_block_size"))?;
    for _ in 0..STACK_MAX {
        let Some(requests) = read(disk.join("queue/nr_requests")) else {
            disk = disk_of(&only_entry(&disk.join("slaves"))?)?;
            continue;
        };
        let name = disk.file_name()?.to_string_lossy();
        let request_kib = read(disk.join("queue/max_sectors_kb"))?;
        let mut queue = Queue::parse(&name, &requests, &request_kib, &logical_block)?;
        queue.number = read(disk.join("dev")).as_deref().and_then(DeviceNumber::parse).unwrap_or(device);
        return Some(queue);
    }
    None
}

/// Devices that stand on one another, at most.
const STACK_MAX: usize = 8;

/// The directory of a disk in sysfs, from that of the disk or of one of its partitions.
fn disk_of(node: &PathBuf) -> Option<PathBuf> {
    let node = std::fs::canonicalize(node).ok()?;
    if node.join("queue").is_dir() { Some(node) } else { node.parent().map(Path::to_path_buf) }
}

fn only_entry(directory: &Path) -> Option<PathBuf> {
    let mut entries = std::fs::read_dir(directory).ok()?.flatten();
    let only = entries.next()?.path();
    entries.next().is_none().then_some(only)
}

impl Queue {
    /// Parses the files of a queue; `None` if no device could have these values.
    pub(crate) fn parse(name: &str, requests: &str, request_kib: &str, logical_block: &str) -> Option<Self> {
        let logical_block = positive(logical_block)?;
        (logical_block.is_power_of_two() && logical_block <= LOGICAL_BLOCK_MAX.into()).then_some(())?;
        Some(Self {
            name: name.to_owned(),
            number: DeviceNumber { major: 0, minor: 0 },
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
