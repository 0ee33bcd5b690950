//! The memory that the device is allowed to touch. A request lends its range from submission until
//! it settles; the pool lends bounce blocks. What a lost ring still holds stays lent for ever.

use std::collections::BTreeMap;

/// Why the device may touch a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The unsettled request with this number.
    Request(u64),
    Bounce,
    /// It belonged to a request or a bounce block that a lost ring still held.
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

    /// The range that contains this address stays lent for ever.
    pub(crate) fn leak(&mut self, address: u64) {
        if let Some((_, (end, owner))) = self.lent.range_mut(..=address).next_back()
            && address < *end
        {
            *owner = Owner::Leaked;
        }
    }

    /// Whether a request, or a lost ring, has some of the range.
    pub(crate) fn is_owned(&self, address: u64, len: u64) -> bool {
        self.lent.range(..address + len).next_back().is_some_and(|(_, &(end, _))| address < end)
    }

    /// The owner of the whole range; `None` if it is not lent, or not all of it by one owner.
    pub(crate) fn owner(&self, address: u64, len: u64) -> Option<Owner> {
        let (_, &(end, owner)) = self.lent.range(..=address).next_back()?;
        (address + len <= end).then_some(owner)
    }
}
