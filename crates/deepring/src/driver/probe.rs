//! The search for the smallest window that a device rewards: how much is to be in flight so that its rate is within a
//! margin of the best one seen. Pure: no clock, no lock.
//!
//! A window is one of a ladder of sizes, each twice the one below. The rate of another size is found by a *probe*: for a
//! short time that size is in force, and what comes is compared with what came just before and just after. So a device
//! or a host that changes does not count for or against a size. Each pair moves the estimate for its size; the spread of
//! the pairs is the noise, and a step needs evidence of more than that.
//!
//! There is a set point for each kind of [`Contention`]. A party that has a device alone gets the smallest window within
//! 2 % of the best rate; where it is shared, within 5 %, because what is in flight is what others wait for.
//!
//! Probes cost at most 1 % of the rate: after one, a time is left that is as much longer as the probe was slower. In
//! steady state a window makes at most one step a second.

use super::schedule::Contention;
use crate::planted::{PlantedBug, planted};
use std::time::Duration;

/// The ladder of one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// The lowest size and the highest: what the settings allow.
    pub(super) min: u64,
    pub(super) max: u64,
    /// Where a party alone begins, and where those that share do.
    pub(super) start: [u64; 2],
}

/// The share of the best rate that a window keeps: alone, shared, and while urgent requests come.
const KEPT: [f64; 3] = [0.98, 0.95, 0.94];

/// How many standard errors are evidence for a larger window, and for a smaller one: to step down too far is found out
/// at the next probe upward.
const EVIDENCE_UP: f64 = 2.0;
const EVIDENCE_DOWN: f64 = 1.25;
/// Pairs without which nothing steps up, and down.
const PAIRS_UP: f64 = 2.0;
const PAIRS_DOWN: f64 = 6.0;
/// Pairs that are remembered of a size, and of one that has changed.
const PAIRS_MAX: f64 = 256.0;
const PAIRS_CHANGED: f64 = 2.0;

/// One measurement takes at least this long, and at most, in seconds, however little comes.
const EPOCH_MIN: f64 = 0.02;
const EPOCH_MAX: f64 = 0.5;
/// A probe that cannot be made, because too little is asked for or nothing is answered, is given up after this long.
const PATIENCE: Duration = Duration::from_secs(1);
/// Before the first probes: what comes for a moment, such as a read of a gigabyte, does not notice them.
const FIRST_REST: [f64; 2] = [0.6, 0.1];
/// Between two steps, while the window is searched for and afterwards.
const STEP_SEARCHING: Duration = Duration::from_millis(100);
const STEP_STEADY: Duration = Duration::from_secs(1);
/// Pairs without a step after which a window is found.
const CALM: u32 = 16;
/// The time after a probe, in times of the probe. The part that depends on its loss holds the cost below 1 %. A larger
/// window makes others wait: once one is found, that is tried less often; while urgent requests come, as soon as it is
/// known, and so rarely that it does not decide about one in a hundred of them.
const REST: f64 = 1.0;
const REST_STEADY: f64 = 20.0;
const REST_URGENT: f64 = 100.0;
const REST_PER_LOSS: f64 = 150.0;
/// Of so many probes one is of a size that is farther away. Shared, that makes others wait: rarely enough that it does not
/// decide about one in a hundred.
const FAR: u32 = 8;
const FAR_SHARED: [u32; 2] = [2, 24];
const FAR_SHARED_LATER: u32 = 256;
/// One pair counts for no more than this: a stall says nothing about a window.
const PAIR_MAX: f64 = 0.7;

/// What is known of one size.
#[derive(Debug, Clone, Copy, Default)]
struct Level {
    /// The logarithm of its rate, compared with that of the others.
    gain: f64,
    /// How many pairs say so.
    pairs: f64,
    /// Pairs in a row that contradict it, with their sign.
    surprise: i8,
}

/// Where a measurement is.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Until so much has come that what comes belongs to the size in force; and for how long.
    Settling {
        left: u64,
        time: f64,
    },
    Measuring {
        units: u64,
        time: f64,
    },
}

