//! A table of slots with generations.
//!
//! A key names a slot *and* its tenant. When a slot is reused its generation changes, so a
//! completion that arrives for a former tenant finds nothing rather than another request's memory.

use std::ops::{Index, IndexMut};

/// Names one tenant of one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key(u64);

impl Key {
    fn new(index: usize, generation: u32) -> Self {
        Self(u64::from(generation) << 32 | index as u64)
    }

    fn index(self) -> usize {
        (self.0 & u64::from(u32::MAX)) as usize
    }

    /// The key as the 64 bits that travel through the kernel.
    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }

    /// The inverse of [`Key::to_bits`].
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

struct Slot<T> {
    /// 31 bits: the top bit of a key is free for a tag of the backend.
    generation: u32,
    tenant: Option<T>,
}

pub(crate) struct Slots<T> {
    table: Vec<Slot<T>>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Slots<T> {
    pub(crate) fn new() -> Self {
        Self { table: Vec::new(), free: Vec::new(), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, tenant: T) -> Key {
        self.len += 1;
        if let Some(index) = self.free.pop() {
            let slot = &mut self.table[index as usize];
            debug_assert!(slot.tenant.is_none());
            slot.tenant = Some(tenant);
            return Key::new(index as usize, slot.generation);
        }
        self.table.push(Slot { generation: 1, tenant: Some(tenant) });
        Key::new(self.table.len() - 1, 1)
    }

    fn slot(&self, key: Key) -> Option<&Slot<T>> {
        self.table.get(key.index()).filter(|slot| Key::new(key.index(), slot.generation) == key)
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        self.slot(key)?.tenant.as_ref()
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.slot(key)?;
        self.table[key.index()].tenant.as_mut()
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        self.slot(key)?;
        let slot = &mut self.table[key.index()];
        let tenant = slot.tenant.take()?;
        slot.generation = (slot.generation + 1) & 0x7fff_ffff;
        self.free.push(key.index() as u32);
        self.len -= 1;
        Some(tenant)
    }

    /// As [`Slots::remove`], for a key whose tenant exists.
    ///
    /// # Panics
    /// If it does not, as an index does.
    #[track_caller]
    pub(crate) fn take(&mut self, key: Key) -> T {
        self.remove(key).unwrap_or_else(|| panic!("{key:?} names no tenant"))
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        let occupied = self.table.iter().enumerate().filter(|(_, slot)| slot.tenant.is_some());
        occupied.map(|(index, slot)| Key::new(index, slot.generation)).collect()
    }
}

/// For keys whose tenant exists.
impl<T> Index<Key> for Slots<T> {
    type Output = T;

    #[track_caller]
    fn index(&self, key: Key) -> &T {
        self.get(key).unwrap_or_else(|| panic!("{key:?} names no tenant"))
    }
}

impl<T> IndexMut<Key> for Slots<T> {
    #[track_caller]
    fn index_mut(&mut self, key: Key) -> &mut T {
        self.get_mut(key).unwrap_or_else(|| panic!("{key:?} names no tenant"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn a_stale_key_finds_nothing() {
        let mut slots = Slots::new();
        let first = slots.insert('a');
        assert_eq!(slots.remove(first), Some('a'));
        let second = slots.insert('b');
        assert_eq!((first.index(), slots.get(first)), (second.index(), None));
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get(second), Some(&'b'));
    }

    #[test]
    fn keys_survive_the_kernel_and_leave_the_top_bit_free() {
        let mut slots = Slots::new();
        let key = slots.insert(());
        assert_eq!(Key::from_bits(key.to_bits()), key);
        assert_eq!(key.to_bits() >> 63, 0);
    }

    proptest! {
        #[test]
        fn the_table_behaves_like_a_map(steps in proptest::collection::vec((any::<bool>(), any::<usize>()), 1..400)) {
            let mut slots = Slots::new();
            let mut model: HashMap<u64, usize> = HashMap::new();
            let mut gone = Vec::new();
            for (insert, value) in steps {
                if insert || model.is_empty() {
                    let key = slots.insert(value);
                    prop_assert!(model.insert(key.to_bits(), value).is_none());
                } else {
                    let mut keys: Vec<u64> = model.keys().copied().collect();
                    keys.sort_unstable();
                    let key = keys[value % keys.len()];
                    prop_assert_eq!(slots.remove(Key::from_bits(key)), model.remove(&key));
                    gone.push(key);
                }
                prop_assert_eq!(slots.len(), model.len());
                prop_assert!(gone.iter().all(|&key| slots.get(Key::from_bits(key)).is_none()));
                prop_assert_eq!(slots.keys().len(), model.len());
            }
        }
    }
}
