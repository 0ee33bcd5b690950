//! The end of a driver that has unwound, which is a bug of the engine: the caller's code is contained.
//!
//! Its books may be wrong, so nothing is freed that the device can still touch: what is in flight is leaked and counted,
//! with its file. Every other request fails, every control ends, what the process shares about files is released, and
//! intake is closed for good. Nothing waits for this engine afterwards.

use super::Driver;
use super::block::Block;
use super::control::{Barrier, Control};
use super::core::{Core, UNWOUND};
use super::message::{Answer, Message};
use super::request::{Claim, Phase, Request, Submission, Target};
use crate::completion::Outcome;
use crate::error::{Error, ErrorKind};
use crate::extend;
use crate::planted::{PlantedBug, planted};
use crate::slots::{Key, Slots};
use crate::stats::{add, sub};
use std::mem;
use std::sync::{Arc, PoisonError};

/// What is left of a driver.
struct Wreck {
    core: Arc<Core>,
    requests: Slots<Request>,
    controls: Slots<Control>,
    /// Requests that the driver had not begun.
    queued: Vec<Submission>,
    /// Requests with blocks that blocking threads work on.
    on_threads: Vec<Key>,
}

impl Driver {
    pub(crate) fn collapse(self) {
        let Self { core, backend, off_ring, requests, mut blocks, controls, queues, mut paths, settled, messages, offloads, sums, .. } =
            self;
        core.inbox.close();
        core.report.lock().unwrap_or_else(PoisonError::into_inner).reason = UNWOUND.into();
        backend.abandon();
        if let Some(threads) = off_ring {
            threads.abandon();
        }
        let mut wreck = Wreck { core, requests, controls, queued: Vec::new(), on_threads: Vec::new() };
        for block in blocks.keys().into_iter().filter_map(|key| blocks.remove(key)) {
            wreck.leak(block);
        }
        // What was settled before is delivered by its drop. Work that was not begun touches no memory.
        drop((settled, offloads, sums));
        for mut queue in queues {
            for place in queue.schedule.places() {
                wreck.queued.extend(queue.schedule.lend(place).into_iter().flat_map(|(_, fresh)| fresh));
            }
        }
        paths.sweep(|_| true, &mut wreck.queued);
        wreck.receive(messages);
        wreck.end();
    }
}

impl Wreck {
    /// Leaks a block, and marks its request.
    fn leak(&mut self, mut block: Block) {
        let counters = &self.core.counters;
        sub(&counters.in_flight, 1);
        sub(&counters.in_flight_bytes, block.grant.cost.bytes);
        let Some(request) = self.requests.get_mut(block.request) else { return block.leak() };
        if let Some(lock) = block.grant.lock {
            request.file.unlock_block(lock);
        }
        if planted(PlantedBug::UnwindsDriver) {
            return;
        }
        if block.is_on_thread() {
            self.on_threads.push(block.request);
        }
        add(&counters.leaked, 1);
        add(&counters.leaked_bytes, block.extent.file_len);
        block.leak();
        if !mem::replace(&mut request.memory_lost, true) {
            // A closed number could soon name another file.
            mem::forget(Arc::clone(&request.file));
        }
    }

    fn receive(&mut self, messages: Vec<Message>) {
        for message in messages {
            match message {
                Message::Submit(submission) => {
                    add(&self.core.counters.submitted, 1);
                    self.queued.push(submission);
                }
                Message::Control(control) => {
                    if matches!(control.barrier, Barrier::Truncate) {
                        control.file.inode.announce_truncation();
                    }
                    self.controls.insert(control);
                }
                Message::Answer(answer) => self.take_answer(answer),
                Message::Wake(_) | Message::Shutdown | Message::Received => {}
            }
        }
    }