/// One window: of one direction of a device, in bytes or in blocks.
#[derive(Debug)]
pub(super) struct Search {
    sizes: Vec<u64>,
    levels: Vec<Level>,
    /// By contention: the size in force, but for probes.
    set: [usize; 3],
    contention: Contention,
    /// The size that is probed now.
    probing: Option<usize>,
    stage: Stage,
    /// When this measurement began.
    since: Duration,
    /// The last sample, and whether the window held something back from then on.
    at: Duration,
    was_limited: bool,
    /// The logarithm of the rate before the probe, and the probe that waits for the one after it.
    before: Option<f64>,
    probed: Option<(usize, f64, f64)>,
    /// Seconds until the next probe of a smaller size, and of a larger one.
    rest: [f64; 2],
    /// The variance of one pair.
    variance: f64,
    turn: u32,
    /// Pairs since the last step, and by contention whether there were enough to call a window found.
    calm: u32,
    settled: [bool; 3],
    stepped_at: Duration,
    best_rate: f64,
}

impl Search {
    pub(super) fn new(bounds: Bounds) -> Self {
        let Bounds { min, max, start } = bounds;
        let mut sizes: Vec<u64> =
            std::iter::successors(Some(min.max(1)), |size| size.checked_mul(2)).take_while(|size| *size < max).collect();
        sizes.push(max.max(1));
        let nearest = |wanted: u64| sizes.iter().rposition(|size| *size <= wanted).unwrap_or(0);
        let [alone, shared] = start.map(nearest);
        Self {
            levels: vec![Level::default(); sizes.len()],
            set: [alone, shared.min(alone), shared.min(alone).saturating_sub(1)],
            sizes,
            contention: Contention::Alone,
            probing: None,
            stage: Stage::Settling { left: 0, time: 0.0 },
            since: Duration::ZERO,
            at: Duration::ZERO,
            was_limited: false,
            before: None,
            probed: None,
            rest: FIRST_REST,
            variance: 0.01,
            turn: 0,
            calm: 0,
            settled: [false; 3],
            stepped_at: Duration::ZERO,
            best_rate: 0.0,
        }
    }

    /// The search begins at these sizes instead: found at another time, they are where to look first, and no more than that.
    /// One that has made a step knows better.
    pub(super) fn seed(&mut self, alone: Option<u64>, shared: Option<u64>) {
        if self.stepped_at > Duration::ZERO {
            return;
        }
        let nearest = |wanted: u64| self.sizes.iter().rposition(|size| *size <= wanted).unwrap_or(0);
        let alone = alone.map_or(self.set[0], nearest);
        let shared = shared.map_or(self.set[1], nearest).min(alone);
        self.set = [alone, shared, shared.saturating_sub(1)];
        // What was compared was compared with another size.
        self.levels.fill(Level::default());
        self.give_up(self.at);
    }

    /// The size in force now.
    pub(super) fn size(&self) -> u64 {
        self.sizes[self.probing.unwrap_or(self.base())]
    }

    /// The size found for this contention, whichever is in force.
    pub(super) fn found(&self, contention: Contention) -> u64 {
        self.sizes[self.set[contention as usize]]
    }

    /// The best rate measured, in units per second.
    pub(super) fn best_rate(&self) -> f64 {
        self.best_rate
    }

    fn base(&self) -> usize {
        self.set[self.contention as usize]
    }

    /// What has happened since the last sample: `units` came, and from now on the window does or does not hold something
    /// back. Returns whether another size is in force now.
    pub(super) fn sample(&mut self, now: Duration, units: u64, is_limited: bool, contention: Contention) -> bool {
        let before = self.size();
        let time = now.saturating_sub(self.at).as_secs_f64();
        self.at = now;
        let counts = std::mem::replace(&mut self.was_limited, is_limited);
        if contention != self.contention {
            self.contention = contention;
            self.give_up(now);
            self.calm = 0;
        } else if counts {
            self.measure(now, units, time);
        } else if self.probing.is_some() && now.saturating_sub(self.since) > PATIENCE {
            self.give_up(now);
        } else {
            // What is in flight does not fill the window: it has to be full again first.
            self.stage = Stage::Settling { left: self.size(), time: 0.0 };
        }
        self.size() != before
    }

