//! [`Tape`]: what a store has done to its files, in order, and the disks that a power cut can leave of it.
//!
//! * A write of tensors is safe once their file was flushed afterwards. Before that, each write can be there, or its first half,
//!   or nothing of it, whatever became of the others.
//! * The bytes of an index are safe once it was flushed. Before that, it can be whole, half zeros, or empty.
//! * The name of an index is safe once the directory was flushed afterwards. Before that, each change of it can be there or not:
//!   those that came later only with those before, because there is one name.

use crate::Flushed;
use deepring::sim::{Record, Recorded, record};
use deepring_tensors::swap::{Done, watch};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// One thing that was done.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// The program asks for a flush of these tensors.
    Begins(Flushed),
    /// The program knows that they are safe.
    Ended(Flushed),
    Wrote(u64, Vec<u8>),
    Flushed,
    /// The index gets these bytes, which are safe or not.
    Named(Vec<u8>, bool),
    /// The index goes.
    Unnamed,
    FlushedNames,
}

/// See the module.
pub(crate) struct Tape {
    place: PathBuf,
    record: Arc<Record>,
    steps: Arc<Mutex<Steps>>,
}

#[derive(Default)]
struct Steps {
    all: Vec<Step>,
    /// Calls of the record that are among them.
    calls: usize,
    /// Files that were flushed before they had their name.
    safe: HashSet<PathBuf>,
}

impl Steps {
    /// Takes what the record has by now.
    fn catch_up(&mut self, place: &Path, calls: &[Recorded]) {
        for call in &calls[self.calls..] {
            match call {
                Recorded::SyncFile(path) => drop(self.safe.insert(path.clone())),
                Recorded::Rename(from, to) if to.ends_with("index") => {
                    let bytes = std::fs::read(place.join(to)).expect("the index");
                    let is_safe = self.safe.remove(from);
                    self.all.push(Step::Named(bytes, is_safe));
                }
                Recorded::RemoveFile(path) if path.ends_with("index") => self.all.push(Step::Unnamed),
                Recorded::SyncDirectory(path) if path.ends_with("store") => self.all.push(Step::FlushedNames),
                _ => {}
            }
        }
        self.calls = calls.len();
    }
}

/// What a power cut leaves.
struct Cut<'t> {
    data: Vec<u8>,
    /// Writes that can be there or not.
    loose: Vec<&'t (u64, Vec<u8>)>,
    /// What the index can be, of which one is there: the last one that is safe, and those that came later.
    indexes: Vec<Option<Vec<u8>>>,
}

impl Tape {
    /// Begins to record what stores do that are opened on this thread.
    pub(crate) fn begin(place: &Path) -> Self {
        let tape = Self { place: place.to_owned(), record: Arc::new(record(place).expect("a record")), steps: Arc::default() };
        let (at, record, steps) = (tape.place.clone(), Arc::clone(&tape.record), Arc::clone(&tape.steps));
        watch(move |done| {
            let mut steps = steps.lock().expect("steps");
            steps.catch_up(&at, &record.calls());
            steps.all.push(match done {
                Done::Wrote(position, bytes) => Step::Wrote(position, bytes),
                Done::Flushed => Step::Flushed,
            });
        });
        tape
    }

    pub(crate) fn mark(&self, step: Step) {
        let mut steps = self.steps.lock().expect("steps");
        steps.catch_up(&self.place, &self.record.calls());
        steps.all.push(step);
    }

    pub(crate) fn end(&self) {
        watch(|_| ());
        self.steps.lock().expect("steps").catch_up(&self.place, &self.record.calls());
    }

