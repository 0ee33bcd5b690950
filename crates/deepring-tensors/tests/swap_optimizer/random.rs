//! Random programs: whatever a program does, in whatever order, every byte is as in memory.

use crate::harness::{Rng, bytes, directory, engine};
use crate::model::{Model, compute_lease, compute_with, groups, memory, open};
use deepring::Engine;
use deepring_tensors::swap::{Depth, OptimizerOptions, OptimizerSwapper, Write};
use deepring_tensors::{Error, Result};
use std::path::Path;

const PROGRAMS: u64 = 12;
const CALLS: u64 = 60;

/// A swapper, and what it must have.
struct World<'w> {
    engine: &'w Engine,
    place: &'w Path,
    durable: bool,
    rng: Rng,
    now: Model,
    flushed: Model,
    /// Of each group: its gradient, and which elements have come.
    gradients: Vec<(Vec<u8>, Vec<bool>)>,
    /// Whether something was begun in place since the last flush.
    is_torn: bool,
    salt: u64,
}

impl World<'_> {
    fn options(&mut self) -> OptimizerOptions {
        let depth = 1 + self.rng.below(4) as usize;
        let groups = groups();
        let memory = memory(&groups, depth);
        OptimizerOptions::new(groups).depth(Depth::Groups(depth)).memory(memory).durable(self.durable)
    }

    fn size(&self, nth: usize) -> usize {
        self.now.groups[nth].gradient.map_or(0, |dtype| dtype.bits() as usize / 8)
    }

    fn forget_gradients(&mut self) {
        let of = |nth: usize| {
            let numel = self.now.groups[nth].numel as usize;
            (vec![0; numel * self.size(nth)], vec![false; numel])
        };
        self.gradients = (0..self.now.groups.len()).map(of).collect();
    }

    fn any(&mut self) -> usize {
        self.rng.below(self.now.groups.len() as u64) as usize
    }

    fn put(&mut self, swapper: &OptimizerSwapper) {
        let nth = self.any();
        let (size, numel) = (self.size(nth), self.now.groups[nth].numel);
        if size == 0 || numel == 0 {
            return;
        }
        let start = self.rng.below(numel);
        let count = (1 + self.rng.below(30_000)).min(numel - start);
        self.salt += 1;
        let piece = bytes(count as usize * size, self.salt);
        let (start, count) = (start as usize, count as usize);
        let put = swapper.put_gradient(&self.now.groups[nth].name, start as u64, piece.clone()).wait();
        let (gradient, come) = &mut self.gradients[nth];
        if come[start..start + count].contains(&true) {
            assert_eq!(put.expect_err("overlap").code(), "ERR_DEEPRING_OVERLAP");
            return;
        }
        put.expect("a piece");
        come[start..start + count].fill(true);
        gradient[start * size..(start + count) * size].copy_from_slice(&piece);
    }

    fn step(&mut self, swapper: &OptimizerSwapper) {
        let mut order: Vec<usize> = (0..self.now.groups.len()).collect();
        self.rng.shuffle(&mut order);
        order.truncate(1 + self.rng.below(order.len() as u64) as usize);
        let names: Vec<String> = order.iter().map(|nth| self.now.groups[*nth].name.clone()).collect();
        let mut step = swapper.step_over(names.iter().map(String::as_str)).expect("a step");
        for nth in order {
            if self.rng.once_in(9) {
                return;
            }
            let mut lease = step.wait_next().expect("a group").expect("read");
            self.is_torn = true;
            assert!(self.now.is_same(nth, &mut lease), "{}", lease.name());
            if let Some(gradient) = lease.parts().gradient {
                assert!(gradient == self.gradients[nth].0, "the gradient of {}", self.now.groups[nth].name);
            }
            compute_lease(&mut lease);
            let write = match self.rng.below(4) {
                0 => Write::Nothing,
                1 => {
                    let states = &self.now.groups[nth].states;
                    Write::Parts(states.iter().filter(|_| self.rng.once_in(2)).cloned().collect())
                }
                _ => Write::All,
            };
            let before = self.now.parts[nth].clone();
            if write != Write::Nothing {
                let gradient = std::mem::take(&mut self.gradients[nth].0);
                let has_one = self.size(nth) > 0;
                compute_with(&mut self.now, nth, has_one.then_some(gradient.as_slice()));
                self.gradients[nth] = (vec![0; gradient.len()], vec![false; self.now.groups[nth].numel as usize]);
            }
            if let Write::Parts(names) = &write {
                let states = self.now.groups[nth].states.clone();
                for (part, name) in std::iter::once("param").chain(states.iter().map(String::as_str)).enumerate() {
                    if !names.iter().any(|written| written == name) {
                        self.now.parts[nth][part].clone_from(&before[part]);
                    }
                }
            }
            lease.close(write).expect("closed");
        }
    }

    fn initialize(&mut self, swapper: &OptimizerSwapper) {
        let nth = self.any();
        let names: Vec<String> = std::iter::once("param".to_owned()).chain(self.now.groups[nth].states.iter().cloned()).collect();
        let mut parts = Vec::new();
        for (part, name) in names.into_iter().enumerate() {
            if self.rng.once_in(2) {
                self.salt += 1;
                self.now.parts[nth][part] = bytes(self.now.parts[nth][part].len(), self.salt);
                parts.push((name, self.now.parts[nth][part].clone()));
            }
        }
        swapper.initialize(&self.now.groups[nth].name, parts).wait().expect("initialized");
        self.is_torn = true;
    }

    fn reset(&mut self, swapper: &OptimizerSwapper) {
        let nth = self.any();
        let Some(name) = self.now.groups[nth].states.last().cloned() else { return };
        swapper.reset(&self.now.groups[nth].name, [name.as_str()]).expect("reset");
        self.now.parts[nth].last_mut().expect("a state").fill(0);
    }

    fn flush(&mut self, swapper: &OptimizerSwapper) {
        swapper.flush().wait().expect("flushed");
        self.flushed = self.now.clone();
        self.is_torn = false;
    }

    /// Ends without a flush, and opens again.
    fn open_again(&mut self, swapper: OptimizerSwapper) -> Result<OptimizerSwapper> {
        drop(swapper);
        self.forget_gradients();
        let opened = OptimizerSwapper::open(self.engine, self.place, self.options()).wait();
        let swapper = match opened {
            Err(Error::Torn { .. }) if self.is_torn && !self.durable => {
                self.flushed = Model::zeros(groups());
                let options = self.options().create(true);
                open(self.engine, self.place, options)
            }
            opened => {
                assert!(self.durable || !self.is_torn, "it is torn");
                opened?
            }
        };
        self.now = self.flushed.clone();
        self.is_torn = false;
        Ok(swapper)
    }
}

#[test]
fn random_programs_find_every_byte_as_in_memory() {
    let (engine, mut rng) = (engine(), Rng::new());
    for program in 0..PROGRAMS {
        let place = directory();
        let zeros = Model::zeros(groups());
        let mut world = World {
            engine: &engine,
            place: place.path(),
            durable: program % 2 == 0,
            rng: rng.clone(),
            now: zeros.clone(),
            flushed: zeros,
            gradients: Vec::new(),
            is_torn: false,
            salt: program << 32,
        };
        world.forget_gradients();
        let options = world.options();
        let mut swapper = open(&engine, place.path(), options);
        for _ in 0..CALLS {
            match world.rng.below(20) {
                0..8 => world.put(&swapper),
                8..13 => world.step(&swapper),
                13..15 => world.initialize(&swapper),
                15 => world.reset(&swapper),
                16..18 => world.flush(&swapper),
                18 => swapper.flush_gradients().wait().expect("written"),
                _ => swapper = world.open_again(swapper).expect("opened"),
            }
        }
        world.now.check(&swapper);
        rng = world.rng;
    }
}
