//! An optimizer swapper whose flushes are given up: whatever its index is by then, the next open finds one flush as a whole, or
//! learns that the swapper is torn.
//!
//! The threads of the engine rename in any order. Nothing fails here but by that.

use crate::alone::{alone, alone_for};
use crate::harness::{Rng, bytes};
use deepring::sim::Stage;
use deepring_tensors::swap::{Depth, Group, OptimizerOptions, OptimizerSwapper, Parts, Write};
use deepring_tensors::{Error, Result};
use std::path::{Path, PathBuf};

const NUMELS: [u64; 2] = [3000, 10];

/// Of each group, the bytes of its parameters and of its state.
type Content = Vec<[Vec<u8>; 2]>;

/// What runs have done.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) given_up: u64,
    pub(crate) kills: u64,
    pub(crate) torn: u64,
}

pub(crate) struct Program {
    rng: Rng,
    place: PathBuf,
    is_durable: bool,
    now: Content,
    /// What the index can be of.
    flushes: Vec<Content>,
    /// Whether something was begun since a flush ended.
    was_begun: bool,
    next_salt: u64,
    tally: Tally,
    swapper: Option<OptimizerSwapper>,
    // Dropped last.
    stage: Stage,
}

impl Program {
    pub(crate) fn new(seed: u64, place: &Path) -> Self {
        let mut rng = Rng::of(seed);
        let zeros: Content = NUMELS.map(|numel| [vec![0; 4 * numel as usize], vec![0; 4 * numel as usize]]).into();
        Self {
            place: place.to_owned(),
            is_durable: rng.once_in(2),
            now: zeros.clone(),
            flushes: vec![zeros],
            was_begun: false,
            next_salt: seed << 20,
            tally: Tally::default(),
            swapper: None,
            stage: Stage::new(seed).expect("a stage"),
            rng,
        }
    }

    pub(crate) fn run(mut self, calls: u64, sum: &mut Tally) -> std::result::Result<(), String> {
        self.play(calls)?;
        self.swapper = None;
        let Self { stage, tally, .. } = self;
        sum.given_up += tally.given_up;
        sum.kills += tally.kills;
        sum.torn += tally.torn;
        stage.end()
    }

    fn play(&mut self, calls: u64) -> std::result::Result<(), String> {
        let opened = self.open(&self.place.join("swapper"))?;
        self.swapper = Some(opened.map_err(|error| error.to_string())?);
        for _ in 0..calls {
            match self.rng.below(10) {
                0..3 => self.step()?,
                3 => self.flush()?,
                4..7 => self.flush_and_give_up()?,
                _ => self.kill()?,
            }
        }
        Ok(())
    }

    fn options(&self) -> OptimizerOptions {
        let groups = NUMELS.iter().zip(["large", "small"]).map(|(numel, name)| Group::new(name, *numel).states(["m"]));
        OptimizerOptions::new(groups.collect()).depth(Depth::Groups(1)).memory(1 << 20).durable(self.is_durable)
    }

    fn open(&mut self, path: &Path) -> std::result::Result<Result<OptimizerSwapper>, String> {
        let (engine, options) = (self.stage.engine(0), self.options());
        let create = !path.exists();
        alone(&mut self.stage, OptimizerSwapper::open(&engine, path, options.create(create)))
    }

    fn swapper(&self) -> OptimizerSwapper {
        self.swapper.clone().expect("an open swapper")
    }

    /// All groups are changed, or one of them.
    fn step(&mut self) -> std::result::Result<(), String> {
        let mut step = self.swapper().step().map_err(|error| error.to_string())?;
        for nth in 0..NUMELS.len() {
            let lease = alone(&mut self.stage, step.next())?;
            let mut lease = lease.ok_or("a group is missing")?.map_err(|error| error.to_string())?;
            self.was_begun = true;
            let Parts { param, mut states, .. } = lease.parts();
            if [&*param, &*states[0]] != self.now[nth].each_ref().map(Vec::as_slice) {
                return Err(format!("group {nth} is another"));
            }
            if self.rng.once_in(3) {
                continue;
            }
            self.next_salt += 1;
            let [new_param, new_state] = [0, 1].map(|part| bytes(param.len(), self.next_salt << 1 | part));
            param.copy_from_slice(&new_param);
            states[0].copy_from_slice(&new_state);
            lease.close(Write::All).map_err(|error| error.to_string())?;
            self.now[nth] = [new_param, new_state];
        }
        Ok(())
    }

    fn flush(&mut self) -> std::result::Result<(), String> {
        let flush = self.swapper().flush();
        alone(&mut self.stage, flush)?.map_err(|error| error.to_string())?;
        (self.flushes, self.was_begun) = (vec![self.now.clone()], false);
        Ok(())
    }

    fn flush_and_give_up(&mut self) -> std::result::Result<(), String> {
        let (flush, steps) = (self.swapper().flush(), self.rng.below(60));
        if let Some(flushed) = alone_for(&mut self.stage, flush, steps)? {
            flushed.map_err(|error| error.to_string())?;
            (self.flushes, self.was_begun) = (vec![self.now.clone()], false);
        } else {
            self.tally.given_up += 1;
            self.flushes.push(self.now.clone());
        }
        Ok(())
    }

    /// What a process would leave that is killed now is looked at elsewhere.
    fn kill(&mut self) -> std::result::Result<(), String> {
        self.tally.kills += 1;
        let to = self.place.join("left");
        std::fs::create_dir(&to).expect("a directory");
        for entry in std::fs::read_dir(self.place.join("swapper")).expect("the swapper") {
            let entry = entry.expect("an entry");
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
        match self.open(&to)? {
            Ok(left) => {
                let found = self.content(&left)?;
                if !self.flushes.contains(&found) {
                    return Err(format!("what is left is of no flush; durable: {}", self.is_durable));
                }
            }
            Err(Error::Torn { .. }) if !self.is_durable && self.was_begun => self.tally.torn += 1,
            Err(error) => return Err(format!("what is left cannot be opened: {error}")),
        }
        std::fs::remove_dir_all(to).expect("removed");
        Ok(())
    }

    fn content(&mut self, swapper: &OptimizerSwapper) -> std::result::Result<Content, String> {
        let mut step = swapper.step().map_err(|error| error.to_string())?;
        let mut content = Content::new();
        while let Some(lease) = alone(&mut self.stage, step.next())? {
            let mut lease = lease.map_err(|error| error.to_string())?;
            let Parts { param, states, .. } = lease.parts();
            content.push([param.to_vec(), states[0].to_vec()]);
        }
        Ok(content)
    }
}
