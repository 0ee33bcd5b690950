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
/// partition has its disk's. A device without a queue of its own is asked below:
///
/// * one that passes requests on to one other (LUKS, a volume of LVM on one disk) has that one's;
/// * one that spreads them over several (md, LVM) has the queues of all, and the smallest of their
///   requests;
/// * an NVMe drive with several paths has the queue of its largest path;
/// * one that has nothing below (zram) takes as much as is asked, and is given what most queues
///   hold.
pub(crate) fn queue(device: DeviceNumber) -> Option<Queue> {
    if let Some(queue) = super::fault::queue(device.major, device.minor) {
        return Some(queue);
    }
    queue_in(Path::new("/sys"), device)
}

/// What tells a disk from all others, wherever it is attached: its model and serial number, or
/// another name that lasts. `None` if it has none. `name` is that of its [`Queue`].
pub(crate) fn identity(name: &str) -> Option<String> {
    identity_in(Path::new("/sys"), name)
}

/// Where serial numbers are, and behind how many bytes of header: of virtio, NVMe and SCSI; then what others have instead.
const SERIALS: [(&str, usize); 7] =
    [("serial", 0), ("device/serial", 0), ("device/vpd_pg80", 4), ("wwid", 0), ("device/wwid", 0), ("dm/uuid", 0), ("md/uuid", 0)];

fn identity_in(sysfs: &Path, name: &str) -> Option<String> {
    let disk = sysfs.join("class/block").join(name);
    let serial = SERIALS.iter().find_map(|&(file, header)| word(&disk.join(file), header))?;
    Some(match word(&disk.join("device/model"), 0) {
        Some(model) => format!("{model} {serial}"),
        None => serial,
    })
}

/// The printable part of a file, in one line.
fn word(path: &Path, header: usize) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    let text: String = bytes.iter().skip(header).map(|&byte| if byte.is_ascii_graphic() { char::from(byte) } else { ' ' }).collect();
    let words: Vec<&str> = text.split_whitespace().collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// Devices that stand on one another, at most.
const STACK_MAX: usize = 8;
/// What is assumed of a device that has no queue, and nothing below.
const REQUESTS_WITHOUT_QUEUE: u64 = 256;

fn queue_in(sysfs: &Path, device: DeviceNumber) -> Option<Queue> {
    let mut disk = disk_of(&sysfs.join(format!("dev/block/{}:{}", device.major, device.minor)))?;
    let logical_block = read(&disk, "queue/logical_block_size")?;
    // As long as requests are passed on to one other device, its queue is what they share with all others there.
    for _ in 0..STACK_MAX {
        let below = if read(&disk, "queue/nr_requests").is_some() { Vec::new() } else { below(&disk) };
        let [only] = &below[..] else { break };
        disk.clone_from(only);
    }
    let requests = requests_of(&disk, STACK_MAX);
    let request_kib = request_kib_of(&disk, STACK_MAX)?;
    let name = disk.file_name()?.to_string_lossy();
    let mut queue = Queue::parse(&name, &requests.to_string(), &request_kib.to_string(), &logical_block)?;
    queue.number = read(&disk, "dev").as_deref().and_then(DeviceNumber::parse).unwrap_or(device);
    Some(queue)
}

fn read(disk: &Path, file: &str) -> Option<String> {
    std::fs::read_to_string(disk.join(file)).ok()
}

/// The requests that the queue of a disk holds, or those of all below it.
fn requests_of(disk: &Path, depth: usize) -> u64 {
    if let Some(requests) = read(disk, "queue/nr_requests") {
        // One that makes no sense is refused, not replaced.
        return positive(&requests).unwrap_or(0);
    }
    let below = if depth == 0 { Vec::new() } else { below(disk) };
    if below.is_empty() {
        let paths = paths_of(disk).iter().map(|path| requests_of(path, 0)).max();
        return paths.unwrap_or(REQUESTS_WITHOUT_QUEUE);
    }
    below.iter().map(|disk| requests_of(disk, depth - 1)).sum()
}

/// The largest request that a disk and all below it take, in KiB.
fn request_kib_of(disk: &Path, depth: usize) -> Option<u64> {
    let own = positive(&read(disk, "queue/max_sectors_kb")?);
    let below = if depth == 0 { Vec::new() } else { below(disk) };
    below.iter().map(|disk| request_kib_of(disk, depth - 1)).fold(own, |least, other| Some(least?.min(other?)))
}

/// The directory of a disk in sysfs, from that of the disk or of one of its partitions.
fn disk_of(node: &Path) -> Option<PathBuf> {
    let node = std::fs::canonicalize(node).ok()?;
    if node.join("queue").is_dir() { Some(node) } else { node.parent().map(Path::to_path_buf) }
}

/// The disks that a device stands on.
fn below(disk: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(disk.join("slaves")) else { return Vec::new() };
    let mut disks: Vec<_> = entries.flatten().filter_map(|entry| disk_of(&entry.path())).collect();
    // Two partitions of a disk have one queue.
    disks.sort_unstable();
    disks.dedup();
    disks
}

