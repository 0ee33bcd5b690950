//! [`Geometry`]: where the parts of a group are, in its file and in memory.
//!
//! ```text
//!   memory   [ param | state | state | gradient ]         each part padded to 4096 bytes
//!   file     [ param | state | state | gradient ]         if nothing is durable
//!   file     [ param | state | state | gradient | param | state | state ]      if it is
//! ```
//!
//! A durable group has two slots for every part that is kept. The one that the last flush has is never written. Either slot
//! lies beside the gradient, so that all of a group lies together on the drive.

use super::options::Group;
use crate::error::{Error, Result, quoted};
use std::ops::Range;

/// What parts are padded to: whole units of every device, and pages of memory.
pub(super) const UNIT_BYTES: u64 = 4096;

/// The most bytes of all groups: positions stay exact in JavaScript.
const FILE_BYTES_MAX: u64 = 1 << 53;

/// The names of the parts that are no states.
pub(super) const PARAM: &str = "param";
pub(super) const GRADIENT: &str = "gradient";

/// One group.
#[derive(Debug)]
pub(super) struct Geometry {
    pub(super) group: Group,
    /// Of each part, the parameters first and the gradient last: where it is in the memory of the group, padded.
    pub(super) parts: Vec<Range<u64>>,
    /// Bytes of each part, without padding.
    pub(super) lens: Vec<u64>,
    /// Where the group begins in the file.
    base: u64,
}

impl Geometry {
    /// The groups one behind the other, and the bytes of their file.
    pub(super) fn all(groups: &[Group], durable: bool) -> Result<(Vec<Self>, u64)> {
        let mut all: Vec<Self> = Vec::with_capacity(groups.len());
        let mut end = 0;
        let mut names = std::collections::HashSet::new();
        for group in groups {
            let wrong = |what: &str| Error::Argument(format!("{what}, group {}", quoted(&group.name)));
            if !names.insert(&group.name) {
                return Err(wrong("the name is there twice"));
            }
            let geometry = Self::new(group, end).ok_or_else(|| wrong("its bytes cannot be counted, or its elements do not fill bytes"))?;
            geometry.check_names().map_err(|what| wrong(&what))?;
            end += geometry.bytes() + if durable { geometry.kept_bytes() } else { 0 };
            if end > FILE_BYTES_MAX {
                return Err(wrong("all groups have more than 2^53 bytes"));
            }
            all.push(geometry);
        }
        Ok((all, end))
    }

    /// `None` if its bytes cannot be counted.
    fn new(group: &Group, base: u64) -> Option<Self> {
        let kept = group.dtype.bytes_of(group.numel)?;
        let gradient = group.gradient.map(|dtype| dtype.bytes_of(group.numel).ok_or(())).transpose().ok()?;
        let lens: Vec<u64> = std::iter::repeat_n(kept, 1 + group.states.len()).chain(gradient).collect();
        let mut end = 0u64;
        let mut parts = Vec::with_capacity(lens.len());
        for len in &lens {
            let padded = len.checked_next_multiple_of(UNIT_BYTES)?;
            let start = end;
            end = end.checked_add(padded).filter(|end| *end <= FILE_BYTES_MAX)?;
            parts.push(start..end);
        }
        Some(Self { group: group.clone(), parts, lens, base })
    }

    fn check_names(&self) -> std::result::Result<(), String> {
        let states = &self.group.states;
        let twice = states.iter().enumerate().find(|(nth, name)| states[..*nth].contains(name));
        if let Some((_, name)) = twice {
            return Err(format!("the state {} is there twice", quoted(name)));
        }
        let taken = states.iter().find(|name| [PARAM, GRADIENT].contains(&name.as_str()));
        taken.map_or(Ok(()), |name| Err(format!("no state can have the name {}", quoted(name))))
    }

    /// Bytes of the group in memory.
    pub(super) fn bytes(&self) -> u64 {
        self.parts.last().map_or(0, |last| last.end)
    }

    /// How many parts are kept: all but the gradient.
    pub(super) fn kept(&self) -> usize {
        1 + self.group.states.len()
    }

    /// Their bytes.
    fn kept_bytes(&self) -> u64 {
        self.parts[self.kept() - 1].end
    }

    /// The index of the gradient, if the group has one.
    pub(super) fn gradient(&self) -> Option<usize> {
        self.group.gradient.map(|_| self.kept())
    }

    /// Where a part is in the file; the gradient has one slot.
    pub(super) fn position(&self, part: usize, slot: Slot) -> u64 {
        let base = if slot == Slot::Second { self.base + self.bytes() } else { self.base };
        base + self.parts[part].start
    }

    /// The names of all parts that are kept, in their order.
    pub(super) fn kept_names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(PARAM).chain(self.group.states.iter().map(String::as_str))
    }

    /// The index of the part with this name.
    pub(super) fn part(&self, name: &str) -> Result<usize> {
        let found = if name == GRADIENT { self.gradient() } else { self.kept_names().position(|kept| kept == name) };
        found.ok_or_else(|| Error::NotFound { tensor: format!("{}.{name}", self.group.name) })
    }
}

/// One of two places of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    First,
    Second,
}

impl Slot {
    pub(super) fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Geometry, Slot};
    use crate::dtype::DType;
    use crate::swap::optimizer::Group;

    fn adam(name: &str, numel: u64) -> Group {
        Group::new(name, numel).states(["exp_avg", "exp_avg_sq"]).gradient(DType::BF16)
    }

    #[test]
    fn parts_are_whole_units_and_both_slots_touch_the_gradient() {
        let (groups, bytes) = Geometry::all(&[adam("a", 1025), adam("b", 1)], true).expect("a geometry");
        let a = &groups[0];
        assert_eq!(a.parts, [0..8192, 8192..16384, 16384..24576, 24576..28672]);
        assert_eq!(a.lens, [4100, 4100, 4100, 2050]);
        assert_eq!((a.position(2, Slot::First) + 8192, a.position(0, Slot::Second)), (24576, 28672));
        assert_eq!((groups[1].position(0, Slot::First), bytes), (28672 + 24576, 28672 + 24576 + 16384 + 12288));
        assert_eq!(Geometry::all(&[adam("a", 1025)], false).expect("a geometry").1, 28672);
    }

    #[test]
    fn names_and_sizes_that_cannot_be_are_refused() {
        let refused = |groups: &[Group]| Geometry::all(groups, true).expect_err("refused").to_string();
        assert!(refused(&[adam("a", 1), adam("a", 2)]).contains("twice"));
        assert!(refused(&[Group::new("a", 1).states(["m", "m"])]).contains("twice"));
        assert!(refused(&[Group::new("a", 1).states(["gradient"])]).contains("no state can have the name"));
        assert!(refused(&[Group::new("a", u64::MAX)]).contains("counted"));
        assert!(refused(&[Group::new("a", 3).dtype(DType::F4)]).contains("fill"));
        assert!(refused(&[Group::new("a", 1 << 50), Group::new("b", 1 << 50)]).contains("2^53"));
        assert!(Geometry::all(&[Group::new("", 0)], true).is_ok());
    }
}
