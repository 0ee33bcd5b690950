//! Limits belong to the queue behind a file, not to a device number.

use crate::harness::disk::{other_disk, with_mounts};
use crate::harness::{backends, bytes, open, skip};
use deepring::{Direct, Engine};
use std::process::Command;

#[test]
fn the_subvolumes_of_a_disk_share_its_limit_and_its_name() {
    const LIMIT: u64 = 8 << 20;
    with_mounts(|place| {
        let Some(disk) = other_disk("btrfs", place) else { return skip("mkfs.btrfs is missing") };
        let volumes = [0, 1, 2, 3].map(|index| disk.join(format!("volume-{index}")));
        for volume in &volumes {
            let made = Command::new("btrfs").args(["-q", "subvolume", "create"]).arg(volume).status();
            assert!(made.is_ok_and(|status| status.success()), "btrfs subvolume create");
        }
        for backend in backends() {
            let engine = Engine::builder().backend(backend).in_flight_bytes(LIMIT).block_bytes(1 << 20).build().expect("an engine");
            let names = volumes.each_ref().map(|volume| engine.path_info(volume).expect("info").device);
            assert!(names[0].starts_with("loop") && names.iter().all(|name| *name == names[0]), "{names:?}");
            let files = volumes.each_ref().map(|volume| open(&engine, &volume.join("file"), Direct::Prefer));
            let ops: Vec<_> = files.iter().map(|file| file.write_at(bytes(0, 16 << 20, 1), 0)).collect();
            for op in ops {
                op.wait().result.expect("a write");
            }
            let most = engine.stats().in_flight_bytes_max;
            assert!(most <= LIMIT, "{most} bytes in flight on one disk, {LIMIT} are allowed");
        }
    });
}
