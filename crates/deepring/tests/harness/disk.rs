//! Disks made of files, for faults that no real disk shows on demand: a loop device with a file
//! system on it, mounted where only one test sees it.
//!
//! Nothing needs cleaning up. Mounts live in a mount namespace of the test's own thread and the
//! threads it starts, and loop devices detach themselves once nothing has them open. Both hold even
//! if the process is killed.

use super::skip;
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Why a test or a trial that needs root is skipped without it.
pub(crate) const NEEDS_ROOT: &str = "it needs root";

/// Runs a test that needs root, or reports that it is skipped.
pub(crate) fn as_root(body: impl FnOnce()) {
    if is_root() { body() } else { skip(NEEDS_ROOT) }
}

pub(crate) fn is_root() -> bool {
    // SAFETY: no arguments.
    unsafe { libc::geteuid() == 0 }
}

/// Runs a test that needs root and its own mounts, or reports that it is skipped. `body` gets an
/// empty directory to mount on.
pub(crate) fn with_mounts(body: impl FnOnce(&Path) + Send) {
    as_root(|| in_mount_namespace(body));
}

/// Runs `body`, as root, on a thread with a private mount namespace, which goes away with the
/// thread. `body` gets an empty directory to mount on.
pub(crate) fn in_mount_namespace(body: impl FnOnce(&Path) + Send) {
    let place = super::directory();
    // The thread keeps the test's name, so that `skip` finds it.
    let name = std::thread::current().name().map(str::to_owned);
    let ran = std::thread::scope(|scope| {
        let thread = name.into_iter().fold(std::thread::Builder::new(), std::thread::Builder::name);
        let thread = thread.spawn_scoped(scope, || {
            // SAFETY: no pointers; concerns this thread and those it starts.
            let unshared = unsafe { libc::unshare(libc::CLONE_NEWNS) };
            assert_eq!(unshared, 0, "unshare: {}", std::io::Error::last_os_error());
            // SAFETY: terminated strings; a change of propagation takes no source, type or data.
            let private = unsafe {
                libc::mount(std::ptr::null(), c"/".as_ptr(), std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE, std::ptr::null())
            };
            assert_eq!(private, 0, "mount --make-rprivate: {}", std::io::Error::last_os_error());
            body(place.path());
        });
        thread.expect("a thread").join()
    });
    if let Err(panic) = ran {
        std::panic::resume_unwind(panic);
    }
}

/// Mounts a device, or a file system without one.
pub(crate) fn mount(source: &Path, at: &Path, kind: &str, flags: libc::c_ulong, options: &str) {
    let terminated = |bytes: &[u8]| CString::new(bytes).expect("no NUL");
    let (source, target) = (terminated(source.as_os_str().as_bytes()), terminated(at.as_os_str().as_bytes()));
    let (kind, options) = (terminated(kind.as_bytes()), terminated(options.as_bytes()));
    std::fs::create_dir_all(at).expect("the mount point");
    // SAFETY: terminated strings that outlive the call.
    let mounted = unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast()) };
    assert_eq!(mounted, 0, "mount {} at {}: {}", kind.to_string_lossy(), at.display(), std::io::Error::last_os_error());
}

/// A tmpfs mounted at a directory. Dropping the value unmounts it and all mounts below it. For
/// programs that mount much: a namespace lives as long as any process on the machine refers to it.
#[derive(Debug)]
pub(crate) struct MountedMemory(PathBuf);

impl MountedMemory {
    pub(crate) fn at(directory: &Path) -> Self {
        mount(Path::new("none"), directory, "tmpfs", 0, "");
        Self(directory.to_path_buf())
    }
}

impl Drop for MountedMemory {
    fn drop(&mut self) {
        let Ok(target) = CString::new(self.0.as_os_str().as_bytes()) else { return };
        // SAFETY: a terminated string. It can fail only if it was unmounted elsewhere.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    }
}

/// Unmounts once the last file is closed: engines close files on their own threads.
pub(crate) fn unmount(at: &Path) {
    let path = CString::new(at.as_os_str().as_bytes()).expect("no NUL");
    super::eventually(std::time::Duration::from_secs(10), "unmounting", || {
        // SAFETY: a terminated string that outlives the call.
        unsafe { libc::umount2(path.as_ptr(), 0) == 0 }
    });
}

/// A file of `bytes` with an ext4 file system in it.
pub(crate) fn ext4_image(path: &Path, bytes: u64, options: &[&str]) {
    File::create(path).and_then(|file| file.set_len(bytes)).expect("an image");
    let made = Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).args(options).arg(path).output().expect("mkfs.ext4");
    assert!(made.status.success(), "mkfs.ext4: {}", String::from_utf8_lossy(&made.stderr));
}