    /// Ends a probe, and forgets what belongs to it.
    fn give_up(&mut self, now: Duration) {
        (self.probing, self.before, self.probed) = (None, None, None);
        self.begin(now, self.size());
    }

    fn begin(&mut self, now: Duration, settle: u64) {
        self.stage = Stage::Settling { left: settle, time: 0.0 };
        self.since = now;
    }

    fn measure(&mut self, now: Duration, came: u64, spent: f64) {
        match &mut self.stage {
            Stage::Settling { left, time } => {
                *left = left.saturating_sub(came);
                *time += spent;
                if *left == 0 || *time > EPOCH_MAX && came > 0 {
                    self.stage = Stage::Measuring { units: 0, time: 0.0 };
                }
            }
            Stage::Measuring { units, time } => {
                *units += came;
                *time += spent;
                let (units, time) = (*units, *time);
                let enough = units >= self.size() && time >= EPOCH_MIN;
                if came > 0 && (enough || time > EPOCH_MAX) {
                    self.complete(now, units as f64 / time, time);
                }
            }
        }
        if self.probing.is_some() && now.saturating_sub(self.since) > 2 * PATIENCE {
            self.give_up(now);
        }
    }

    /// One measurement is done.
    fn complete(&mut self, now: Duration, rate: f64, time: f64) {
        let log = rate.max(1e-9).ln();
        // The best that is seen fades, so that a device that has become slower is not held against its past.
        self.best_rate = rate.max(self.best_rate * 0.999);
        if let Some(level) = self.probing.take() {
            if let Some(before) = self.before {
                self.probed = Some((level, log, before));
                let rest = self.rest_after(level);
                let time = now.saturating_sub(self.since).as_secs_f64();
                self.rest[usize::from(level > self.base())] = time * rest.max(self.loss_of(level, before - log) * REST_PER_LOSS);
            }
            return self.begin(now, self.size().max(self.sizes[level]));
        }
        if let Some(before) = self.before {
            // A pair has the noise of a probe and of the mean of two others: half as much again as one measurement.
            let change = (log - before).clamp(-PAIR_MAX, PAIR_MAX);
            self.variance += (0.75 * change * change - self.variance) / 16.0;
        }
        if let Some((level, probed, before)) = self.probed.take() {
            self.learn(level, probed - f64::midpoint(before, log));
            self.decide(now);
        }
        self.before = Some(log);
        self.rest.iter_mut().for_each(|rest| *rest -= time);
        self.stage = Stage::Measuring { units: 0, time: 0.0 };
        self.since = now;
        if let Some(level) = self.next_probe() {
            let from = self.size();
            self.probing = Some(level);
            self.begin(now, self.sizes[level].max(from));
        }
    }

    /// How long others are spared another probe of a size that makes them wait.
    fn rest_after(&self, level: usize) -> f64 {
        match self.contention {
            Contention::Shared if level > self.base() && self.calm >= CALM => REST_STEADY,
            Contention::Latency if level > self.base() && self.levels[level].pairs >= PAIRS_UP => REST_URGENT,
            _ => REST,
        }
    }

    /// What a probe of this size loses, as far as is known: at first what this one has lost.
    fn loss_of(&self, level: usize, once: f64) -> f64 {
        let known = self.levels[level];
        let loss = if known.pairs < PAIRS_UP { once } else { self.levels[self.base()].gain - known.gain };
        loss.clamp(0.0, PAIR_MAX)
    }

