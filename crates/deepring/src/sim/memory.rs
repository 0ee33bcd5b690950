//! Whose memory is whose: every range that the device may touch is registered here, and nothing else may be touched.
//!
//! A range is lent when a request is submitted and given back when it settles; bounce blocks are lent by the pool. What a lost ring still
//! holds stays lent for ever.

use super::world;
use crate::buffer::{IoBuf, IoBufMut};
use std::collections::BTreeMap;

/// Who vouches for a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The unsettled request with this number.
    Request(u64),
    Bounce,
    /// A request or a bounce block that a lost ring still had.
    Leaked,
}

#[derive(Debug, Default)]
pub(crate) struct Ranges {
    lent: BTreeMap<u64, (u64, Owner)>,
}

impl Ranges {
    pub(crate) fn lend(&mut self, address: u64, len: u64, owner: Owner) {
        if len > 0 {
            self.lent.insert(address, (address + len, owner));
        }
    }

    pub(crate) fn give_back(&mut self, address: u64) {
        self.lent.remove(&address);
    }

    /// The range that this address lies in stays lent for ever.
    pub(crate) fn leak(&mut self, address: u64) {
        if let Some((_, (end, owner))) = self.lent.range_mut(..=address).next_back()
            && address < *end
        {
            *owner = Owner::Leaked;
        }
    }

    /// Who has lent the whole range, if anybody has.
    pub(crate) fn owner(&self, address: u64, len: u64) -> Option<Owner> {
        let (_, &(end, owner)) = self.lent.range(..=address).next_back()?;
        (address + len <= end).then_some(owner)
    }
}

/// What lies before and behind the bytes of a [`Parcel`].
const GUARD: u8 = 0xa6;
const GUARD_BYTES: usize = 64;
/// What is in a parcel before it is read into: even, so that it is nobody's content.
pub(crate) const STALE: u8 = 0xee;

/// A buffer that knows when it is freed, begins at any address, and has a guard on both sides.
#[derive(Debug)]
pub(crate) struct Parcel {
    space: Vec<u8>,
    start: usize,
    len: usize,
    id: u64,
}

impl Parcel {
    /// `len` bytes at an address that is `offset` more than a multiple of 4096, for the request `id`.
    pub(crate) fn new(id: u64, len: usize, offset: usize) -> Self {
        let mut space = vec![STALE; len + 4096 + offset + 2 * GUARD_BYTES];
        let first = space.as_ptr() as usize + GUARD_BYTES;
        let start = first.next_multiple_of(4096) + offset - space.as_ptr() as usize;
        space[start - GUARD_BYTES..start].fill(GUARD);
        space[start + len..start + len + GUARD_BYTES].fill(GUARD);
        world::with(|world| world.parcels += 1);
        Self { space, start, len, id }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.space[self.start..self.start + self.len]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.space[self.start..self.start + self.len]
    }

    pub(crate) fn address(&self) -> u64 {
        self.space.as_ptr() as u64 + self.start as u64
    }

    /// Whether the bytes on both sides are as they were.
    pub(crate) fn is_intact(&self) -> bool {
        let before = &self.space[self.start - GUARD_BYTES..self.start];
        let after = &self.space[self.start + self.len..self.start + self.len + GUARD_BYTES];
        before.iter().chain(after).all(|&byte| byte == GUARD)
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        let (id, address, len, intact) = (self.id, self.address(), self.len as u64, self.is_intact());
        world::with(|world| world.parcel_freed(id, address, len, intact));
    }
}

// SAFETY: the vector is never resized, and its heap block stays in place when the value is moved.
unsafe impl IoBuf for Parcel {
    fn as_ptr(&self) -> *const u8 {
        self.bytes().as_ptr()
    }
    fn len(&self) -> usize {
        self.len
    }
}

// SAFETY: the parcel owns its vector.
unsafe impl IoBufMut for Parcel {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.bytes_mut().as_mut_ptr()
    }
}
