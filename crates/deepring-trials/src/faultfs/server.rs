//! The server: a FUSE file system that does what it is asked, unless a fault says otherwise.
//!
//! It runs in a separate process (`src/bin/faultfs.rs`), so that it can be killed with requests in
//! flight. Several threads serve. A stalled request waits on a separate thread, so that the others
//! proceed. The kernel caches no attributes and no names, so it reports the current state to the
//! engine.

use super::fault::{Call, Faults, Verdict};
use super::tree::Tree;
use fuser::{
    BsdFileFlags, Config, Errno, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, KernelConfig, LockOwner, MountOption,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request,
    Session, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// Serving threads: as many as the kernel's workers bring requests, and some more.
const THREADS: usize = 6;

/// Nothing is cached.
const FRESH: Duration = Duration::ZERO;

struct Server {
    tree: Mutex<Tree>,
    faults: Arc<Faults>,
    /// Every file bypasses the page cache, however it was opened.
    direct: bool,
}

/// Mounts at `mountpoint` and serves, with content kept in `backing`, until standard input ends.
/// Reads commands from there, one a line, and answers each with a line: a fault (see
/// [`super::Fault`]), `clear`, or `triggered`.
///
/// # Errors
/// It cannot be mounted.
pub fn serve(mountpoint: &Path, backing: PathBuf, direct: bool) -> io::Result<()> {
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
    let faults = Arc::new(Faults::new(seed));
    let server = Server { tree: Mutex::new(Tree::new(backing)), faults: Arc::clone(&faults), direct };
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("faultfs".into()), MountOption::DefaultPermissions];
    config.acl = fuser::SessionACL::All;
    config.n_threads = Some(THREADS);
    let session = Session::new(server, mountpoint, &config)?;
    std::thread::Builder::new().name("faultfs".into()).spawn(move || session.run())?;
    let mut answers = io::stdout();
    writeln!(answers, "mounted")?;
    for line in io::stdin().lock().lines() {
        match line?.trim() {
            "clear" => {
                faults.clear();
                writeln!(answers, "ok")?;
            }
            "triggered" => writeln!(answers, "{}", faults.triggered())?,
            fault => match fault.parse() {
                Ok(fault) => {
                    faults.add(fault);
                    writeln!(answers, "ok")?;
                }
                Err(why) => writeln!(answers, "{why}")?,
            },
        }
    }
    super::unmount(mountpoint);
    Ok(())
}

impl Server {
    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_flags(&self) -> FopenFlags {
        if self.direct { FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES } else { FopenFlags::empty() }
    }
}

/// Runs `job` now, or after a stall on a separate thread.
fn when(verdict: Verdict, job: impl FnOnce() + Send + 'static) {
    let Some(time) = verdict.stall else { return job() };
    let stalled = move || {
        std::thread::sleep(time);
        job();
    };
    // Without a thread the request gets no answer until the server ends, which is a fault, too.
    drop(std::thread::Builder::new().spawn(stalled));
}

fn check(done: libc::c_int) -> Result<(), Errno> {
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error().into()) }
}

/// The verdict on a transfer of a file that was opened with these flags.
fn with_flags(verdict: Verdict, flags: OpenFlags) -> Verdict {
    let refused = verdict.unaligned && flags.0 & libc::O_DIRECT != 0;
    Verdict { errno: verdict.errno.or(refused.then_some(libc::EINVAL)), ..verdict }
}

fn verdict_of(verdict: Verdict) -> Result<(), Errno> {
    verdict.errno.map_or(Ok(()), |errno| Err(Errno::from_i32(errno)))
}

/// Reads until `len` bytes are there or the file ends.
fn read(file: &File, position: u64, len: usize) -> Result<Vec<u8>, Errno> {
    let mut content = vec![0; len];
    let mut done = 0;
    while done < len {
        match file.read_at(&mut content[done..], position + done as u64)? {
            0 => break,
            moved => done += moved,
        }
    }
    content.truncate(done);
    Ok(content)
}