    /// The size to probe now: the one below that in force or above it, whichever has rested longer. Now and then one that
    /// is farther away: alone, the next but one; shared, what one party alone would have, because its rate is the one to
    /// be near to.
    fn next_probe(&mut self) -> Option<usize> {
        let (base, top) = (self.base(), self.sizes.len() - 1);
        let is_due = |up: usize| self.rest[up] <= 0.0 && if up == 1 { base < top } else { base > 0 };
        let up = match [is_due(0), is_due(1)] {
            [false, false] => return None,
            [true, true] => self.rest[1] <= self.rest[0],
            [_, up] => up,
        };
        self.turn = self.turn.wrapping_add(1);
        let alone = self.set[Contention::Alone as usize];
        let is_later = self.contention == Contention::Shared && self.turn.is_multiple_of(FAR_SHARED_LATER);
        let is_far_turn = is_later || FAR_SHARED.contains(&self.turn);
        if self.contention != Contention::Alone && up && alone > base && is_far_turn {
            return Some(alone);
        }
        let far = if self.contention == Contention::Alone && self.turn.is_multiple_of(FAR) { 2 } else { 1 };
        Some(if up { (base + far).min(top) } else { base.saturating_sub(far) })
    }

    /// A pair says that this size has a rate of so much more than the one in force.
    fn learn(&mut self, level: usize, more: f64) {
        let target = self.levels[self.base()].gain + more.clamp(-PAIR_MAX, PAIR_MAX);
        let deviation = self.variance.sqrt().max(0.01);
        let known = &mut self.levels[level];
        let off = target - known.gain;
        if known.pairs > PAIRS_CHANGED && off.abs() > 3.0 * deviation {
            known.surprise =
                if known.surprise.signum() == off.signum() as i8 { known.surprise + off.signum() as i8 } else { off.signum() as i8 };
            if known.surprise.abs() >= 2 {
                (known.pairs, known.surprise) = (0.0, 0);
            }
        } else {
            known.surprise = 0;
        }
        known.pairs = (known.pairs + 1.0).min(PAIRS_MAX);
        known.gain += off / known.pairs;
    }

    fn error_of(&self, level: usize) -> f64 {
        (self.variance.max(1e-4) / self.levels[level].pairs.max(1.0)).sqrt()
    }

    /// Makes a step if there is evidence for it.
    fn decide(&mut self, now: Duration) {
        self.calm += 1;
        let settled = &mut self.settled[self.contention as usize];
        *settled |= self.calm >= CALM;
        let wait = if *settled { STEP_STEADY } else { STEP_SEARCHING };
        if now.saturating_sub(self.stepped_at) < wait {
            return;
        }
        let base = self.base();
        let kept = KEPT[self.contention as usize].ln();
        let gain = |level: usize, errors: f64| self.levels[level].gain + errors * self.error_of(level);
        // What is known of smaller ones is a reason to step down to them, never to step up.
        let larger = || (base + 1..self.levels.len()).filter(|&level| self.levels[level].pairs >= PAIRS_UP);
        let best = |errors: f64| larger().map(|level| gain(level, errors)).fold(self.levels[base].gain, f64::max);
        let down = base.checked_sub(1).filter(|&down| self.levels[down].pairs >= PAIRS_DOWN);
        if self.levels[base].gain < best(-EVIDENCE_UP) + kept && base + 1 < self.sizes.len() && !planted(PlantedBug::NeverGrows) {
            self.step_to(now, base + 1);
        } else if let Some(down) = down
            && gain(down, -EVIDENCE_DOWN) >= best(0.0) + kept
            && !planted(PlantedBug::NeverShrinks)
        {
            self.step_to(now, down);
        }
    }

    fn step_to(&mut self, now: Duration, level: usize) {
        let came_from = self.base();
        self.set[self.contention as usize] = level;
        // Those that share need no more than one that is alone.
        let index = self.contention as usize;
        self.set[..index].iter_mut().for_each(|other| *other = level.max(*other));
        self.set[index + 1..].iter_mut().for_each(|other| *other = level.min(*other));
        // What the former size had been compared with is compared with this one now.
        self.levels[came_from].pairs = self.levels[came_from].pairs.max(self.levels[level].pairs);
        (self.calm, self.stepped_at, self.before) = (0, now, None);
    }
}

#[cfg(test)]
#[path = "probe_tests.rs"]
pub(crate) mod tests;
