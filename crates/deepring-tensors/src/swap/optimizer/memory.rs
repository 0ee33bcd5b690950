//! The memory of a group: a buffer for each part, side by side, and runs of parts that lie side by side in the file as well.

use super::geometry::{Geometry, Slot};
use super::shared::{Shared, State};
use crate::budget::Permit;
use crate::error::{Error, Result};
use deepring::{Buffer, Op, Task};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::PoisonError;
use std::time::Instant;

/// Parts that are one transfer.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    parts: Range<usize>,
    position: u64,
}

/// The runs of parts that are at these positions in the file, the others being left out.
fn runs(geometry: &Geometry, positions: &[Option<u64>]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut end = None;
    for (part, position) in positions.iter().enumerate() {
        let range = &geometry.parts[part];
        let Some(position) = position.filter(|_| !range.is_empty()) else { continue };
        match runs.last_mut().filter(|run| run.parts.end == part && end == Some(position)) {
            Some(run) => run.parts.end = part + 1,
            None => runs.push(Run { parts: part..part + 1, position }),
        }
        end = Some(position + (range.end - range.start));
    }
    runs
}

/// Cuts the memory of some parts into one buffer for each.
fn split(geometry: &Geometry, parts: Range<usize>, mut whole: Buffer) -> Vec<Buffer> {
    let start = geometry.parts[parts.start].start;
    let mut split: Vec<Buffer> = parts.rev().map(|part| whole.split_off((geometry.parts[part].start - start) as usize)).collect();
    split.reverse();
    split
}

/// Takes these parts as one buffer.
fn join(parts: &mut [Option<Buffer>]) -> Result<Buffer> {
    let gone = || Error::Argument("a part is out of its place".into());
    let mut parts = parts.iter_mut().map(|part| part.take().ok_or_else(gone));
    let mut whole = parts.next().ok_or_else(gone)??;
    for part in parts {
        whole.unsplit(part?).map_err(|_| gone())?;
    }
    Ok(whole)
}

/// Parts that are filled on a thread of the engine.
type Filling = Task<Vec<(usize, Buffer)>>;

/// A group on its way into memory.
pub(super) struct Reading {
    group: usize,
    begun: Instant,
    runs: VecDeque<(Range<usize>, Op<Buffer>)>,
    filling: VecDeque<Filling>,
    parts: Vec<Option<Buffer>>,
    /// Of the gradient: what has not come, and is zero.
    holes: Vec<Range<u64>>,
}

impl Reading {
    /// Begins: parts that are zeros are zeroed, and the others read, or copied from the memory of a resident group.
    pub(super) fn begin(shared: &Shared, state: &State, group: usize) -> Result<Self> {
        let (geometry, own) = (&shared.groups[group], &state.groups[group]);
        let whole = shared.engine.pooled_buffer(geometry.bytes() as usize)?;
        let mut parts: Vec<Option<Buffer>> = split(geometry, 0..geometry.parts.len(), whole).into_iter().map(Some).collect();
        let mut reading =
            Self { group, begun: Instant::now(), runs: VecDeque::new(), filling: VecDeque::new(), parts: Vec::new(), holes: Vec::new() };
        if let Some(gradient) = geometry.gradient() {
            reading.holes = own.come.holes(geometry.lens[gradient]);
        }
        let positions = if own.resident.is_some() { Vec::new() } else { positions(geometry, state, group) };
        for Run { parts: range, position } in runs(geometry, &positions) {
            let op = shared.data.read_exact_at(join(&mut parts[range.clone()])?, position);
            reading.runs.push_back((range, op));
        }
        let rest: Vec<(usize, Buffer)> = parts.iter_mut().enumerate().filter_map(|(part, memory)| Some((part, memory.take()?))).collect();
        if !rest.is_empty() {
            let resident = own.resident.as_ref().map(|resident| std::sync::Arc::clone(&resident.parts));
            let fill = move || match resident {
                None => zero(rest),
                Some(resident) => {
                    let resident = resident.lock().unwrap_or_else(PoisonError::into_inner);
                    let copy = |(part, mut memory): (usize, Buffer)| {
                        memory.copy_from_slice(&resident[part]);
                        (part, memory)
                    };
                    rest.into_iter().map(copy).collect()
                }
            };
            reading.filling.push_back(shared.engine.run_blocking(fill));
        }
        reading.parts = parts;
        Ok(reading)
    }