impl Filesystem for Server {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // More than any trial has in flight; the kernel lowers it if it is too much.
        let _ = config.set_max_background(256);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut tree = self.tree();
        match tree.look_up(parent.0, name).and_then(|number| tree.attributes(number)) {
            Ok(attributes) => reply.entry(&FRESH, &attributes, Generation(0)),
            Err(errno) => reply.error(errno),
        }
    }

    fn forget(&self, _: &Request, number: INodeNo, times: u64) {
        self.tree().forget(number.0, times);
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.tree().reported(number.0) {
            Ok(attributes) => reply.attr(&FRESH, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut tree = self.tree();
        let change = || {
            if let Some(mode) = mode {
                tree.set_permissions(number.0, mode)?;
            }
            if let Some(size) = size {
                verdict_of(self.faults.judge(Call::Truncate, size, 0, false))?;
                tree.file(number.0)?.set_len(size)?;
            }
            tree.reported(number.0)
        };
        match { change }() {
            Ok(attributes) => reply.attr(&FRESH, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, mask: u32, reply: ReplyEntry) {
        let mut tree = self.tree();
        let owner = (request.uid(), request.gid());
        let created = tree.create(parent.0, name, FileType::Directory, mode & !mask, owner);
        match created.and_then(|number| tree.attributes(number)) {
            Ok(attributes) => reply.entry(&FRESH, &attributes, Generation(0)),
            Err(errno) => reply.error(errno),
        }
    }

    fn create(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, mask: u32, _: i32, reply: ReplyCreate) {
        let mut tree = self.tree();
        let owner = (request.uid(), request.gid());
        let created = tree.create(parent.0, name, FileType::RegularFile, mode & !mask, owner);
        match created.and_then(|number| tree.attributes(number)) {
            Ok(attributes) => reply.created(&FRESH, &attributes, Generation(0), FileHandle(0), self.open_flags()),
            Err(errno) => reply.error(errno),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(self.tree().remove(parent.0, name, false), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(self.tree().remove(parent.0, name, true), reply);
    }

    fn rename(&self, _: &Request, from: INodeNo, name: &OsStr, to: INodeNo, new_name: &OsStr, flags: RenameFlags, reply: ReplyEmpty) {
        if !RenameFlags::RENAME_NOREPLACE.contains(flags) {
            return reply.error(Errno::EINVAL);
        }
        answer(self.tree().rename((from.0, name), (to.0, new_name), flags.is_empty()), reply);
    }

    fn readdir(&self, _: &Request, number: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        match self.tree().list(number.0) {
            Ok(entries) => {
                for (index, (number, kind, name)) in entries.into_iter().enumerate().skip(offset as usize) {
                    if reply.add(INodeNo(number), index as u64 + 1, kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), self.open_flags());
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        position: u64,
        len: u32,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let verdict = with_flags(self.faults.judge(Call::Read, position, len.into(), self.direct), flags);
        let file = self.tree().file(number.0);
        when(verdict, move || {
            let len = verdict.short.unwrap_or(len) as usize;
            match verdict_of(verdict).and(file).and_then(|file| read(&file, position, len)) {
                Ok(content) => reply.data(&content),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        position: u64,
        content: &[u8],
        _: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let verdict = with_flags(self.faults.judge(Call::Write, position, content.len() as u64, self.direct), flags);
        let file = self.tree().file(number.0);
        let len = verdict.short.unwrap_or(content.len() as u32);
        let content = content[..len as usize].to_vec();
        when(verdict, move || match verdict_of(verdict).and(file).and_then(|file| Ok(file.write_all_at(&content, position)?)) {
            Ok(()) => reply.written(len),
            Err(errno) => reply.error(errno),
        });
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        let verdict = self.faults.judge(Call::Close, 0, 0, false);
        when(verdict, move || answer(verdict_of(verdict), reply));
    }

    fn fsync(&self, _: &Request, number: INodeNo, _: FileHandle, data_only: bool, reply: ReplyEmpty) {
        let verdict = self.faults.judge(Call::Sync, 0, 0, false);
        let file = self.tree().file(number.0);
        when(verdict, move || {
            let sync = |file: Arc<File>| if data_only { file.sync_data() } else { file.sync_all() };
            answer(verdict_of(verdict).and(file).and_then(|file| Ok(sync(file)?)), reply);
        });
    }

    fn fsyncdir(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        // Names are in memory.
        let verdict = self.faults.judge(Call::SyncDirectory, number.0, 1, false);
        when(verdict, move || answer(verdict_of(verdict), reply));
    }

    fn fallocate(&self, _: &Request, number: INodeNo, _: FileHandle, position: u64, len: u64, mode: i32, reply: ReplyEmpty) {
        let verdict = self.faults.judge(Call::Allocate, position, len, false);
        let file = self.tree().file(number.0);
        when(verdict, move || {
            // SAFETY: no pointers.
            let allocate = |file: Arc<File>| check(unsafe { libc::fallocate(file.as_raw_fd(), mode, position as i64, len as i64) });
            answer(verdict_of(verdict).and(file).and_then(allocate), reply);
        });
    }
}

fn answer(result: Result<(), Errno>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

/// Detaches the file system from where it is mounted. Its users get errors.
pub(super) fn detach(mountpoint: &Path) -> bool {
    let Ok(path) = std::ffi::CString::new(mountpoint.as_os_str().as_bytes()) else { return false };
    // SAFETY: a terminated string.
    unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) == 0 }
}
