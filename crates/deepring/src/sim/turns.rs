//! Whose turn it is: the engines of a world, and which of their threads moves next.
//!
//! A driver takes half a turn, or a job runs. When no actor can move, virtual time advances to the
//! next event. A sleeping driver is called only if its inbox was signaled or its device has
//! completions.

use super::engine::EngineUnderTest;
use super::prng::Prng;
use super::profile::Profile;
use super::world::{self, violate};
use crate::config::Config;
use crate::share::Devices;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Small, so that the small requests of a run meet offloaded copies and fresh memory too.
pub(super) const OFFLOAD_BYTES: u64 = 4 << 10;

/// The engines of a profile, which share their devices.
pub(super) fn engines(profile: &Profile) -> std::io::Result<Vec<EngineUnderTest>> {
    let config = Config {
        queue_depth: profile.queue_depth,
        block_bytes: profile.block_bytes,
        in_flight_bytes: profile.in_flight_bytes,
        window: profile.window,
        window_bytes_min: profile.block_bytes,
        max_queued: profile.max_queued,
        threads: 8,
        offload_bytes: OFFLOAD_BYTES as usize,
    };
    let devices: Arc<Devices> = Arc::default();
    let engine = |index| EngineUnderTest::new(index, config, Arc::clone(&devices)).map_err(std::io::Error::from_raw_os_error);
    (0..profile.engines).map(engine).collect()
}

/// Something that can move; the index is the engine's.
#[derive(Debug, Clone, Copy)]
pub(super) enum Actor {
    Driver(usize),
    Job(usize),
    /// The program that uses the engines.
    Client,
}

/// Who can move now, and when the next one can.
pub(super) struct Ready {
    pub(super) actors: Vec<Actor>,
    now_ns: u64,
    next_ns: u64,
}

impl Ready {
    /// The threads of the engines.
    pub(super) fn find(engines: &mut [EngineUnderTest], rng: &mut Prng, profile: &Profile) -> Self {
        let now_ns = now_ns();
        let mut ready = Self { actors: Vec::new(), now_ns, next_ns: u64::MAX };
        for (index, engine) in engines.iter_mut().enumerate() {
            if engine.can_turn() {
                ready.actors.push(Actor::Driver(index));
            }
            if engine.jobs() == 0 {
                engine.job_at_ns = None;
                continue;
            }
            let at_ns = *engine.job_at_ns.get_or_insert_with(|| now_ns + rng.about(profile.job_delay_ns));
            ready.add(Actor::Job(index), at_ns);
        }
        ready
    }

    /// One more, which moves at this time.
    pub(super) fn add(&mut self, actor: Actor, at_ns: u64) {
        if at_ns <= self.now_ns {
            self.actors.push(actor);
        }
        self.next_ns = self.next_ns.min(at_ns);
    }

    /// Lets time pass until an actor can move, or a device has. False if neither ever will.
    pub(super) fn wait(&self) -> bool {
        let device_ns = world::with(|world| world.devices.next_ns(self.now_ns)).flatten().unwrap_or(u64::MAX);
        let next_ns = self.next_ns.min(device_ns);
        if next_ns == u64::MAX {
            return false;
        }
        world::with(|world| world.advance(next_ns));
        true
    }
}

/// The virtual time.
pub(super) fn now_ns() -> u64 {
    world::with(|world| world.now_ns).unwrap_or(0)
}

/// A driver takes half a turn.
pub(super) fn turn(engine: &mut EngineUnderTest, rng: &mut Prng, profile: &Profile) {
    engine.turn();
    if profile.unwinds > 0 && rng.chance(profile.unwinds) {
        engine.unwind();
    }
    if rng.one_in(4)
        && let Some(fault) = engine.audit()
    {
        violate(format!("the driver's state is inconsistent: {fault}"));
    }
}

/// One job of an engine runs.
pub(super) fn run_job(engine: &mut EngineUnderTest, rng: &mut Prng) {
    let job = rng.index(engine.jobs());
    engine.job_at_ns = None;
    engine.run_job(job);
}

/// Checks that engines which were shut down have ended and have released everything.
pub(super) fn check_released(engines: &[EngineUnderTest]) {
    let lost = world::with(|world| world.lost_rings > 0).unwrap_or(false);
    let unwound = world::with(|world| world.unwound > 0).unwrap_or(false);
    for (index, engine) in engines.iter().enumerate() {
        if !engine.has_ended() {
            violate(format!("engine {index} did not shut down: {}", engine.describe()));
        }
        engine.end();
        let counters = &engine.core.counters;
        for (name, counter) in
            [("in_flight", &counters.in_flight), ("in_flight_bytes", &counters.in_flight_bytes), ("queued", &counters.queued)]
        {
            let left = counter.load(Ordering::Relaxed);
            if left > 0 {
                violate(format!("engine {index} ends with {name} = {left}"));
            }
        }
        let (leaked, lost_operations) =
            (counters.leaked.load(Ordering::Relaxed), world::with(|world| world.devices.lost_operations(index)));
        // A driver that unwinds also leaks what it alone could hand to the device.
        if lost_operations != Some(leaked) && !(unwound && lost_operations.is_some_and(|lost| lost <= leaked)) {
            violate(format!("engine {index} counts {leaked} operations as leaked, and {lost_operations:?} were lost with rings"));
        }
        let buffers = counters.buffers.load(Ordering::Relaxed);
        if buffers > 0 && !lost {
            violate(format!("engine {index} ends with {buffers} buffers that were not returned"));
        }
    }
}

/// Ends the wait of a sleeping driver without a reason, now and then.
pub(super) fn wake_spuriously(engines: &mut [EngineUnderTest], rng: &mut Prng, profile: &Profile) {
    for engine in engines {
        if engine.is_asleep() && rng.chance(profile.spurious) {
            engine.turn();
        }
    }
}
