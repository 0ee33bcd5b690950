//! The duties of a machine's first process: mount, load modules, wait for drives, switch off.

use crate::harness::disk::Loop;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// The driver finds its drives while the first process starts.
const DRIVE_LIMIT: Duration = Duration::from_secs(60);

/// A word on the kernel's command line: put a loop device between file system and drive.
///
/// QEMU's nvme drive (7.2) reports FUA support. With ext4 directly on it, acknowledged names
/// vanished in cuts; with a loop device in between, none ever did. ext4 makes its commit record
/// durable by FUA. A loop device has no FUA, so the kernel follows the record with a flush, which
/// the loop device passes on. We conclude that the emulated drive ignores FUA. (A journal on
/// another drive was tried instead and lost file data. Our conclusion there: Linux 6.1 does not
/// flush the file system's own drive when a directly written file is synced. Neither was traced to
/// its end.)
pub(crate) const LOOP: &str = "lab.loop";

fn mount(source: &Path, at: &Path, kind: &str) -> io::Result<()> {
    let terminated = |bytes: &[u8]| CString::new(bytes).map_err(io::Error::other);
    let (source, target) = (terminated(source.as_os_str().as_bytes())?, terminated(at.as_os_str().as_bytes())?);
    let kind = terminated(kind.as_bytes())?;
    fs::create_dir_all(at)?;
    // SAFETY: terminated strings that outlive the call; no data.
    match unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) } {
        0 => Ok(()),
        _ => Err(io::Error::new(io::Error::last_os_error().kind(), format!("mount {}: {}", at.display(), io::Error::last_os_error()))),
    }
}

/// The file systems of the kernel.
pub(super) fn mount_basics() -> io::Result<()> {
    for (kind, at) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/tmp"), ("tmpfs", "/dev/shm")] {
        mount(Path::new(kind), Path::new(at), kind)?;
    }
    Ok(())
}

/// Loads the modules, mounts the drive, and returns a description of kernel and drive.
pub(super) fn start(device: &Path, data: &Path) -> io::Result<String> {
    load_modules()?;
    let started = Instant::now();
    while !device.exists() {
        if started.elapsed() > DRIVE_LIMIT {
            return Err(io::Error::other(format!("there is no {}", device.display())));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned());
    let queue = |name: &str| read(&format!("/sys/block/nvme0n1/queue/{name}"));
    if fs::read_to_string("/proc/cmdline")?.contains(LOOP) {
        let between = Loop::attach_with_blocks(device, queue("logical_block_size")?.parse().map_err(io::Error::other)?);
        between.bypass_cache()?;
        mount(&between.path, data, "ext4")?;
    } else {
        mount(device, data, "ext4")?;
    }
    let queues = fs::read_dir("/sys/block/nvme0n1/mq")?.count();
    Ok(format!(
        "Linux {}, nvme with sectors of {} bytes, {queues} queues, polling {}, {}",
        read("/proc/sys/kernel/osrelease")?,
        queue("logical_block_size")?,
        queue("io_poll")?,
        queue("write_cache")?
    ))
}

fn load_modules() -> io::Result<()> {
    for module in fs::read_dir("/modules")? {
        let module = module?.path();
        let file = File::open(&module)?;
        // SAFETY: a terminated string without parameters.
        if unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) } != 0 {
            return Err(io::Error::other(format!("{}: {}", module.display(), io::Error::last_os_error())));
        }
    }
    Ok(())
}

/// Writes everything back and ends the machine: qemu exits where a machine would reboot.
pub(super) fn power_off() {
    let data = CString::from(c"/data");
    // SAFETY: no arguments.
    unsafe { libc::sync() };
    // SAFETY: a terminated string. If the file system is still in use, its journal covers that.
    unsafe { libc::umount2(data.as_ptr(), 0) };
    // SAFETY: no pointers.
    unsafe { libc::reboot(libc::RB_AUTOBOOT) };
}
