//! [`Stage`]: engines in a simulated world, for a program of another crate.
//!
//! The program has the client's place. It polls its futures on this thread, between two steps of the stage, and knows itself
//! what it must find. The world does not know its memory, and checks everything else: budgets, alignments, order, descriptors,
//! and at the end that nothing is left over.

use super::device;
use super::engine::EngineUnderTest;
use super::kernel::Kernel;
use super::prng::{Prng, mix};
use super::profile::Profile;
use super::turns::{self, Actor, Ready};
use super::world::{self, World};
use crate::backend::interpose;
use crate::engine::Engine;
use crate::sys::fault;
use std::fmt;
use std::rc::Rc;

/// One or two engines whose files are real and whose devices, kernel and time are simulated, with the faults that a seed draws.
/// A thread has one at a time. Until it is dropped, all that the thread asks of the system goes to the simulated kernel.
pub struct Stage {
    rng: Prng,
    profile: Profile,
    engines: Vec<EngineUnderTest>,
}

impl Stage {
    /// A world for this thread, with all that its seed draws. Nothing fails before [`Stage::set_faults`].
    ///
    /// # Errors
    /// The process has no free descriptor.
    pub fn new(seed: u64) -> std::io::Result<Self> {
        let mut rng = Prng::new(mix(seed));
        let profile = Profile::draw(&mut rng).with_program();
        world::enter(World::new(rng.branch(), profile.clone(), true));
        fault::install(Some(Rc::new(Kernel)));
        interpose::install(Some(device::transfer));
        let mut stage = Self { rng, profile, engines: Vec::new() };
        stage.engines = turns::engines(&stage.profile)?;
        Ok(stage)
    }

    /// An engine: there are one or two, and the numbers go round.
    ///
    /// # Panics
    /// The stage has [ended](Stage::end).
    #[must_use]
    pub fn engine(&self, number: usize) -> Engine {
        let engine = &self.engines[number % self.engines.len()];
        engine.api.clone().expect("an engine that was not shut down")
    }

    /// Whether calls and transfers can fail from now on.
    pub fn set_faults(&self, yes: bool) {
        world::with(|world| world.injecting = yes);
    }

    /// Whether something has failed that the program can have seen.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        world::with(|world| world.tally.faults > 0 || world.injected_anywhere > 0 || world.lost_rings > 0).unwrap_or(false)
    }

    /// Operations that the devices were given so far.
    #[must_use]
    pub fn device_operations(&self) -> u64 {
        world::with(|world| world.tally.device_operations).unwrap_or(0)
    }

    /// A digest of all that has happened: the same for the same seed and the same program.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        world::with(|world| world.fingerprint()).unwrap_or(0)
    }

    /// Moves one thread of an engine, or time. False if neither can move: what has not ended by then waits for the program.
    pub fn step(&mut self) -> bool {
        let ready = Ready::find(&mut self.engines, &mut self.rng, &self.profile);
        if ready.actors.is_empty() {
            let waited = ready.wait();
            turns::wake_spuriously(&mut self.engines, &mut self.rng, &self.profile);
            return waited;
        }
        match self.rng.pick(&ready.actors) {
            Actor::Driver(index) => turns::turn(&mut self.engines[index], &mut self.rng, &self.profile),
            Actor::Job(index) => turns::run_job(&mut self.engines[index], &mut self.rng),
            Actor::Client => {}
        }
        let until_ns = turns::now_ns() + self.rng.below(200);
        world::with(|world| world.advance(until_ns));
        true
    }

    /// What the world has found wrong so far, with the last events and what was drawn.
    #[must_use]
    pub fn violation(&self) -> Option<String> {
        world::with(|world| {
            let what = world.violation()?.to_owned();
            Some(format!("{what}\n{}\n{:?}", world.take_trace().join("\n"), self.profile))
        })
        .flatten()
    }

    /// Shuts the engines down. By now the program has dropped all that it made of them.
    ///
    /// # Errors
    /// What the world has found wrong.
    pub fn end(mut self) -> Result<(), String> {
        self.set_faults(false);
        self.engines.iter_mut().for_each(|engine| engine.api = None);
        while self.violation().is_none() && self.step() {}
        if world::with(|world| !world.is_violated()).unwrap_or(false) {
            turns::check_released(&self.engines);
        }
        self.violation().map_or(Ok(()), Err)
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage").field("profile", &self.profile).finish_non_exhaustive()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let has_ended = self.engines.iter().all(EngineUnderTest::has_ended);
        let engines = std::mem::take(&mut self.engines);
        if !has_ended {
            // They can be in any state. Nothing of them is touched again.
            std::mem::forget(engines);
        }
        fault::install(None);
        interpose::install(None);
        world::leave();
    }
}
