//! What the kernel hands to worker threads, as the kernel itself tells it: the tracepoint `io_uring:io_uring_queue_async_work`, in an instance
//! of tracefs of our own, for threads of our own.

use super::disk::mount;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// How an instance is called: with the process that made it, so that one that was left behind is known.
const PREFIX: &str = "deepring-";

/// Listens to the thread that made it and all that it starts from then on.
pub(crate) struct Trace {
    instance: PathBuf,
}

/// One operation that went to a worker thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Punt {
    /// One after the other with all others of its file.
    pub(crate) hashed: bool,
}

impl Trace {
    /// Mounts tracefs at `at`, which is to be seen by this test only; `None` where the kernel does not have what this needs.
    pub(crate) fn start(at: &Path) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !fs::read_to_string("/proc/filesystems").is_ok_and(|known| known.contains("\ttracefs\n")) {
            return None;
        }
        mount(Path::new("none"), at, "tracefs", 0, "");
        if !at.join("events/io_uring/io_uring_queue_async_work").is_dir() {
            return None;
        }
        let instances = at.join("instances");
        remove_orphans(&instances);
        let name = format!("{PREFIX}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let trace = Self { instance: instances.join(name) };
        fs::create_dir(&trace.instance).expect("an instance of tracefs");
        // SAFETY: no arguments.
        let own = unsafe { libc::gettid() };
        trace.set("options/event-fork", "1");
        trace.set("set_event_pid", &own.to_string());
        trace.set("events/io_uring/io_uring_queue_async_work/enable", "1");
        Some(trace)
    }

    /// What was handed to worker threads since the last look.
    pub(crate) fn take(&self) -> Vec<Punt> {
        let path = self.instance.join("trace");
        let text = fs::read_to_string(&path).expect("the trace");
        fs::write(&path, "").expect("an empty trace");
        let lines = text.lines().filter(|line| line.contains("io_uring_queue_async_work:"));
        lines.map(|line| Punt { hashed: line.contains("hashed queue") }).collect()
    }

    fn set(&self, name: &str, value: &str) {
        fs::write(self.instance.join(name), value).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // The kernel frees what an instance holds with it.
        let _ = fs::remove_dir(&self.instance);
    }
}

/// Instances are the kernel's, and outlive a process that was killed.
fn remove_orphans(instances: &Path) {
    let Ok(entries) = fs::read_dir(instances) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            // Somebody else may be as tidy.
            let _ = fs::remove_dir(entry.path());
        }
    }
}
