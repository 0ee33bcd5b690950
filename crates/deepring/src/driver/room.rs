//! Writes and the end of their file: claiming it before the first block, and putting it in order after the last.
//!
//! Both steps are carried out by blocking threads: see [`crate::extend`].

use super::Driver;
use super::flows::Hold;
use super::message::Answer;
use super::request::{Claim, Event, Phase, Waiting};
use crate::blocking::Line;
use crate::error::{Error, ErrorKind};
use crate::extend;
use crate::inode::{Access, Extension, GiveUp};
use crate::open::OpenFile;
use crate::slots::Key;
use crate::stats::add;
use std::mem;
use std::sync::Arc;

impl Driver {
    /// Makes a write active in its inode and, if it extends the file, asks for room. Returns whether blocks can go now.
    pub(super) fn activate(&mut self, key: Key) -> bool {
        let request = &mut self.requests[key];
        let file = &request.file;
        if request.awaits_end {
            self.make_room(key);
            return false;
        }
        if file.inode.enter_write((Arc::clone(&self.retry_request), key)) == Access::Queued {
            request.step(Event::Queued(Waiting::Truncation));
            return false;
        }
        if let Claim::Accepted(accepted) = request.claim {
            request.claim = Claim::Active(accepted);
        }
        let unit = file.padding_unit();
        let is_empty = request.submission.len == 0;
        let is_short = request.end().next_multiple_of(unit) > file.inode.size() || file.inode.is_in_doubt();
        let extends = request.is_whole() || !is_empty && is_short;
        if file.is_block_device {
            return true;
        }
        if extends {
            self.make_room(key);
            return false;
        }
        if file.space.must_be_checked(request.submission.len, file.inode.has_holes(), self.now) {
            self.check_room(key);
            return false;
        }
        true
    }

    /// Asks a blocking thread whether there is room for a write inside the file, where that can have no space yet.
    fn check_room(&mut self, key: Key) {
        let request = &mut self.requests[key];
        request.step(Event::NeedsRoom);
        let queue = &mut self.queues[request.queue];
        queue.making_room += 1;
        queue.schedule.hold(request.flow, Hold::Room);
        let (file, position, end) = (Arc::clone(&request.file), request.submission.position, request.end());
        self.ask(Line::Mount(file.fate), move || {
            Answer::RoomMade(key, extend::check_room(&file, position, end).map(|()| None).map_err(extend::error_of))
        });
    }

    /// Asks a blocking thread to claim the end of the file, unless another copy of the engine holds it.
    fn make_room(&mut self, key: Key) {
        if self.enter_end(key) { self.make_room_entered(key) } else { self.wait_for_end(key) }
    }

    fn make_room_entered(&mut self, key: Key) {
        let request = &mut self.requests[key];
        request.step(Event::NeedsRoom);
        request.awaits_end = false;
        let queue = &mut self.queues[request.queue];
        queue.making_room += 1;
        queue.schedule.hold(request.flow, Hold::Room);
        let (file, position, end) = (Arc::clone(&request.file), request.submission.position, request.end());
        self.ask(Line::Mount(file.fate), move || {
            let extension = extend::begin(&file, position, end);
            match &extension {
                Ok(_) => file.inode.trust_size(),
                Err(_) => file.inode.leave_end(),
            }
            Answer::RoomMade(key, extension.map(Some).map_err(extend::error_of))
        });
    }

    /// The file ends nearer than was known when this edge was planned, so its write will move the end. The edge waits in
    /// flight, with its lock and its place; the thread that makes the claim waits for neither.
    pub(super) fn claim_late(&mut self, edge: Key) {
        let key = self.blocks[edge].request;
        let request = &mut self.requests[key];
        if request.phase() == Phase::MakingRoom {
            return request.late_edges.push(edge);
        }
        self.unqueue(key);
        if self.enter_end(key) {
            self.requests[key].late_edges.push(edge);
            self.make_room_entered(key);
        } else {
            self.replan(edge);
        }
    }

