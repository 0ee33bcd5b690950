//! The text of sysfs, in three lines: `nr_requests`, `max_sectors_kb`, `logical_block_size`.

use crate::sys::device::{LOGICAL_BLOCK_MAX, Queue};

pub(super) fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.splitn(3, '\n');
    let [requests, request_kib, logical_block] = [(); 3].map(|()| lines.next().unwrap_or_default());
    let Some(queue) = Queue::parse("disk", requests, request_kib, logical_block) else { return };
    assert!(queue.requests > 0 && queue.request_bytes >= 1024, "{queue:?}");
    assert!(queue.logical_block.is_power_of_two() && queue.logical_block <= LOGICAL_BLOCK_MAX, "{queue:?}");
    // The parsed numbers are those of the text.
    let number = |text: &str| text.trim().parse::<u128>().unwrap_or(u128::MAX);
    assert_eq!(u128::from(queue.requests), number(requests).min(u32::MAX.into()));
    assert_eq!(u128::from(queue.request_bytes), (number(request_kib) * 1024).min(u64::MAX.into()));
    assert_eq!(u128::from(queue.logical_block), number(logical_block));
}