    fn take_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Opened(batch) => self.queued.extend(batch.into_iter().map(|opened| opened.submission)),
            Answer::RoomMade(key, Ok(Some(extension))) => {
                if let Some(request) = self.requests.get_mut(key)
                    && let Some(accepted) = request.claim.accepted()
                {
                    request.claim = Claim::Extending { accepted, extension, edge: None };
                }
            }
            Answer::Trimmed(key, _) => {
                if let Some(request) = self.requests.get_mut(key) {
                    if let Claim::Extending { edge: Some(lock), .. } = request.claim {
                        request.file.unlock_block(lock);
                    }
                    request.claim = match request.claim {
                        Claim::Extending { accepted, .. } => Claim::Active(accepted.without_end()),
                        claim => claim.without_end(),
                    };
                }
            }
            Answer::RoomMade(_, Ok(None) | Err(_))
            | Answer::Transferred(_)
            | Answer::Offloaded(_)
            | Answer::Closed(..)
            | Answer::Examined(..)
            | Answer::ControlRan
            | Answer::Profiled(..)
            | Answer::Panicked => {}
        }
    }

    /// Ends everything: first what waits for nothing, then what blocking threads still work on.
    fn end(mut self) {
        let core = Arc::clone(&self.core);
        self.end_queued();
        for key in self.requests.keys() {
            let request = &self.requests[key];
            let waits = matches!(request.phase(), Phase::MakingRoom | Phase::Trimming | Phase::Closing)
                || self.on_threads.contains(&key)
                || request.is_summed();
            if !waits && request.claim.extension().is_none() {
                self.end_request(key);
            }
        }
        core.blocking.stop();
        let mut messages = Vec::new();
        core.inbox.take(&mut messages);
        self.receive(messages);
        self.end_queued();
        for key in self.requests.keys() {
            self.end_request(key);
        }
        for key in self.controls.keys() {
            let Some(Control { file, barrier, mut job, .. }) = self.controls.remove(key) else { continue };
            match barrier {
                Barrier::Truncate => file.inode.withdraw_truncation(),
                Barrier::TruncateAlone(_) => file.inode.leave_truncation(),
                Barrier::Sync(_) | Barrier::Close => {}
            }
            if !job.run(Some(ErrorKind::Panicked)) {
                add(&core.counters.panics, 1);
            }
        }
    }

    fn end_queued(&mut self) {
        for submission in mem::take(&mut self.queued) {
            submission.refuse(ErrorKind::Panicked, &self.core.counters);
        }
    }

    fn end_request(&mut self, key: Key) {
        let Some(request) = self.requests.remove(key) else { return };
        let counters = &self.core.counters;
        let file = Arc::clone(&request.file);
        // What fails here leaves padding behind, for the next request that moves the end.
        match request.claim {
            Claim::None => {}
            Claim::Extending { accepted, .. } => {
                drop(extend::finish(&file, 0, accepted, false));
                file.inode.leave_end();
            }
            Claim::Accepted(accepted) | Claim::Active(accepted) => drop(extend::abandon(&file, 0, accepted)),
        }
        request.claim.without_end().release(&file);
        // What was written before the end of the file was put in order is there. Of others nothing is certain.
        let transferred = if request.phase() == Phase::Trimming { request.transferred() } else { 0 };
        let kind = if request.memory_lost { ErrorKind::Lost } else { ErrorKind::Panicked };
        let Request { submission: Submission { mut reply, target, direction, position, len, .. }, memory_lost, .. } = request;
        let error = Error::new(kind, direction.call_name()).at(&file.path).range(position, len, transferred).advise(UNWOUND);
        sub(&counters.queued, 1);
        add(&counters.failed, 1);
        if matches!(target, Target::Path(_)) && !memory_lost {
            // As always before a path request settles.
            drop(file.close());
        }
        if !reply.settle(Outcome { result: Err(error), memory_lost }) {
            add(&counters.panics, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Message};
    use crate::backend::BackendKind;
    use crate::engine::Engine;
    use crate::error::ErrorKind;
    use crate::open::OpenOptions;

    /// Makes the driver panic: no job of its own was left to answer.
    fn break_driver(engine: &Engine) {
        engine.core().inbox.post(Message::Answer(Answer::Panicked));
    }

    #[test]
    fn a_driver_that_unwinds_fails_everything_leaks_what_is_in_flight_and_leaves_files_usable() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        std::fs::write(&path, vec![1u8; 8 << 20]).expect("a file");
        for kind in [BackendKind::Uring, BackendKind::Threads] {
            let Ok(engine) = Engine::builder().backend(kind).build() else { continue };
            let options = OpenOptions::new().read(true).write(true);
            let file = engine.open(&path, options).expect("a file");
            let reads: Vec<_> = (0..64u64).map(|index| file.read_at(vec![0u8; 1 << 20], (index % 8) << 20)).collect();
            let writes: Vec<_> = (0..64u64).map(|index| file.write_at(vec![2u8; 5000], (8 << 20) + index * 5000)).collect();
            let by_path = engine.read_file(&path, vec![0u8; 100]);
            let sync = file.sync_all();
            break_driver(&engine);
            let mut lost = 0;
            for done in reads.into_iter().chain(writes).chain([by_path]).map(crate::op::Op::wait) {
                match done.result.map_err(|error| error.kind()) {
                    Ok(_) | Err(ErrorKind::Panicked | ErrorKind::SizeMismatch) => assert!(done.buf.is_some()),
                    Err(ErrorKind::Lost) => {
                        assert!(done.buf.is_none(), "the device can still use the buffer");
                        lost += 1;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            assert!(sync.wait().is_ok_and(|()| true) || engine.info().reason.contains("panic"));
            assert_eq!(lost > 0, engine.stats().leaked > 0);
            assert_eq!((engine.stats().queued, engine.stats().in_flight), (0, 0));
            // Later calls fail, and none hangs.
            let kind_of = |error: crate::error::Error| error.kind();
            assert_eq!(file.read_at(vec![0u8; 10], 0).wait().result.map_err(kind_of), Err(ErrorKind::Panicked));
            assert_eq!(file.write_at(vec![0u8; 10], 0).wait().result.map_err(kind_of), Err(ErrorKind::Panicked));
            assert_eq!(file.sync_all().wait().map_err(kind_of), Err(ErrorKind::Panicked));
            assert_eq!(engine.read_file(&path, vec![0u8; 10]).wait().result.map_err(kind_of), Err(ErrorKind::Panicked));
            drop((file, engine));
            // What the process shares about the file is released.
            let other = Engine::builder().backend(kind).build().expect("an engine");
            let file = other.open(&path, options).expect("a file");
            file.write_at(vec![3u8; 9 << 20], 0).wait().result.expect("a write");
            file.set_len(8 << 20).wait().expect("a truncation");
            file.sync_all().wait().expect("a sync");
        }
    }
}