    /// Another copy of the engine holds the end of the file. It can also wait for what this edge has locked, so the edge
    /// is given up and planned again.
    fn replan(&mut self, edge: Key) {
        let offset = self.blocks[edge].extent.offset;
        let key = self.drop_block(edge);
        let request = &mut self.requests[key];
        request.cursor = request.cursor.min(offset);
        self.wait_for_end(key);
    }

    pub(super) fn room_made(&mut self, key: Key, result: Result<Option<Extension>, Error>) {
        let request = &mut self.requests[key];
        let queue = &mut self.queues[request.queue];
        queue.making_room -= 1;
        queue.schedule.release(request.flow, Hold::Room);
        request.step(Event::RoomMade);
        let edges = mem::take(&mut request.late_edges);
        match result {
            Ok(extension) => {
                if let (Some(accepted), Some(extension)) = (request.claim.accepted(), extension) {
                    request.claim = Claim::Extending { accepted, extension, edge: None };
                    if extension.exact && request.file.downgrade() {
                        add(&self.core.counters.downgraded, 1);
                    }
                }
                for edge in edges {
                    self.write_edge(edge);
                }
            }
            Err(error) if edges.is_empty() => request.fail(request.cursor, error),
            Err(error) => {
                for edge in edges {
                    let offset = self.blocks[edge].extent.offset;
                    self.requests[key].fail(offset, error.clone());
                    self.drop_block(edge);
                }
            }
        }
        if self.requests[key].is_over() { self.conclude_unqueued(key) } else { self.ready(key) }
    }

    /// Puts the end of the file in order after the last block of a write. Returns whether it is in order now; else a
    /// blocking thread sees to it.
    pub(super) fn release_end(&mut self, key: Key) -> bool {
        let request = &mut self.requests[key];
        if request.is_whole() && !request.claim.is_active() && !request.has_failed() {
            // It never began. With no bytes to miss, that would look like success.
            request.fail(0, Error::new(ErrorKind::Canceled, "write"));
        }
        let reached = match request.transferred() {
            0 => 0,
            transferred => request.submission.position + transferred,
        };
        let (file, is_whole, by_path) = (Arc::clone(&request.file), request.is_whole(), request.is_by_path());
        // One job for both: after it nothing of the process holds the file.
        let close = move |file: &OpenFile, trimmed: Result<(), Error>| if by_path { trimmed.and(file.close()) } else { trimmed };
        let succeeded = !request.has_failed() && request.is_issued();
        match request.claim {
            Claim::None => true,
            Claim::Extending { accepted, .. } => {
                request.step(Event::NeedsTrim);
                self.ask(Line::Mount(file.fate), move || {
                    let trimmed = extend::finish(&file, reached, accepted, is_whole && succeeded);
                    file.inode.leave_end();
                    Answer::Trimmed(key, close(&file, trimmed))
                });
                false
            }
            Claim::Accepted(accepted) | Claim::Active(accepted) => match file.inode.give_up_end(accepted, reached) {
                GiveUp::Done(_) => {
                    request.claim = request.claim.without_end();
                    true
                }
                GiveUp::MustTrim => {
                    request.step(Event::NeedsTrim);
                    self.ask(Line::Mount(file.fate), move || Answer::Trimmed(key, close(&file, extend::abandon(&file, reached, accepted))));
                    false
                }
            },
        }
    }

    pub(super) fn trimmed(&mut self, key: Key, result: Result<(), Error>) {
        let request = &mut self.requests[key];
        debug_assert_eq!(request.phase(), Phase::Trimming);
        request.claim = request.claim.without_end();
        if let Err(error) = result {
            // The bytes are where they belong, the length is not: a failure at the end of what was asked.
            request.fail(request.submission.len, error);
        }
        self.settle(key);
    }
}
