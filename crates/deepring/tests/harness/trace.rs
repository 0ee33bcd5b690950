//! Which operations the kernel hands to worker threads, as the kernel itself reports: the
//! tracepoint `io_uring:io_uring_queue_async_work`, in a separate tracefs instance, for the threads
//! of one test.

use super::disk::mount;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Instances are named after the process that made them, so that a leftover one can be recognized.
const PREFIX: &str = "deepring-";

/// Records the thread that made it and all threads that it starts from then on.
pub(crate) struct Trace {
    instance: PathBuf,
}

/// One operation that went to a worker thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Punt {
    /// It runs one after the other with all others of its file.
    pub(crate) hashed: bool,
}

impl Trace {
    /// Mounts tracefs at `at`, which only this test sees. `None` if the kernel lacks what this
    /// needs.
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

    /// The operations handed to worker threads since the last call.
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
        // Removing an instance frees everything it holds.
        let _ = fs::remove_dir(&self.instance);
    }
}

/// Instances belong to the kernel and outlive a process that was killed.
fn remove_orphans(instances: &Path) {
    let Ok(entries) = fs::read_dir(instances) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            // Another process can be removing them too.
            let _ = fs::remove_dir(entry.path());
        }
    }
}
