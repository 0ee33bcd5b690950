//! The simulated kernel: which calls fail, and how files and devices look.
//!
//! Files are real, on any file system that the campaign was given. Their device, their alignment
//! and `O_DIRECT` are invented here. While a job is inside a call, the devices go on working.

use super::ranges::Owner;
use super::world::{Descriptor, World, bit, with};
use crate::memory::pool::Observer;
use crate::sys::Errno;
use crate::sys::device::Queue;
use crate::sys::fault::{self, Call, Interposer};
use crate::sys::space::{Extent, Room};
use crate::sys::stat::DeviceNumber;
use std::ops::Range;
use std::os::fd::RawFd;
use std::time::Duration;

/// The major number of simulated devices, which no kernel assigns. The minor number encodes the
/// queue.
const MAJOR: u32 = 0x7eed;
/// Each copy of the engine sees a file on a device of its own, and so as a file of its own.
const COPY_DEVICES: u32 = 16;

/// Takes the kernel's place; installed by the campaign.
pub(super) struct Kernel;

impl Interposer for Kernel {
    fn refusal(&self, call: Call, fd: RawFd) -> Option<Errno> {
        with(|world| world.refusal(call, fd)).flatten()
    }

    fn describe(&self, fd: RawFd, stat: &mut libc::statx) {
        with(|world| world.describe(fd, stat));
    }

    fn set_direct(&self, fd: RawFd, direct: bool) {
        with(|world| {
            if let Some(descriptor) = world.descriptors.get_mut(&fd) {
                descriptor.direct = direct;
                descriptor.was_direct |= direct;
            }
        });
    }

    fn queue(&self, major: u32, minor: u32) -> Option<Queue> {
        let queue = || Queue {
            name: format!("sim{}", minor >> 16),
            number: DeviceNumber { major, minor },
            requests: minor & 0x3ff,
            request_bytes: 1 << ((minor >> 10) & 0x3f),
            logical_block: 512,
        };
        (major == MAJOR).then(queue)
    }

    fn room(&self, fd: RawFd) -> Option<Room> {
        with(|world| world.room(fd))
    }

    fn extents(&self, fd: RawFd, start: u64, end: u64) -> Option<Vec<Extent>> {
        with(|world| world.extents(fd, start, end))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(with(|world| world.now_ns).unwrap_or(0))
    }

    fn pins(&self) -> bool {
        with(|world| world.profile.pins).unwrap_or(true)
    }

    fn populate(&self, range: &Range<u64>) -> bool {
        with(|world| world.populate(range)).unwrap_or(true)
    }

    fn touch(&self, range: &Range<u64>) {
        with(|world| world.touch(range));
    }

    fn resident(&self, range: &Range<u64>) -> Vec<(Range<u64>, bool)> {
        with(|world| world.residence(range)).unwrap_or_default()
    }
}

impl World {
    /// Whether this is the fate of the files on the device that is stuck.
    pub(super) fn is_fate_stuck(&self, fate: u64) -> bool {
        // As in `describe`.
        let (major, device) = ((fate >> 32) as u32, (fate as u32) >> 16);
        major == MAJOR && self.devices.stuck == Some(device)
    }
}

impl Observer for Kernel {
    fn lent(&self, address: u64, bytes: u64) {
        with(|world| world.ranges.lend(address, bytes, Owner::Bounce));
    }

    fn returned(&self, address: u64, bytes: u64) {
        with(|world| {
            world.ranges.give_back(address);
            if world.devices.holds(address, bytes) || world.devices.has_lost(address, bytes) {
                world.violate("a bounce block went back to its pool while the device can still touch it");
            }
        });
    }
}

impl World {
    fn refusal(&mut self, call: Call, fd: RawFd) -> Option<Errno> {
        if call == Call::Lock {
            return self.refuse_lock();
        }
        if !self.injecting {
            if call == Call::Close {
                self.closed(fd);
            }
            return None;
        }
        // The devices go on working while a blocking thread is in its call.
        if self.rng.one_in(2) {
            let until_ns = self.now_ns + self.rng.about(self.profile.latency_ns);
            self.advance(until_ns);
        }
        let inode = self.descriptor(fd).map(|descriptor| descriptor.inode);
        let refusal = self.draw_refusal(call, fd, inode);
        if let Some(errno) = refusal {
            self.note(|| format!("{call:?} on {fd} (inode {inode:?}) is refused with {errno}"));
            match inode {
                Some(inode) => self.inject(inode, errno),
                None => self.injected_anywhere |= bit(errno),
            }
        } else {
            self.note(|| format!("{call:?} on {fd} (inode {inode:?})"));
        }
        refusal
    }

    fn refuse_lock(&mut self) -> Option<Errno> {
        let busy = self.profile.lock_busy;
        (self.injecting && busy > 0 && self.rng.chance(busy)).then_some(libc::EAGAIN)
    }

