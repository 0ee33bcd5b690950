//! Open files of an environment: opening, closing, and everything that is not a transfer.

use crate::convert::{Detail, Stat};
use crate::delivery::is_cancellation;
use crate::memory::View;
use crate::record::{self, Record};
use crate::session::{Session, unknown};
use crate::turns::Line;
use deepring::binding::{EngineBinding, FileBinding, Walk};
use deepring::{File, OpenOptions};
use napi::Env;
use napi::bindgen_prelude::*;
use napi_derive::napi;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

#[napi]
impl Session {
    // ---- files ----

    #[napi]
    pub fn open(
        &self,
        env: &Env,
        id: f64,
        engine: u32,
        path: View,
        flags: u32,
        direct: u32,
        mode: u32,
        sync_directory: bool,
        priority: u32,
    ) -> Result<()> {
        let options = record::open_options(flags, direct).mode(mode).sync_directory(sync_directory);
        let options = record::priority(priority).into_iter().fold(options, OpenOptions::priority);
        let engine = self.state.engine(engine)?;
        self.state.delivery.expect(env)?;
        let delivery = Arc::clone(&self.state.delivery);
        engine.open_then(path.to_path(), options, move |result| {
            // The file gets its number when its record is drained, on the thread that keeps the
            // table.
            delivery.push(Line::OTHER, Record::of(id as u64, result.map(|file| Some(Detail::File(file)))));
        });
        Ok(())
    }

    #[napi]
    pub fn sync(&self, env: &Env, id: f64, file: u32, data_only: bool) -> Result<()> {
        self.control(env, id, file, |file, canceled, then| file.sync_then(data_only, canceled, then))
    }

    #[napi]
    pub fn truncate(&self, env: &Env, id: f64, file: u32, size: f64) -> Result<()> {
        self.control(env, id, file, |file, canceled, then| file.set_len_then(size as u64, canceled, then))
    }

    /// Up to the end of the file if `length` is negative; one checksum if `chunk` is 0.
    #[napi]
    pub fn checksum(&self, env: &Env, id: f64, number: u32, position: f64, length: f64, chunk: f64, priority: u32) -> Result<()> {
        let files = self.state.files.borrow();
        let file = files.get(&number).ok_or_else(|| unknown("file", number))?;
        let walk = Walk {
            position: position as u64,
            length: (length >= 0.0).then_some(length as u64),
            chunk: (chunk > 0.0).then_some(chunk as u64),
            priority: record::priority(priority),
        };
        let (canceled, delivery) = (self.expect_control(env, id)?, Arc::clone(&self.state.delivery));
        file.checksum_then(walk, canceled, move |sums| {
            let one = |sums: Vec<u32>| sums.first().copied().unwrap_or(0);
            delivery.push(
                Line::Of(number),
                match walk.chunk {
                    None => Record::of_sum(id as u64, sums.map(one)),
                    Some(_) => Record::of(id as u64, sums.map(|sums| Some(Detail::Checksums(sums)))),
                },
            );
        });
        Ok(())
    }

    fn control(
        &self,
        env: &Env,
        id: f64,
        number: u32,
        run: impl FnOnce(&File, Arc<AtomicBool>, Box<dyn FnOnce(deepring::Result<()>) + Send>),
    ) -> Result<()> {
        let files = self.state.files.borrow();
        let file = files.get(&number).ok_or_else(|| unknown("file", number))?;
        let (canceled, delivery) = (self.expect_control(env, id)?, Arc::clone(&self.state.delivery));
        run(file, canceled, Box::new(move |result| delivery.push(Line::Of(number), Record::of(id as u64, result.map(|()| None)))));
        Ok(())
    }

    /// The flag that cancels a request without memory, whose record is due.
    pub(crate) fn expect_control(&self, env: &Env, id: f64) -> Result<Arc<AtomicBool>> {
        self.state.delivery.expect(env)?;
        let canceled = Arc::<AtomicBool>::default();
        self.state.controls.borrow_mut().insert(id as u64, Arc::clone(&canceled));
        Ok(canceled)
    }

    #[napi]
    pub fn stat(&self, env: &Env, id: f64, number: u32) -> Result<()> {
        let files = self.state.files.borrow();
        let file = files.get(&number).ok_or_else(|| unknown("file", number))?;
        self.state.delivery.expect(env)?;
        let delivery = Arc::clone(&self.state.delivery);
        file.stat_then(move |result| {
            delivery.push(Line::Of(number), Record::of(id as u64, result.map(|stat| Some(Detail::Stat(Stat::from(stat))))));
        });
        Ok(())
    }

    #[napi]
    pub fn close(&self, env: &Env, id: f64, number: u32) -> Result<()> {
        let file = self.state.files.borrow_mut().remove(&number).ok_or_else(|| unknown("file", number))?;
        self.state.shares.borrow_mut().remove(&number);
        self.state.delivery.expect(env)?;
        let delivery = Arc::clone(&self.state.delivery);
        file.close_then(move |result| {
            // Only an engine that shuts down cancels a close; the file is closed then, too.
            let result = result.or_else(|error| if is_cancellation(&error) { Ok(()) } else { Err(error) });
            delivery.push(Line::Of(number), Record::of(id as u64, result.map(|()| None)));
        });
        Ok(())
    }

    /// The flags of a record, for what runs now: a lost ring and a refusal of direct I/O show here.
    #[napi]
    pub fn file_flags(&self, number: u32) -> Result<u32> {
        let files = self.state.files.borrow();
        let file = files.get(&number).ok_or_else(|| unknown("file", number))?;
        let locks = if file.process_locks().available { record::FLAG_LOCKS } else { 0 };
        Ok(record::flags(file.direct(), file.backend()) | locks)
    }

    #[napi]
    pub fn file_descriptor(&self, number: u32) -> Result<i32> {
        let files = self.state.files.borrow();
        Ok(files.get(&number).ok_or_else(|| unknown("file", number))?.as_raw_fd())
    }
}