    /// Waits for all parts. It can be dropped, and asked again.
    pub(super) async fn end(&mut self, shared: &Shared) -> Result<Vec<Buffer>> {
        let geometry = &shared.groups[self.group];
        while let Some((_, op)) = self.runs.front_mut() {
            let ended = op.await;
            let Some((range, _)) = self.runs.pop_front() else { break };
            let (memory, receipt) = ended.ok().map_err(|error| Error::io(error, Some(shared.name(self.group))))?;
            shared.lock().has_read(self.begun, &receipt);
            for (part, memory) in range.clone().zip(split(geometry, range, memory)) {
                if Some(part) == geometry.gradient() && !self.holes.is_empty() {
                    let holes = std::mem::take(&mut self.holes);
                    self.filling.push_back(shared.engine.run_blocking(move || vec![(part, punched(memory, &holes))]));
                } else {
                    self.parts[part] = Some(memory);
                }
            }
        }
        while let Some(task) = self.filling.front_mut() {
            let filled = task.await;
            self.filling.pop_front();
            for (part, memory) in filled? {
                self.parts[part] = Some(memory);
            }
        }
        std::mem::take(&mut self.parts).into_iter().map(|part| part.ok_or_else(|| Error::Argument("a part is gone".into()))).collect()
    }
}

/// Where the newest version of each part is. `None` is all zeros.
fn positions(geometry: &Geometry, state: &State, group: usize) -> Vec<Option<u64>> {
    let own = &state.groups[group];
    let kept = own.now.iter().enumerate().map(|(part, slot)| slot.map(|slot| geometry.position(part, slot)));
    let gradient = geometry.gradient().map(|part| (!own.come.is_empty()).then(|| geometry.position(part, Slot::First)));
    kept.chain(gradient).collect()
}

fn zero(parts: Vec<(usize, Buffer)>) -> Vec<(usize, Buffer)> {
    let zeroed = |(part, mut memory): (usize, Buffer)| {
        memory.fill(0);
        (part, memory)
    };
    parts.into_iter().map(zeroed).collect()
}

fn punched(mut memory: Buffer, holes: &[Range<u64>]) -> Buffer {
    for hole in holes {
        memory[hole.start as usize..hole.end as usize].fill(0);
    }
    memory
}

impl Shared {
    /// Writes these parts of a group behind. The others keep the version that they have.
    pub(super) fn write_parts(
        &self,
        state: &mut State,
        group: usize,
        parts: Vec<Buffer>,
        which: &[usize],
        permit: Option<Permit>,
    ) -> Result<()> {
        let geometry = &self.groups[group];
        let mut positions = vec![None; parts.len()];
        for &part in which {
            let slot = if Some(part) == geometry.gradient() { Slot::First } else { self.target(state, group, part) };
            positions[part] = Some(geometry.position(part, slot));
            if part < geometry.kept() {
                state.groups[group].now[part] = Some(slot);
            }
        }
        let mut parts: Vec<Option<Buffer>> = parts.into_iter().map(Some).collect();
        let mut ops = Vec::new();
        for Run { parts: range, position } in runs(geometry, &positions) {
            ops.push(self.data.write_at(join(&mut parts[range])?, position));
        }
        drop(parts);
        state.write(group, ops, permit);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Run, runs};
    use crate::dtype::DType;
    use crate::swap::optimizer::Group;
    use crate::swap::optimizer::geometry::{Geometry, Slot};

    #[test]
    fn what_lies_side_by_side_is_one_transfer() {
        let group = Group::new("a", 1024).states(["m", "v"]).gradient(DType::F32);
        let (groups, _) = Geometry::all(&[group], true).expect("a geometry");
        let geometry = &groups[0];
        let at = |slots: [Option<Slot>; 4]| {
            let positions: Vec<_> = slots.iter().enumerate().map(|(part, slot)| slot.map(|slot| geometry.position(part, slot))).collect();
            runs(geometry, &positions).into_iter().map(|Run { parts, position }| (parts, position / 4096)).collect::<Vec<_>>()
        };
        let (first, second) = (Some(Slot::First), Some(Slot::Second));
        assert_eq!(at([first; 4]), [(0..4, 0)]);
        assert_eq!(at([second, second, second, first]), [(0..3, 4), (3..4, 3)]);
        assert_eq!(at([first, None, None, first]), [(0..1, 0), (3..4, 3)]);
        assert_eq!(at([first, second, first, None]), [(0..1, 0), (1..2, 5), (2..3, 2)]);
        assert_eq!(at([None; 4]), []);
    }
}
