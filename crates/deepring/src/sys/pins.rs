//! What `/proc` and `/sys` tell about pinned pages and about the size of pages.

use std::fs;

/// Pages that the kernel has pinned since it was started (`FOLL_PIN`), over all processes. Each
/// processor keeps up to 125 to itself before it adds them. `None` before Linux 5.7, or without
/// `/proc`.
pub(crate) fn pinned_pages() -> Option<u64> {
    let text = fs::read_to_string("/proc/vmstat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("nr_foll_pin_acquired "))?.trim().parse().ok()
}

/// The size of an ordinary page of this machine.
pub(crate) fn page_bytes() -> u64 {
    // SAFETY: no pointers.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes).ok().filter(|bytes| bytes.is_power_of_two()).unwrap_or(4096)
}

/// The largest page that a program can have mapped from a pool of huge pages (hugetlb); `None` if
/// all pools are empty.
pub(crate) fn hugetlb_page_bytes() -> Option<u64> {
    let pools = fs::read_dir("/sys/kernel/mm/hugepages").ok()?;
    let sizes = pools.flatten().filter_map(|pool| {
        let name = pool.file_name();
        let kib: u64 = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let count = |file: &str| fs::read_to_string(pool.path().join(file)).ok().and_then(|text| text.trim().parse::<u64>().ok());
        let is_empty = [count("nr_hugepages"), count("nr_overcommit_hugepages")].iter().all(|count| *count == Some(0));
        (!is_empty).then_some(kib << 10).filter(|bytes| bytes.is_power_of_two())
    });
    sizes.max()
}