/// A mounted file system of another kind, of 400 MiB that take no space until used. `None` if its
/// tools are missing.
pub(crate) fn other_disk(kind: &str, place: &Path) -> Option<PathBuf> {
    other_disk_with_blocks(kind, &[], 512, place)
}

/// As [`other_disk`], made with these options on a device with blocks of this many bytes, which
/// mkfs takes into account.
pub(crate) fn other_disk_with_blocks(kind: &str, options: &[&str], block_size: u32, place: &Path) -> Option<PathBuf> {
    let (image, at) = (place.join("image"), place.join(kind));
    File::create(&image).and_then(|file| file.set_len(400 << 20)).expect("an image");
    let device = Loop::attach_with_blocks(&image, block_size);
    let made = Command::new(format!("mkfs.{kind}")).arg("-q").args(options).arg(&device.path).output().ok()?;
    assert!(made.status.success(), "mkfs.{kind}: {}", String::from_utf8_lossy(&made.stderr));
    mount(&device.path, &at, kind, 0, "");
    Some(at)
}

/// An overlay whose layers, `lower` and `upper`, are directories of `disk`.
pub(crate) fn mount_overlay(disk: &Path, at: &Path) {
    let [lower, upper, work] = ["lower", "upper", "work"].map(|part| disk.join(part));
    for part in [&lower, &upper, &work] {
        std::fs::create_dir_all(part).expect("a directory");
    }
    mount(
        Path::new("none"),
        at,
        "overlay",
        0,
        &format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display()),
    );
}

/// A loop device. It detaches once this value is dropped and nothing else has the device open or
/// mounted.
#[derive(Debug)]
pub(crate) struct Loop {
    pub(crate) path: PathBuf,
    open: File,
}

/// `struct loop_info64` of `<linux/loop.h>`, of which only the flags matter here.
#[repr(C)]
struct LoopInfo {
    before: [u64; 5],
    middle: [u32; 3],
    flags: u32,
    after: [u8; 64 + 64 + 32 + 16],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopConfig>() == 304);

impl Loop {
    /// A device with blocks of 512 bytes.
    pub(crate) fn attach(backing: &Path) -> Self {
        Self::attach_with_blocks(backing, 512)
    }

    /// A device with blocks of this many bytes: no smaller direct transfer is accepted.
    pub(crate) fn attach_with_blocks(backing: &Path, block_size: u32) -> Self {
        const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;
        const LOOP_CONFIGURE: libc::Ioctl = 0x4c0a;
        const LO_FLAGS_AUTOCLEAR: u32 = 4;
        const ATTEMPTS: u32 = 200;
        let backing = OpenOptions::new().read(true).write(true).open(backing).expect("the backing file");
        let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control").expect("/dev/loop-control");
        for _ in 0..ATTEMPTS {
            // SAFETY: takes no argument.
            let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
            assert!(number >= 0, "no loop device is free: {}", std::io::Error::last_os_error());
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let open = OpenOptions::new().read(true).write(true).open(&path).expect("the loop device");
            let info = LoopInfo { before: [0; 5], middle: [0; 3], flags: LO_FLAGS_AUTOCLEAR, after: [0; 176] };
            let config = LoopConfig { fd: backing.as_raw_fd() as u32, block_size, info, reserved: [0; 8] };
            // SAFETY: the kernel reads a local struct of the layout it expects.
            if unsafe { libc::ioctl(open.as_raw_fd(), LOOP_CONFIGURE, &raw const config) } == 0 {
                return Self { path, open };
            }
            // Another process took it, or it is still being detached.
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("no loop device could be attached");
    }

    /// Makes the device use its backing file directly, as a device of the same size would.
    pub(crate) fn bypass_cache(&self) -> std::io::Result<()> {
        const LOOP_SET_DIRECT_IO: libc::Ioctl = 0x4c08;
        // SAFETY: takes a number.
        match unsafe { libc::ioctl(self.open.as_raw_fd(), LOOP_SET_DIRECT_IO, 1 as libc::c_ulong) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    }
}

/// Free bytes of the file system at `path`, after all pending writes are on disk.
pub(crate) fn free_bytes(path: &Path) -> u64 {
    let directory = File::open(path).expect("the mount point");
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::syncfs(directory.as_raw_fd()) }, 0);
    let mut out = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: fills a local struct.
    assert_eq!(unsafe { libc::fstatvfs(directory.as_raw_fd(), out.as_mut_ptr()) }, 0);
    // SAFETY: zeroed, then filled in; all fields are integers.
    let stat = unsafe { out.assume_init() };
    stat.f_bavail * stat.f_frsize
}

/// Drops the file's clean cached pages, so that the next read goes to the disk.
pub(crate) fn forget_pages(file: &File) {
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) }, 0);
}