/// The paths to an NVMe drive that has several: of `nvme0n1` those are `nvme0c0n1`, `nvme0c1n1`, ...
fn paths_of(disk: &Path) -> Vec<PathBuf> {
    let is_path = |name: &str| {
        let (drive, of) = (disk.file_name()?.to_str()?.strip_prefix("nvme")?, name.strip_prefix("nvme")?);
        let ((subsystem, namespace), (its, rest)) = (drive.split_once('n')?, of.split_once('c')?);
        let (path, its_namespace) = rest.split_once('n')?;
        let is_number = !path.is_empty() && path.bytes().all(|digit| digit.is_ascii_digit());
        (is_number && its == subsystem && its_namespace == namespace).then_some(())
    };
    let sysfs = disk.ancestors().find(|directory| directory.join("block").is_dir());
    let Some(entries) = sysfs.and_then(|sysfs| std::fs::read_dir(sysfs.join("block")).ok()) else { return Vec::new() };
    let named = entries.flatten().filter(|entry| is_path(&entry.file_name().to_string_lossy()).is_some());
    named.filter_map(|entry| disk_of(&entry.path())).collect()
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

    /// Disks as sysfs shows them.
    struct Sysfs(tempfile::TempDir);

    impl Sysfs {
        fn new() -> Self {
            let root = tempfile::tempdir().expect("a directory");
            for name in ["block", "dev/block", "devices"] {
                std::fs::create_dir_all(root.path().join(name)).expect("a directory");
            }
            Self(root)
        }

        /// A disk of this number, with these files in its queue and these disks below.
        fn disk(&self, name: &str, minor: u32, requests: Option<u32>, kib: u32, below: &[&str]) -> &Self {
            let root = self.0.path();
            let disk = root.join("devices").join(name);
            for name in ["queue", "slaves"] {
                std::fs::create_dir_all(disk.join(name)).expect("a directory");
            }
            let write = |file: &str, text: String| std::fs::write(disk.join(file), text).expect("a file");
            write("dev", format!("8:{minor}\n"));
            write("queue/logical_block_size", "512\n".into());
            write("queue/max_sectors_kb", format!("{kib}\n"));
            if let Some(requests) = requests {
                write("queue/nr_requests", format!("{requests}\n"));
            }
            let link = |from: &Path, to: PathBuf| std::os::unix::fs::symlink(from, to).expect("a link");
            for other in below {
                link(&root.join("devices").join(other), disk.join("slaves").join(other));
            }
            link(&disk, root.join("block").join(name));
            link(&disk, root.join(format!("dev/block/8:{minor}")));
            self
        }

        fn queue(&self, minor: u32) -> (String, u32, u32, u64) {
            let queue = queue_in(self.0.path(), DeviceNumber { major: 8, minor }).expect("a queue");
            (queue.name, queue.number.minor, queue.requests, queue.request_bytes >> 10)
        }
    }

    #[test]
    fn drives_without_a_queue_are_asked_below() {
        let sysfs = Sysfs::new();
        sysfs.disk("sda", 0, Some(31), 256, &[]).disk("sdb", 1, Some(64), 1280, &[]);
        // LUKS on a disk, and a volume on that.
        sysfs.disk("dm-0", 2, None, 1280, &["sda"]).disk("dm-1", 3, None, 512, &["dm-0"]);
        for minor in [0, 2, 3] {
            assert_eq!(sysfs.queue(minor), ("sda".into(), 0, 31, 256), "8:{minor}");
        }
        // An array, and a volume on it.
        sysfs.disk("md0", 4, None, 1280, &["sda", "sdb"]).disk("dm-2", 5, None, 4096, &["md0"]);
        for minor in [4, 5] {
            assert_eq!(sysfs.queue(minor), ("md0".into(), 4, 95, 256), "8:{minor}");
        }
        // A drive with two paths; the others are of another namespace, and of another drive.
        sysfs.disk("nvme0n1", 6, None, 128, &[]).disk("nvme0c0n1", 7, Some(1023), 128, &[]).disk("nvme0c1n1", 8, Some(511), 128, &[]);
        sysfs.disk("nvme0c0n2", 9, Some(5000), 128, &[]).disk("nvme1c0n1", 10, Some(5000), 128, &[]);
        assert_eq!(sysfs.queue(6), ("nvme0n1".into(), 6, 1023, 128));
        sysfs.disk("zram0", 11, None, 128, &[]);
        assert_eq!(sysfs.queue(11), ("zram0".into(), 11, 256, 128));
    }

    #[test]
    fn a_disk_is_told_from_others_by_its_model_and_serial_number() {
        let sysfs = Sysfs::new();
        let root = sysfs.0.path();
        let write = |file: &str, bytes: &[u8]| {
            let path = root.join("class/block").join(file);
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
            std::fs::write(path, bytes).expect("a file");
        };
        write("nvme0n1/device/model", b"Samsung SSD 990 PRO 2TB                 \n");
        write("nvme0n1/device/serial", b"S7DNNJ0W123456      \n");
        write("nvme0n1/wwid", b"eui.0025384\n");
        write("sda/device/model", b"VBOX HARDDISK   \n");
        write("sda/device/vpd_pg80", b"\0\x80\0\x24VB1234-5678");
        write("vda/serial", b"a-disk");
        write("dm-0/dm/uuid", b"LVM-abc\n");
        write("sdb/device/model", b"NAMELESS\n");
        write("vdb/serial", b"\n");
        for (name, identity) in [
            ("nvme0n1", Some("Samsung SSD 990 PRO 2TB S7DNNJ0W123456")),
            ("sda", Some("VBOX HARDDISK VB1234-5678")),
            ("vda", Some("a-disk")),
            ("dm-0", Some("LVM-abc")),
            ("sdb", None),
            ("vdb", None),
            ("0:44", None),
        ] {
            assert_eq!(identity_in(root, name).as_deref(), identity, "{name}");
        }
    }

    #[test]
    fn a_queue_that_makes_no_sense_is_none() {
        let sysfs = Sysfs::new();
        sysfs.disk("sda", 0, Some(0), 256, &[]).disk("sdb", 1, Some(64), 0, &[]).disk("dm-0", 2, None, 256, &["sda"]);
        for minor in [0, 1, 2, 3] {
            assert!(queue_in(sysfs.0.path(), DeviceNumber { major: 8, minor }).is_none(), "8:{minor}");
        }
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
