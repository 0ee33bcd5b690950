//! Runs a [`Script`] on one file: collects batches, runs each on the [`Session`], judges what every
//! operation did, and compares the whole file with the [`Model`] at quiet points and at the end.

use super::batch::Batch;
use super::judge::{self, Uncertain, Verdict};
use super::model::Model;
use super::plain::Plain;
use super::planted::PlantedBug;
use super::script::{Op, Patience, Range, Script};
use super::session::{BatchState, End, OneShotBug, Session};
use std::io;
use std::path::Path;

/// Runs the script on a new file at `path`, which it removes. The error states which promise was
/// broken.
pub(crate) fn run(script: &Script, path: &Path, bug: Option<PlantedBug>) -> Verdict<()> {
    let ran = Runner::new(script, path, bug).and_then(Runner::run);
    let removed = std::fs::remove_file(path).map_err(|error| format!("removing {}: {error}", path.display()));
    ran.and(removed)
}

struct Runner<'a> {
    script: &'a Script,
    path: &'a Path,
    model: Model,
    plain: Plain,
    session: Session,
    bug: OneShotBug,
}

/// Adds the name of a plain system call to its error.
fn plain_failed<T>(what: &str, result: io::Result<T>) -> Verdict<T> {
    result.map_err(|error| format!("a plain {what} failed: {error}"))
}

impl<'a> Runner<'a> {
    fn new(script: &'a Script, path: &'a Path, bug: Option<PlantedBug>) -> Verdict<Self> {
        let plain = plain_failed("open", Plain::create(path))?;
        let session = Session::build(script, path).map_err(|error| format!("opening failed: {error}"))?;
        let model = Model::new(script.file_max(), script.len() as u32);
        Ok(Self { script, path, model, plain, session, bug: OneShotBug::new(bug) })
    }

    fn run(mut self) -> Verdict<()> {
        let mut batch = Batch::default();
        for (number, op) in (1..).zip(&self.script.ops) {
            if !batch.admits(op, self.model.size()) {
                self.perform(&std::mem::take(&mut batch))?;
            }
            batch.ops.push((number, *op));
        }
        self.perform(&batch)?;
        let Self { session, model, plain, .. } = self;
        session.close().map_err(|error| format!("at the end, close failed: {error}"))?;
        let end = |error| format!("at the end, {error}");
        compare(&model, &plain).map_err(end)?;
        plain_failed("fsync", plain.forget())?;
        compare(&model, &plain).map_err(|error| format!("at the end, read from the disk, {error}"))
    }

    fn perform(&mut self, batch: &Batch) -> Verdict<()> {
        let state = BatchState { path: self.path, plain: &self.plain, model: &self.model, bug: &self.bug };
        let ends = self.session.run(&batch.ops, &state);
        let name = |number: usize| format!("operation #{number} ({})", self.script.ops[number - 1]);
        let mut uncertain = Vec::new();
        let mut skipped = Vec::new();
        for (number, end) in ends {
            let op = self.script.ops[number - 1];
            let judged = self.judge(batch, number, op, end, &mut uncertain, &mut skipped);
            judged.map_err(|error| format!("{}: {error}", name(number)))?;
        }
        let before = self.model.size();
        self.apply(batch, &uncertain, &skipped);
        self.settle(batch, &uncertain)?;
        let grew = self.model.size() > before && batch.writes().any(|(_, range)| range.end() == self.model.size());
        if grew && self.bug.fires(PlantedBug::TrimsByte) {
            plain_failed("ftruncate", self.plain.set_len(self.model.size() - 1))?;
        }
        for &(number, op) in &batch.ops {
            if let Op::Check { handle, plain_first } = op {
                self.check(handle, plain_first).map_err(|error| format!("{}: {error}", name(number)))?;
            }
        }
        Ok(())
    }

