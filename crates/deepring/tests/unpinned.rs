//! Where direct I/O does not pin its pages (before Linux 6.5, and on some network file systems), a
//! read goes direct only to whole pages of memory. On any kernel, these tests run as if there
//! were no pins: those of exact transfers and of forks again, and what is copied.

#![allow(clippy::duplicate_mod, reason = "each of the test files brings the harness along")]

mod harness;

#[path = "exact.rs"]
mod exact;
#[path = "forked.rs"]
mod forked;

use deepring::{Direct, Receipt};
use harness::{Slice, assert_same, bytes, directory, engines, is_direct, open};

const LEN: usize = 8 << 20;
const PAGE: u64 = 4096;

/// Whether a program can have memory on huge pages of a pool: then all counts as such.
fn has_huge_pools() -> bool {
    let pools = std::fs::read_dir("/sys/kernel/mm/hugepages").expect("the pools").flatten();
    let mut counts = pools.flat_map(|pool| ["nr_hugepages", "nr_overcommit_hugepages"].map(|name| pool.path().join(name)));
    counts.any(|count| std::fs::read_to_string(count).is_ok_and(|text| text.trim() != "0"))
}

#[test]
fn without_pins_a_read_copies_the_pages_that_it_shares_and_no_other() {
    let place = directory();
    if !is_direct(place.path()) || has_huge_pools() {
        // It cannot be seen here.
        return;
    }
    let path = place.path().join("file");
    std::fs::write(&path, bytes(0, LEN, 1)).expect("the file");
    for engine in engines() {
        let file = open(&engine, &path, Direct::Prefer);
        let alignment = file.direct_support().memory_alignment as usize;
        let read = |offset: usize, len: usize| -> Receipt {
            let (buf, receipt) = file.read_exact_at(Slice::new(len, offset, 0), 0).wait().ok().expect("a read");
            assert!(buf.is_guarded());
            assert_same(buf.content(), &bytes(0, len, 1), "read without pins");
            assert!(receipt.direct);
            receipt
        };
        assert_eq!(read(0, LEN).bounced, 0, "whole pages");
        assert_eq!(read(0, LEN - 512).bounced, PAGE - 512, "the end of a page");
        if 512 % alignment == 0 {
            assert_eq!(read(512, LEN).bounced, PAGE, "a shared page at either end");
            assert_eq!(read(512, LEN - 512).bounced, PAGE - 512, "a shared page in front");
        }
        let (_, receipt) = file.write_at(Slice::of(&bytes(0, LEN, 1), 2048), 0).wait().ok().expect("a write");
        assert_eq!(receipt.bounced, LEN as u64, "a write from memory that is not on a page");
    }
}

#[test]
fn without_pins_engine_memory_is_read_into_as_ever() {
    let place = directory();
    if !is_direct(place.path()) {
        return;
    }
    let path = place.path().join("file");
    std::fs::write(&path, bytes(0, LEN, 1)).expect("the file");
    for engine in engines() {
        let file = open(&engine, &path, Direct::Prefer);
        let alignment = file.direct_support().memory_alignment as usize;
        let mut memory = engine.buffer(2 * LEN).expect("memory");
        let part = memory.split_off(if 512 % alignment == 0 { 512 } else { PAGE as usize });
        let (_, receipt) = file.read_at(part, 0).wait().ok().expect("a read");
        assert_eq!((receipt.bytes, receipt.bounced), (LEN as u64, 0));
        drop(memory);
    }
}
