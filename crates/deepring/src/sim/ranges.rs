//! Whose memory is whose: every range that the device may touch is registered here, and nothing else may be touched.
//!
//! A range is lent when a request is submitted and given back when it settles; bounce blocks are lent by the pool. What a lost ring still
//! holds stays lent for ever.

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
