//! [`OptimizerOptions`], [`Group`] and [`Depth`]: what a swapper has, and how far ahead it works.

use crate::dtype::DType;

/// Parameters that are updated together: an optimizer reads, computes and writes them at once.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Group {
    /// Its name, which no other group has.
    pub name: String,
    /// How many parameters it has.
    pub numel: u64,
    /// The names of its states, each with as many elements as there are parameters.
    pub states: Vec<String>,
    /// The type of parameters and states.
    pub dtype: DType,
    /// The type of its gradient, if the swapper keeps one.
    pub gradient: Option<DType>,
    /// Whether it stays in memory.
    pub resident: bool,
}

impl Group {
    /// A group of F32 without states and without a gradient, which is swapped.
    pub fn new(name: impl Into<String>, numel: u64) -> Self {
        Self { name: name.into(), numel, states: Vec::new(), dtype: DType::F32, gradient: None, resident: false }
    }

    /// Its states, such as `exp_avg` and `exp_avg_sq` of Adam. All of them are zero at first.
    #[must_use]
    pub fn states<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.states = names.into_iter().map(Into::into).collect();
        self
    }

    /// The type of parameters and states; F32 by default.
    #[must_use]
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// The swapper keeps its gradient, of this type, which can be another one than that of the parameters.
    #[must_use]
    pub fn gradient(mut self, dtype: DType) -> Self {
        self.gradient = Some(dtype);
        self
    }

    /// Whether it stays in memory, for groups so small that reading them costs more than their memory; off by default. It is
    /// written by [`flush`](super::OptimizerSwapper::flush).
    #[must_use]
    pub fn resident(mut self, yes: bool) -> Self {
        self.resident = yes;
        self
    }
}

/// How many groups are read ahead of the one that is computed, and how many are written behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Depth {
    /// What the memory allows, at most 4.
    #[default]
    Auto,
    /// This many, at least one.
    Groups(usize),
}

/// How to open an [`OptimizerSwapper`](super::OptimizerSwapper).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OptimizerOptions {
    pub(super) groups: Vec<Group>,
    pub(super) depth: Depth,
    pub(super) memory: u64,
    pub(super) durable: bool,
    pub(super) create: bool,
}

impl OptimizerOptions {
    /// These groups, as deep as 256 MiB allow, not durable.
    pub fn new(groups: Vec<Group>) -> Self {
        Self { groups, depth: Depth::Auto, memory: 256 << 20, durable: false, create: false }
    }

    /// How far ahead; [`Depth::Auto`] by default.
    #[must_use]
    pub fn depth(mut self, depth: Depth) -> Self {
        self.depth = depth;
        self
    }

    /// Bytes in memory at once, for all groups and gradients together; 256 MiB by default. A depth of d needs those of 2 d + 1
    /// of the largest group, or of all groups if there are fewer, and those of all resident groups.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// Whether the state of the last [`flush`](super::OptimizerSwapper::flush) outlives a process or machine that stops in the
    /// middle of a step; off by default. It takes the space of parameters and states twice.
    #[must_use]
    pub fn durable(mut self, yes: bool) -> Self {
        self.durable = yes;
        self
    }

    /// Whether the directory is made if it is missing, and a swapper that is [torn](crate::Error::Torn) begins anew, with all
    /// parts zero; off by default.
    #[must_use]
    pub fn create(mut self, yes: bool) -> Self {
        self.create = yes;
        self
    }
}