    /// Judges one operation, and records what it leaves uncertain.
    fn judge(
        &self,
        batch: &Batch,
        number: usize,
        op: Op,
        end: End,
        uncertain: &mut Vec<Uncertain>,
        skipped: &mut Vec<usize>,
    ) -> Verdict<()> {
        let kept = |kept: bool| if kept { Ok(()) } else { Err("changed memory outside its range".to_owned()) };
        match (op, end) {
            (Op::Write { range, patience, .. }, End::Wrote { result, memory_kept }) => {
                let certain = judge::written(range, patience, &result)?;
                if certain < range.len {
                    let rest = Range { position: range.position + certain, len: range.len - certain };
                    uncertain.push(Uncertain { generation: number as u32, range: rest });
                }
                kept(memory_kept)
            }
            (Op::Write { range, patience: Patience::Drops, .. }, End::Unknown) => {
                uncertain.push(Uncertain { generation: number as u32, range });
                Ok(())
            }
            (Op::Read { range, exact, patience, .. }, End::Read { result, mut found, memory_kept }) => {
                if range.len > 0
                    && result.as_ref().is_ok_and(|receipt| receipt.bytes == range.len)
                    && self.bug.fires(PlantedBug::ReadsWrong)
                {
                    found[range.len as usize - 1] ^= 0x11;
                }
                judge::read(&self.model, batch, range, exact, patience, (&found, &result))?;
                kept(memory_kept)
            }
            (Op::Stat { .. }, End::Stat(result)) => judge::stat(&self.model, batch, &result),
            (Op::Read { patience: Patience::Drops, .. } | Op::Check { .. }, End::Unknown) | (_, End::Task(Ok(())) | End::Plain(Ok(()))) => {
                Ok(())
            }
            (_, End::Task(Err(error))) => Err(format!("failed: {error}")),
            (_, End::Plain(Err(error))) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                skipped.push(number);
                Ok(())
            }
            (_, End::Plain(Err(error))) => Err(format!("fallocate failed: {error}")),
            _ => Err("ended without a result".into()),
        }
    }

    /// Does to the model what the batch did to the file, except what is uncertain. The order does
    /// not matter, except that a truncation comes before growth.
    fn apply(&mut self, batch: &Batch, uncertain: &[Uncertain], skipped: &[usize]) {
        if let Some(size) = batch.new_length() {
            self.model.set_len(size);
        }
        for &(number, op) in &batch.ops {
            match op {
                Op::Write { range, .. } => {
                    let one = uncertain.iter().find(|one| one.generation == number as u32);
                    let certain = one.map_or(range.len, |one| one.range.position - range.position);
                    self.model.write(Range { len: certain, ..range }, number as u32);
                }
                Op::Punch { range } | Op::Zero { range, .. } if !skipped.contains(&number) => {
                    if range.end() > self.model.size() && matches!(op, Op::Zero { extend: true, .. }) {
                        self.model.set_len(range.end());
                    }
                    self.model.zero(range);
                }
                Op::Reopen { truncate: true, .. } => self.model.set_len(0),
                _ => {}
            }
        }
    }

    /// Examines what canceled writes left: old or new bytes, and a size that one of them explains.
    fn settle(&mut self, batch: &Batch, uncertain: &[Uncertain]) -> Verdict<()> {
        if uncertain.is_empty() {
            return Ok(());
        }
        // A dropped operation is over when a sync is, because the sync waits for every write
        // accepted before it.
        let dropped = batch.ops.iter().find_map(|(_, op)| match op {
            Op::Write { handle, patience: Patience::Drops, .. } => Some(*handle),
            _ => None,
        });
        if let Some(file) = dropped.and_then(|handle| self.session.file(handle)) {
            file.sync_data().wait().map_err(|error| format!("a sync after a dropped write failed: {error}"))?;
        }
        let size = plain_failed("fstat", self.plain.size())?;
        let largest = uncertain.iter().map(|one| one.range.end()).max().unwrap_or(0).max(self.model.size());
        if !(self.model.size()..=largest).contains(&size) {
            let least = self.model.size();
            return Err(format!("after canceled writes the file has {size} bytes, where it must have {least} to {largest}"));
        }
        self.model.set_len(size);
        for one in uncertain {
            let found = plain_failed("read", self.plain.read(one.range))?;
            let new = super::content::bytes(one.range.position, found.len(), one.generation);
            let mut expected = self.model.there(one.range).to_vec();
            for (index, byte) in expected.iter_mut().enumerate() {
                if found.get(index) == Some(&new[index]) {
                    *byte = new[index];
                }
            }
            if found != expected {
                let wrong = self.model.difference(&found, one.range.position).unwrap_or_else(|| "its size is wrong".into());
                return Err(format!("after write #{} was canceled, neither old nor new bytes: {wrong}", one.generation));
            }
            self.model.adopt(one.range, one.generation, &found);
        }
        Ok(())
    }

    /// Compares the whole file, through the engine and without it.
    fn check(&self, handle: usize, plain_first: bool) -> Verdict<()> {
        if plain_first {
            compare(&self.model, &self.plain)?;
        }
        let Some(file) = self.session.file(handle) else { return Err("the handle is closed".into()) };
        let size = file.stat().wait().map_err(|error| format!("stat failed: {error}"))?.size;
        if size != self.model.size() {
            return Err(format!("through the engine the file has {size} bytes; it must have {}", self.model.size()));
        }
        let buf = file.engine().pooled_buffer(size as usize).map_err(|error| format!("no memory: {error}"))?;
        let read = file.read_exact_at(buf, 0).wait().ok();
        let (buf, _) = read.map_err(|error| format!("reading the whole file through the engine failed: {error}"))?;
        if let Some(difference) = self.model.difference(&buf, 0) {
            return Err(format!("through the engine, {difference}"));
        }
        if plain_first { Ok(()) } else { compare(&self.model, &self.plain) }
    }
}

/// Compares the whole file as plain reads show it.
fn compare(model: &Model, plain: &Plain) -> Verdict<()> {
    let size = plain_failed("fstat", plain.size())?;
    let found = plain_failed("read", plain.read(Range { position: 0, len: size.max(model.size()) }))?;
    if let Some(difference) = model.difference(&found, 0) {
        return Err(format!("through a plain read, {difference}"));
    }
    if size == model.size() && found.len() as u64 == size {
        return Ok(());
    }
    Err(format!("the file has {size} bytes, of which {} could be read; it must have {}", found.len(), model.size()))
}