    fn draw_refusal(&mut self, call: Call, fd: RawFd, inode: Option<u64>) -> Option<Errno> {
        let p = self.profile.clone();
        match call {
            Call::Open => self.rng.chance(p.open_fails).then(|| self.rng.pick(&[libc::EMFILE, libc::EIO, libc::EACCES])),
            Call::Close => {
                self.closed(fd);
                self.rng.chance(p.close_fails).then_some(libc::EIO)
            }
            Call::Statx | Call::Truncate => {
                let chance = if call == Call::Statx { p.statx_fails } else { p.truncate_fails };
                let refused = self.rng.chance(chance);
                if let (true, Some(inode)) = (refused, inode) {
                    self.facts(inode).untrimmed = true;
                }
                refused.then_some(libc::EIO)
            }
            Call::Allocate { .. } if p.allocate_unsupported => Some(libc::EOPNOTSUPP),
            Call::Allocate { start, end } => {
                self.check_reservation(fd, inode, start);
                let refused = self.rng.chance(p.allocate_fails);
                if refused && self.rng.one_in(2) {
                    self.grow(fd, end);
                }
                refused.then_some(libc::ENOSPC)
            }
            // Decided before.
            Call::Lock => None,
            Call::Sync => self.rng.chance(p.sync_fails).then(|| self.rng.pick(&[libc::EIO, libc::ENOSPC])),
        }
    }

    /// Space is reserved from the end of the file on, never inside it, where it could not be given back.
    fn check_reservation(&mut self, fd: RawFd, inode: Option<u64>, start: u64) {
        let Some(inode) = inode.and_then(|inode| self.facts(inode).inode.upgrade()) else { return };
        // What a copy measured while the other had padded the file is not the old end.
        let promised = if inode.is_in_doubt() { 0 } else { inode.size() };
        let old_end = promised.min(size_on_disk(fd));
        if start < old_end - old_end % 4096 {
            self.violate(format!("space was reserved from {start} on in a file of {old_end} bytes"));
        }
    }

    fn room(&mut self, fd: RawFd) -> Room {
        let is_full = self.injecting && self.rng.chance(self.profile.allocate_fails);
        let available = if is_full { self.rng.below(16) * 4096 } else { 1 << 29 };
        self.note(|| format!("{available} bytes are available to {fd}"));
        Room { available, block: 4096, shares: false }
    }

    /// All of the range has space, or nothing. A write that lacks it is refused.
    fn extents(&mut self, fd: RawFd, start: u64, end: u64) -> Vec<Extent> {
        let inode = self.descriptor(fd).map(|descriptor| descriptor.inode);
        let lacks = self.injecting && self.rng.one_in(2);
        match inode {
            Some(inode) if lacks => self.inject(inode, libc::ENOSPC),
            _ if lacks => self.injected_anywhere |= bit(libc::ENOSPC),
            _ => return vec![Extent { start, end, shared: false }],
        }
        Vec::new()
    }

    /// What an `fallocate` that runs out of space leaves behind: part of the requested range.
    fn grow(&mut self, fd: RawFd, end: u64) {
        let size = size_on_disk(fd);
        if size < end {
            let grown = self.rng.between(size, end);
            fault::resize(fd, grown);
        }
    }

    fn closed(&mut self, fd: RawFd) {
        if let Some(descriptor) = self.descriptors.remove(&fd)
            && self.devices.uses(descriptor.opening)
        {
            self.violate(format!("the descriptor {fd} was closed while operations on it were in flight"));
        }
    }

    fn describe(&mut self, fd: RawFd, stat: &mut libc::statx) {
        let inode = stat.stx_ino;
        let known = self.descriptors.get(&fd).is_some_and(|descriptor| descriptor.inode == inode);
        if !known {
            self.openings += 1;
            self.descriptors.insert(fd, Descriptor { opening: self.openings, inode, direct: false, was_direct: false });
        }
        let (requests, request_bytes) = (self.profile.device_requests, self.profile.request_bytes);
        stat.stx_mask |= libc::STATX_MNT_ID;
        stat.stx_mnt_id = self.mount;
        if self.profile.twins {
            // One number for all files of this run, and another one for each run that plays beside it.
            stat.stx_ino = u64::MAX - self.mount;
            stat.stx_btime.tv_sec = 0;
            stat.stx_btime.tv_nsec = 0;
        }
        let copy = self.copy;
        let facts = self.facts(inode);
        stat.stx_dev_major = MAJOR;
        let device = facts.device + copy * COPY_DEVICES;
        stat.stx_dev_minor = device << 16 | request_bytes.ilog2() << 10 | requests;
        stat.stx_blocks = if facts.has_holes { 0 } else { u64::MAX / 512 };
        stat.stx_mask |= libc::STATX_DIOALIGN;
        stat.stx_dio_offset_align = facts.offset_alignment;
        stat.stx_dio_mem_align = facts.memory_alignment;
    }
}

/// The size of an open file, past the engine.
pub(super) fn size_on_disk(fd: RawFd) -> u64 {
    std::fs::metadata(format!("/proc/self/fd/{fd}")).map_or(u64::MAX, |metadata| metadata.len())
}