    /// Looks at every disk that a power cut after any step can leave, once there was a flush. `look` is given the directory of
    /// the store, the flushes that it can be, and whether something was written since the last one that has ended.
    pub(crate) fn cut_everywhere(&self, mut look: impl FnMut(&Path, &[Flushed], bool) -> Result<(), String>) -> Result<usize, String> {
        let steps = self.steps.lock().expect("steps").all.clone();
        let first = steps.iter().position(|step| matches!(step, Step::Ended(_))).expect("a flush");
        let mut disks = 0;
        for end in first + 1..=steps.len() {
            let (possible, was_written) = possible(&steps[..end]);
            let writes: Vec<(u64, Vec<u8>)> = steps[..end]
                .iter()
                .filter_map(|step| match step {
                    Step::Wrote(position, bytes) => Some((*position, bytes.clone())),
                    _ => None,
                })
                .collect();
            let cut = cut(&steps[..end], &writes);
            assert!(cut.loose.len() <= 5, "{} writes are loose", cut.loose.len());
            for index in &cut.indexes {
                for forms in 0..3u32.pow(cut.loose.len() as u32) {
                    let place = tempfile::TempDir::new().expect("a directory");
                    cut.make(forms, index.as_deref(), place.path());
                    disks += 1;
                    look(place.path(), &possible, was_written).map_err(|what| format!("{what}, after {:?}", name(&steps[end - 1])))?;
                }
            }
        }
        Ok(disks)
    }
}

fn name(step: &Step) -> String {
    let text = format!("{step:?}");
    text.chars().take(40).collect()
}

/// The flushes that can be there after these steps, and whether something was written after the last one that has ended.
fn possible(steps: &[Step]) -> (Vec<Flushed>, bool) {
    let (mut possible, mut was_written) = (Vec::new(), false);
    for step in steps {
        match step {
            Step::Begins(flushed) => possible.push(flushed.clone()),
            Step::Ended(flushed) => (possible, was_written) = (vec![flushed.clone()], false),
            Step::Wrote(..) | Step::Unnamed => was_written = true,
            _ => {}
        }
    }
    (possible, was_written)
}

fn cut<'t>(steps: &[Step], writes: &'t [(u64, Vec<u8>)]) -> Cut<'t> {
    let mut cut = Cut { data: Vec::new(), loose: Vec::new(), indexes: vec![None] };
    let mut nth = 0;
    for step in steps {
        match step {
            Step::Wrote(..) => {
                cut.loose.push(&writes[nth]);
                nth += 1;
            }
            Step::Flushed => {
                for (position, bytes) in std::mem::take(&mut cut.loose) {
                    put(&mut cut.data, *position, bytes);
                }
            }
            Step::Named(bytes, is_safe) => {
                cut.indexes.push(Some(bytes.clone()));
                if !is_safe {
                    let half = bytes.len() / 2;
                    let zeros = bytes.iter().enumerate().map(|(at, byte)| if at < half { *byte } else { 0 }).collect();
                    cut.indexes.extend([Some(zeros), Some(Vec::new())]);
                }
            }
            Step::Unnamed => cut.indexes.push(None),
            Step::FlushedNames => drop(cut.indexes.drain(..cut.indexes.len() - 1)),
            Step::Begins(_) | Step::Ended(_) => {}
        }
    }
    cut
}

fn put(data: &mut Vec<u8>, position: u64, bytes: &[u8]) {
    let (begin, end) = (position as usize, position as usize + bytes.len());
    if data.len() < end {
        data.resize(end, 0);
    }
    data[begin..end].copy_from_slice(bytes);
}

impl Cut<'_> {
    /// Makes the disk: of each loose write nothing, a half or all, by the digits of `forms`.
    fn make(&self, mut forms: u32, index: Option<&[u8]>, place: &Path) {
        let mut data = self.data.clone();
        for (position, bytes) in &self.loose {
            let there = bytes.len() * (forms % 3) as usize / 2;
            put(&mut data, *position, &bytes[..there]);
            // The file has its length from the beginning.
            put(&mut data, *position + bytes.len() as u64, &[]);
            forms /= 3;
        }
        std::fs::write(place.join("data"), data).expect("a file");
        if let Some(index) = index {
            std::fs::write(place.join("index"), index).expect("a file");
        }
    }
}
