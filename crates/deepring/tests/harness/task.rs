//! What the kernel reports about this process's threads and memory.

use std::fs;
use std::path::Path;

/// One thread, as `/proc` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) cpu_ns: u64,
    /// How often the scheduler ran it.
    pub(crate) runs: u64,
}

/// All threads of this process, without those that end during the call.
pub(crate) fn all() -> Vec<Task> {
    let entries = fs::read_dir("/proc/self/task").expect("/proc");
    let mut tasks: Vec<Task> = entries.filter_map(|entry| look(&entry.ok()?.path())).collect();
    tasks.sort_by_key(|task| task.id);
    tasks
}

/// The engine's own threads.
pub(crate) fn ours() -> Vec<Task> {
    all().into_iter().filter(|task| task.name.starts_with("deepring")).collect()
}

fn look(path: &Path) -> Option<Task> {
    let read = |name: &str| fs::read_to_string(path.join(name)).ok();
    let id = path.file_name()?.to_str()?.parse().ok()?;
    let name = read("comm")?.trim().to_owned();
    let schedule = read("schedstat")?;
    let mut schedule = schedule.split_whitespace();
    let cpu_ns = schedule.next()?.parse().ok()?;
    let runs = schedule.nth(1)?.parse().ok()?;
    Some(Task { id, name, cpu_ns, runs })
}

/// A number from `/proc/self/status`, in the unit it has there.
fn status(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").expect("/proc");
    field(&text, name).expect("a field of /proc/self/status")
}

/// How much address space this process has in use, in bytes.
pub(crate) fn address_space() -> u64 {
    status("VmSize:") * 1024
}

/// This process's resident memory, in bytes. Resets the peak.
pub(crate) fn resident_and_new_peak() -> u64 {
    fs::write("/proc/self/clear_refs", "5").expect("/proc/self/clear_refs");
    status("VmRSS:") * 1024
}

/// This process's peak memory, in bytes, since the last reset.
pub(crate) fn peak() -> u64 {
    status("VmHWM:") * 1024
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Whether this process has the file open.
pub(crate) fn has_open(path: &Path) -> bool {
    let entries = fs::read_dir("/proc/self/fd").expect("/proc");
    entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).any(|link| link == path)
}

/// Descriptors this process has open.
pub(crate) fn descriptors() -> usize {
    // One of them is the directory itself.
    fs::read_dir("/proc/self/fd").expect("/proc").count() - 1
}
