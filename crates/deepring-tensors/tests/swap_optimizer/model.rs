//! What a swapper must have: the same groups in memory, changed by the same computation, in which every byte of every part
//! counts.

use crate::harness::{Rng, bytes};
use deepring::Engine;
use deepring_tensors::DType;
use deepring_tensors::swap::{Depth, Group, GroupLease, OptimizerOptions, OptimizerSwapper, Parts, Write};
use std::path::Path;

/// Groups of odd sizes, with states and without, in memory and not.
pub(crate) fn groups() -> Vec<Group> {
    let adam = |name: &str, numel| Group::new(name, numel).states(["exp_avg", "exp_avg_sq"]).gradient(DType::F32);
    vec![
        adam("embedding", 30_001),
        adam("small", 7).resident(true),
        adam("half", 20_480).gradient(DType::BF16),
        Group::new("frozen", 1025).dtype(DType::U8),
        adam("norm", 1),
        adam("empty", 0),
        Group::new("plain", 9000).states(["momentum"]).gradient(DType::F32),
        adam("head", 40_000),
    ]
}

/// Bytes of a group in memory.
pub(crate) fn bytes_of(group: &Group) -> u64 {
    let padded = |dtype: DType| dtype.bytes_of(group.numel).expect("whole bytes").next_multiple_of(4096);
    padded(group.dtype) * (1 + group.states.len() as u64) + group.gradient.map_or(0, padded)
}

/// Memory for this depth.
pub(crate) fn memory(groups: &[Group], depth: usize) -> u64 {
    let largest = groups.iter().map(bytes_of).max().unwrap_or(0);
    let resident: u64 = groups.iter().filter(|group| group.resident).map(bytes_of).sum();
    largest * (2 * depth as u64 + 1).min(groups.len() as u64) + resident
}

pub(crate) fn options(depth: usize) -> OptimizerOptions {
    let groups = groups();
    let memory = memory(&groups, depth);
    OptimizerOptions::new(groups).depth(Depth::Groups(depth)).memory(memory)
}

pub(crate) fn open(engine: &Engine, directory: &Path, options: OptimizerOptions) -> OptimizerSwapper {
    OptimizerSwapper::open(engine, directory, options).wait().expect("a swapper")
}

/// Groups in memory: of each its parameters and states.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) groups: Vec<Group>,
    pub(crate) parts: Vec<Vec<Vec<u8>>>,
    /// Steps that were made.
    pub(crate) steps: u64,
}

impl Model {
    /// All zeros.
    pub(crate) fn zeros(groups: Vec<Group>) -> Self {
        let parts = |group: &Group| vec![vec![0; group.dtype.bytes_of(group.numel).expect("whole bytes") as usize]; 1 + group.states.len()];
        Self { parts: groups.iter().map(parts).collect(), groups, steps: 0 }
    }

    /// With parameters.
    pub(crate) fn new(groups: Vec<Group>) -> Self {
        let mut model = Self::zeros(groups);
        for (nth, parts) in model.parts.iter_mut().enumerate() {
            parts[0] = bytes(parts[0].len(), nth as u64);
        }
        model
    }

    /// Gives a swapper the parameters.
    pub(crate) fn initialize(&self, swapper: &OptimizerSwapper) {
        for (group, parts) in self.groups.iter().zip(&self.parts) {
            let returned = swapper.initialize(&group.name, [("param", parts[0].clone())]).wait().expect("initialized");
            assert!(returned[0] == parts[0]);
        }
    }

    /// The gradient of a group in a step, if it has one.
    pub(crate) fn gradient(&self, nth: usize) -> Option<Vec<u8>> {
        let group = &self.groups[nth];
        let len = group.gradient?.bytes_of(group.numel).expect("whole bytes");
        Some(bytes(len as usize, 1000 * (self.steps + 1) + nth as u64))
    }

    /// Puts all gradients of a step, in pieces of random sizes and order.
    pub(crate) fn put_gradients(&self, swapper: &OptimizerSwapper, rng: &mut Rng, elements_max: u64) {
        let mut pieces = Vec::new();
        for (nth, group) in self.groups.iter().enumerate() {
            let Some(gradient) = self.gradient(nth) else { continue };
            let size = group.gradient.map_or(1, |dtype| u64::from(dtype.bits() / 8));
            let mut at = 0;
            while at < group.numel {
                let end = group.numel.min(at + 1 + rng.below(elements_max));
                pieces.push((group.name.clone(), at, gradient[(at * size) as usize..(end * size) as usize].to_vec()));
                at = end;
            }
        }
        rng.shuffle(&mut pieces);
        for (group, at, piece) in pieces {
            let returned = swapper.put_gradient(&group, at, piece.clone()).wait().expect("a piece");
            assert!(returned == piece);
        }
    }

    /// The computation of a step, for one group.
    pub(crate) fn compute(&mut self, nth: usize) {
        let gradient = self.gradient(nth);
        compute(self.parts[nth].iter_mut().map(Vec::as_mut_slice).collect(), gradient.as_deref());
    }

    /// A step in memory.
    pub(crate) fn step(&mut self) {
        (0..self.groups.len()).for_each(|nth| self.compute(nth));
        self.steps += 1;
    }

    /// Whether a lease has these parts, in the order of the group.
    pub(crate) fn is_same(&self, nth: usize, lease: &mut GroupLease) -> bool {
        let Parts { param, states, .. } = lease.parts();
        let parts: Vec<&[u8]> = std::iter::once(&*param).chain(states.iter().map(|state| &**state)).collect();
        parts == self.parts[nth]
    }

    /// Checks that a swapper has just this.
    pub(crate) fn check(&self, swapper: &OptimizerSwapper) {
        let mut step = swapper.step().expect("a step");
        for nth in 0..self.groups.len() {
            let mut lease = step.wait_next().expect("a group").expect("read");
            assert_eq!(lease.name(), self.groups[nth].name);
            assert!(self.is_same(nth, &mut lease), "group {} after {} steps", lease.name(), self.steps);
        }
        assert!(step.wait_next().is_none());
    }
}

/// The same computation with another gradient.
pub(crate) fn compute_with(model: &mut Model, nth: usize, gradient: Option<&[u8]>) {
    compute(model.parts[nth].iter_mut().map(Vec::as_mut_slice).collect(), gradient);
}

/// A step of a swapper. The gradients are there.
pub(crate) fn step(swapper: &OptimizerSwapper) {
    let mut step = swapper.step().expect("a step");
    while let Some(lease) = step.wait_next() {
        let mut lease = lease.expect("read");
        compute_lease(&mut lease);
        lease.close(Write::All).expect("closed");
    }
}

pub(crate) fn compute_lease(lease: &mut GroupLease) {
    let Parts { param, states, gradient, .. } = lease.parts();
    compute(std::iter::once(param).chain(states).collect(), gradient.as_deref());
}

/// Changes all parts by each other and by the gradient.
fn compute(mut parts: Vec<&mut [u8]>, gradient: Option<&[u8]>) {
    for at in 0..parts[0].len() {
        let gradient = gradient.filter(|gradient| !gradient.is_empty()).map_or(1, |gradient| gradient[at % gradient.len()]);
        let mut sum = gradient;
        for part in parts.iter_mut().rev() {
            sum = sum.wrapping_mul(3).wrapping_add(part[at]);
            part[at] = sum;
        }
    }
}
