//! [`Columns`]: what a header says of its tensors, as columns rather than objects. A tensor takes about forty bytes and its
//! name.

use crate::dtype::DType;
use crate::names::Names;
use crate::shapes::Shapes;

/// An element type as a column has it: of this crate, or a name that it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Known(DType),
    /// An index among the unknown names.
    Unknown(u16),
}

/// Why a tensor cannot be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The tensor of this index has the same name.
    Twice(usize),
    TooManyTypes,
}

/// Tensors by index.
#[derive(Debug, Clone, Default)]
pub(crate) struct Columns {
    pub(crate) names: Names,
    pub(crate) kinds: Vec<Kind>,
    /// Names of element types that this crate does not know, each once.
    pub(crate) unknown: Vec<String>,
    pub(crate) shapes: Shapes,
    /// Where the bytes of each begin.
    pub(crate) begins: Vec<u64>,
    /// How many bytes each has.
    pub(crate) lens: Vec<u64>,
}

impl Columns {
    pub(crate) fn len(&self) -> usize {
        self.lens.len()
    }

    /// The type of this name. `None` if there are too many names that this crate does not know.
    pub(crate) fn kind(&mut self, name: &str) -> Option<Kind> {
        if let Some(dtype) = DType::of(name) {
            return Some(Kind::Known(dtype));
        }
        let index = self.unknown.iter().position(|known| known == name).unwrap_or_else(|| {
            self.unknown.push(name.to_owned());
            self.unknown.len() - 1
        });
        (index < UNKNOWN_MAX).then_some(Kind::Unknown(index as u16))
    }

    pub(crate) fn dtype(&self, index: usize) -> Option<DType> {
        match self.kinds[index] {
            Kind::Known(dtype) => Some(dtype),
            Kind::Unknown(_) => None,
        }
    }

    pub(crate) fn dtype_name(&self, index: usize) -> &str {
        match self.kinds[index] {
            Kind::Known(dtype) => dtype.name(),
            Kind::Unknown(name) => &self.unknown[usize::from(name)],
        }
    }

    pub(crate) fn end(&self, index: usize) -> u64 {
        self.begins[index] + self.lens[index]
    }

    /// The tensors in the order of their bytes; of those that begin at the same byte, empty ones first. `None` if they
    /// already have it.
    pub(crate) fn order(&self) -> Option<Vec<u32>> {
        let place = |index: usize| (self.begins[index], self.lens[index]);
        if (1..self.len()).all(|index| place(index - 1) <= place(index)) {
            return None;
        }
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        // Stable, so that the order does not depend on the sort.
        order.sort_by_key(|&index| place(index as usize));
        Some(order)
    }

    /// Adds a tensor of other columns, with its bytes at `begin`.
    pub(crate) fn take(&mut self, other: &Self, index: usize, begin: u64) -> Result<(), Refusal> {
        let kind = match other.kinds[index] {
            Kind::Unknown(name) => self.kind(&other.unknown[usize::from(name)]).ok_or(Refusal::TooManyTypes)?,
            known @ Kind::Known(_) => known,
        };
        self.names.add(other.names.get(index)).map_err(Refusal::Twice)?;
        self.kinds.push(kind);
        self.shapes.push(other.shapes.get(index));
        self.begins.push(begin);
        self.lens.push(other.lens[index]);
        Ok(())
    }

    /// The same tensors in another order.
    pub(crate) fn reordered(&self, order: &[u32]) -> Self {
        let mut columns = Self { unknown: self.unknown.clone(), ..Self::default() };
        for &index in order {
            let taken = columns.take(self, index as usize, self.begins[index as usize]);
            debug_assert!(taken.is_ok(), "names are unique");
        }
        columns
    }

    pub(crate) fn shrink(&mut self) {
        self.names.shrink();
        self.kinds.shrink_to_fit();
        self.shapes.shrink();
        self.begins.shrink_to_fit();
        self.lens.shrink_to_fit();
    }
}

/// Names of element types in one table that this crate does not know. A search among them is linear.
pub(crate) const UNKNOWN_MAX: usize = 256;
