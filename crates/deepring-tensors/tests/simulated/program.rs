//! [`Program`]: what asks a store at random, and knows what it must find.

use crate::alone::{Flag, alone};
use crate::check::{Begun, Flushed, Histories, read, versions};
use crate::harness::Rng;
use crate::history::{ABSENT, History, PAGES_MAX, Version};
use deepring::OpenOptions;
use deepring::sim::Stage;
use deepring_tensors::swap::{SwapLease, SwapOptions, SwapPutOptions, SwapStore};
use deepring_tensors::{DType, Declared, Error, Slice, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const PAGE: usize = 4096;

/// Three tensors and two pins always fit.
const MEMORY_PAGES: u64 = 64;
const MANY_MAX: u64 = 3;
const PINS_MAX: usize = 2;

/// Unfinished requests and leases.
const RUNNING_MAX: usize = 10;
const HELD_MAX: usize = 6;

type Outcome<T> = Result<T, Error>;

/// What a request has brought.
enum Answer {
    Done(Outcome<()>),
    Leases(Outcome<Vec<SwapLease>>),
    Bytes(Outcome<Vec<u8>>),
    /// Of no interest.
    Any,
}

/// What was asked for, and when.
#[derive(Debug)]
enum Ask {
    /// Whether it is pinned on arrival, too.
    Put(String, bool),
    /// These bytes of a tensor.
    Slice(String, usize, Range<usize>),
    Get(Vec<(String, usize)>),
    Into(String, usize),
    Change(String, usize),
    Make(String, usize),
    Remove(String, usize),
    Evict(String, usize),
    Pin(String, usize),
    Flush(Begun),
    /// The file is read past the store.
    Outside,
}

struct Running {
    ask: Ask,
    job: Pin<Box<dyn Future<Output = Answer>>>,
    woken: Arc<Flag>,
}

/// A lease. One that writes has the name for itself.
struct Held {
    name: String,
    lease: SwapLease,
    version: Option<Vec<u8>>,
    writes: bool,
}

/// What runs have done.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) asked: u64,
    pub(crate) leases: u64,
    pub(crate) given_up: u64,
    pub(crate) kills: u64,
    pub(crate) torn: u64,
    pub(crate) reopened: u64,
    pub(crate) failed: u64,
    /// Runs that ended with a flush.
    pub(crate) flushed: u64,
    pub(crate) device_operations: u64,
    pub(crate) fingerprint: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.asked += other.asked;
        self.leases += other.leases;
        self.given_up += other.given_up;
        self.kills += other.kills;
        self.torn += other.torn;
        self.reopened += other.reopened;
        self.failed += other.failed;
        self.flushed += other.flushed;
        self.device_operations += other.device_operations;
        self.fingerprint ^= other.fingerprint;
    }

    /// That nothing is wrong with little is no proof.
    pub(crate) fn assert_that_it_proves_something(&self, runs: u64) {
        let Self { asked, leases, given_up, kills, torn, reopened, failed, flushed, device_operations, .. } = self;
        for (what, count) in [("leases", leases), ("given up", given_up), ("kills", kills), ("torn", torn), ("reopened", reopened)] {
            assert!(*count > runs / 4, "{what}: {self:?}");
        }
        assert!(*asked > 100 * runs && *failed > runs && *flushed > runs / 3 && *device_operations > 100 * runs, "{self:?}");
    }
}

pub(crate) struct Program {
    rng: Rng,
    place: PathBuf,
    options: SwapOptions,
    is_durable: bool,
    /// Of the engine that has the store.
    engine: usize,
    asks: u64,
    /// One move of the program in this number.
    pace: u64,
    next_number: u64,
    histories: Histories,
    /// Names that a request or a lease changes.
    changing: BTreeSet<String>,
    pins: Vec<String>,
    /// What the last flush has, and those that can be the last one.
    flushes: Vec<Flushed>,
    running: Vec<Running>,
    held: Vec<Held>,
    store: Option<SwapStore>,
    tally: Tally,
    // Dropped last.
    stage: Stage,
}

impl Program {
    pub(crate) fn new(seed: u64, place: &Path) -> Self {
        let mut rng = Rng::of(seed);
        let is_durable = rng.once_in(2);
        let memory = MEMORY_PAGES * PAGE as u64;
        let options = SwapOptions::new(memory).durable(is_durable).checksum(rng.once_in(2));
        let names = 2 + rng.below(9);
        let histories: Histories = (0..names).map(|nth| (format!("t{nth}"), History::new(ABSENT))).collect();
        let flushes = vec![Begun::now(&histories).flushed(&histories)];
        Self {
            place: place.to_owned(),
            options,
            is_durable,
            engine: 0,
            asks: *rng.pick(&[60, 150, 300, 600]),
            pace: *rng.pick(&[2, 5, 20, 100]),
            next_number: 1,
            histories,
            changing: BTreeSet::new(),
            pins: Vec::new(),
            flushes,
            running: Vec::new(),
            held: Vec::new(),
            store: None,
            tally: Tally::default(),
            stage: Stage::new(seed).expect("a stage"),
            rng,
        }
    }

    pub(crate) fn run(mut self) -> Result<Tally, String> {
        let ran = self.play();
        if ran.is_err() {
            // The store can be in any state.
            self.running.drain(..).for_each(std::mem::forget);
            self.held.drain(..).for_each(std::mem::forget);
            std::mem::forget(self.store.take());
        }
        let Self { stage, mut tally, .. } = self;
        tally.device_operations = stage.device_operations();
        tally.fingerprint = stage.fingerprint();
        ran?;
        stage.end()?;
        Ok(tally)
    }

    fn play(&mut self) -> Result<(), String> {
        let path = self.place.join("store");
        self.store = Some(self.open(&path, 0)?);
        self.stage.set_faults(true);
        while self.tally.asked < self.asks && self.store.is_some() {
            self.turn()?;
        }
        self.stage.set_faults(false);
        self.finish()
    }

    fn store(&self) -> SwapStore {
        self.store.clone().expect("an open store")
    }

    /// One move of the program, or of the world.
    fn turn(&mut self) -> Result<(), String> {
        self.settle()?;
        self.check_budget()?;
        if self.rng.once_in(self.pace) {
            self.tally.asked += 1;
            self.act()?;
        } else if !self.stage.step() {
            self.unblock()?;
        }
        self.stage.violation().map_or(Ok(()), Err)
    }

    /// Nothing moves any more: something waits for what the program has.
    fn unblock(&mut self) -> Result<(), String> {
        if self.running.iter().any(|running| running.woken.is_set()) {
            return Ok(());
        }
        if self.held.is_empty() && !self.running.is_empty() {
            let asks: Vec<&Ask> = self.running.iter().map(|running| &running.ask).collect();
            return Err(format!("these wait for ever: {asks:?}, {:?}", self.store.as_ref().map(SwapStore::stats)));
        }
        if self.held.is_empty() { self.act() } else { self.release() }
    }

    /// Polls what was woken.
    fn settle(&mut self) -> Result<(), String> {
        let mut nth = 0;
        while nth < self.running.len() {
            let running = &mut self.running[nth];
            if running.woken.take() {
                let waker = Waker::from(Arc::clone(&running.woken));
                if let Poll::Ready(answer) = running.job.as_mut().poll(&mut Context::from_waker(&waker)) {
                    let Running { ask, .. } = self.running.remove(nth);
                    self.answered(ask, answer)?;
                    continue;
                }
            }
            nth += 1;
        }
        Ok(())
    }

    /// Runs one job to its end.
    fn alone<T>(&mut self, job: impl Future<Output = T>) -> Result<T, String> {
        alone(&mut self.stage, job)
    }

    // ---- what it asks for ----

    fn any_name(&mut self) -> String {
        let names: Vec<&String> = self.histories.keys().collect();
        (*self.rng.pick(&names)).clone()
    }

    /// A name that nothing changes.
    fn quiet_name(&mut self) -> Option<String> {
        let names: Vec<&String> = self.histories.keys().filter(|name| !self.changing.contains(*name)).collect();
        (!names.is_empty()).then(|| (*self.rng.pick(&names)).clone())
    }

    fn version(&mut self, len: Option<usize>) -> Version {
        self.next_number += 1;
        let pages = 1 + self.rng.below(PAGES_MAX as u64) as usize;
        let any = match self.rng.below(8) {
            0 => 0,
            1 => 1 + self.rng.below(300) as usize,
            2 => pages * PAGE,
            _ => 1 + self.rng.below((pages * PAGE) as u64) as usize,
        };
        Version { number: self.next_number, len: len.unwrap_or(any) }
    }

    fn now(&self, name: &str) -> usize {
        self.histories[name].now()
    }

    fn begin(&mut self, ask: Ask, job: impl Future<Output = Answer> + 'static) {
        self.running.push(Running { ask, job: Box::pin(job), woken: Flag::new() });
    }

    fn act(&mut self) -> Result<(), String> {
        let is_free = self.running.len() < RUNNING_MAX;
        match self.rng.below(100) {
            0..22 if is_free => self.put(),
            22..42 if is_free && self.held.len() < HELD_MAX => self.get(),
            42..46 if is_free && self.held.len() < HELD_MAX => self.slice(),
            46..52 if is_free => self.into(),
            52..60 if is_free && self.held.len() < HELD_MAX => self.change(),
            60..63 if is_free => self.remove(),
            63..68 if is_free => self.evict(),
            68..71 if is_free => self.flush(),
            71..73 if is_free => self.pin(),
            73 => self.unpin(),
            74..77 => self.guess(),
            77..79 if is_free => self.look_past_it(),
            79..82 => return self.give_up(),
            82 => return self.kill(),
            83 if self.rng.once_in(3) => return self.reopen(),
            84..100 if !self.held.is_empty() => return self.release(),
            _ => {}
        }
        Ok(())
    }

    fn declared(name: &str, version: Version) -> Declared {
        Declared { name: name.to_owned(), dtype: DType::U8, shape: vec![version.len as u64] }
    }

    fn put(&mut self) {
        let Some(name) = self.quiet_name() else { return };
        let (version, store) = (self.version(None), self.store());
        self.changing.insert(name.clone());
        if self.rng.once_in(4) {
            let (ask, job) = (Ask::Make(name.clone(), self.now(&name)), store.lease(Self::declared(&name, version)));
            return self.begin(ask, async { Answer::Leases(job.await.map(|lease| vec![lease])) });
        }
        self.history(&name).comes(version);
        let pins = self.pinning() < PINS_MAX && self.rng.once_in(8);
        let (declared, options) = (Self::declared(&name, version), SwapPutOptions::new().pin(pins));
        if self.rng.once_in(4) {
            let mut data = self.stage.engine(self.engine).buffer(version.len).expect("memory");
            data.copy_from_slice(&version.content());
            let job = store.adopt(Source { declared, data }, options);
            return self.begin(Ask::Put(name, pins), async { Answer::Done(job.await) });
        }
        let job = store.put_with(Source { declared, data: version.content() }, options);
        self.begin(Ask::Put(name, pins), async { Answer::Done(job.await.map(drop)) });
    }

    /// A part that the newest version has.
    fn slice(&mut self) {
        let name = self.any_name();
        let len = self.histories[&name].newest().len as u64;
        let start = self.rng.below(len + 1);
        let range = start..start + self.rng.below(len - start + 1);
        let (ask, job) = (self.now(&name), self.store().get_slice(&name, Slice::new([Some(range.clone())])));
        let ask = Ask::Slice(name, ask, range.start as usize..range.end as usize);
        self.begin(ask, async { Answer::Leases(job.await.map(|lease| vec![lease])) });
    }

    fn get(&mut self) {
        let many = if self.rng.once_in(3) { 1 + self.rng.below(MANY_MAX) } else { 1 };
        let names: Vec<String> = (0..many).map(|_| self.any_name()).collect();
        let job = self.store().get_many(names.iter().map(String::as_str));
        let ask = names.into_iter().map(|name| (name.clone(), self.now(&name))).collect();
        self.begin(Ask::Get(ask), async { Answer::Leases(job.await) });
    }

    fn into(&mut self) {
        let name = self.any_name();
        let memory = vec![0xaa; self.histories[&name].newest().len];
        let (ask, job) = (Ask::Into(name.clone(), self.now(&name)), self.store().get_into(&name, memory));
        self.begin(ask, async { Answer::Bytes(job.await) });
    }

    fn change(&mut self) {
        let Some(name) = self.quiet_name() else { return };
        self.changing.insert(name.clone());
        let (ask, job) = (Ask::Change(name.clone(), self.now(&name)), self.store().get_mut(&name));
        self.begin(ask, async { Answer::Leases(job.await.map(|lease| vec![lease])) });
    }

    fn remove(&mut self) {
        let Some(name) = self.quiet_name() else { return };
        self.changing.insert(name.clone());
        let (begun, job) = (self.now(&name), self.store().remove(&name));
        self.history(&name).comes(ABSENT);
        self.begin(Ask::Remove(name, begun), async { Answer::Done(job.await) });
    }

    fn evict(&mut self) {
        let name = self.any_name();
        let (ask, job) = (Ask::Evict(name.clone(), self.now(&name)), self.store().evict(&name));
        self.begin(ask, async { Answer::Done(job.await) });
    }

    fn flush(&mut self) {
        let (ask, job) = (Ask::Flush(Begun::now(&self.histories)), self.store().flush());
        self.begin(ask, async { Answer::Done(job.await) });
    }

    fn pin(&mut self) {
        if self.pinning() >= PINS_MAX {
            return;
        }
        let name = self.any_name();
        let (ask, job) = (Ask::Pin(name.clone(), self.now(&name)), self.store().pin(&name));
        self.begin(ask, async { Answer::Done(job.await) });
    }

    /// Pins, and those that can come.
    fn pinning(&self) -> usize {
        self.pins.len() + self.running.iter().filter(|running| matches!(running.ask, Ask::Pin(..) | Ask::Put(_, true))).count()
    }

    fn unpin(&mut self) {
        if let Some(name) = self.pins.pop() {
            self.store().unpin(&name);
        }
    }

    fn guess(&mut self) {
        let names: Vec<String> = (0..=self.rng.below(5)).map(|_| self.any_name()).collect();
        let names = names.iter().map(String::as_str);
        match self.rng.below(3) {
            0 => self.store().prefetch(names, Duration::from_secs(1000)),
            1 => self.store().plan(names, self.rng.once_in(2)),
            _ => self.store().plan([], false),
        }
    }

    /// The file of the store is read by any engine, as a tool would.
    fn look_past_it(&mut self) {
        let engine = self.stage.engine(self.rng.below(2) as usize);
        let (path, position) = (self.place.join("store/data"), self.rng.below(40) * 1000);
        let memory = vec![0; self.rng.below(20_000) as usize];
        self.begin(Ask::Outside, async move {
            if let Ok(file) = engine.open_async(path, OpenOptions::new().read(true)).await {
                drop(file.read_at(memory, position).await);
            }
            Answer::Any
        });
    }

    fn history(&mut self, name: &str) -> &mut History {
        self.histories.get_mut(name).expect("a name")
    }

    // ---- what it gets ----

    /// Whether a request can fail like this, if it can find one of these versions.
    fn check_error(&self, error: &Error, begun: &[(String, usize)]) -> Result<(), String> {
        if let Error::NotFound { tensor } = error {
            let mut found = begun.iter().filter(|(name, _)| name == tensor);
            return if found.any(|(name, begun)| self.histories[name].since(*begun).contains(&ABSENT)) {
                Ok(())
            } else {
                Err(format!("{error}, which was there"))
            };
        }
        let never = matches!(
            error,
            Error::Budget { .. }
                | Error::Format { .. }
                | Error::Checksum { .. }
                | Error::Torn { .. }
                | Error::Busy { .. }
                | Error::Argument(_)
        );
        if never || error.code() == "ERR_DEEPRING_EOF" || !self.stage.has_failed() {
            return Err(format!("without a reason: {error}"));
        }
        Ok(())
    }

    fn answered(&mut self, ask: Ask, answer: Answer) -> Result<(), String> {
        if let Answer::Done(Err(_)) | Answer::Leases(Err(_)) | Answer::Bytes(Err(_)) = &answer {
            self.tally.failed += 1;
        }
        match (ask, answer) {
            (Ask::Put(name, pins), Answer::Done(done)) => {
                self.changing.remove(&name);
                self.history(&name).ended(done.is_ok())?;
                if pins && done.is_ok() {
                    self.pins.push(name);
                }
                done.or_else(|error| self.check_error(&error, &[]))
            }
            (Ask::Slice(name, begun, range), Answer::Leases(leases)) => match leases {
                Ok(mut leases) => {
                    let lease = leases.swap_remove(0);
                    self.history(&name).found_part(begun, range, lease.bytes()).map_err(|what| format!("{name}: {what}"))?;
                    self.hold(name, lease, false);
                    Ok(())
                }
                // It can have become shorter.
                Err(Error::Slice { .. }) if self.histories[&name].since(begun).len() > 1 => Ok(()),
                Err(error) => self.check_error(&error, &[(name, begun)]),
            },
            (Ask::Remove(name, begun), Answer::Done(done)) => {
                self.changing.remove(&name);
                if done.is_ok() {
                    self.pins.retain(|pinned| *pinned != name);
                }
                self.history(&name).ended(done.is_ok())?;
                done.or_else(|error| self.check_error(&error, &[(name, begun)]))
            }
            (Ask::Evict(name, begun), Answer::Done(done)) => match done {
                // A pin that is under way counts.
                Err(Error::Argument(_)) if self.can_be_pinned(&name) => Ok(()),
                done => done.or_else(|error| self.check_error(&error, &[(name, begun)])),
            },
            (Ask::Pin(name, begun), Answer::Done(done)) => match done {
                Ok(()) => {
                    self.pins.push(name);
                    Ok(())
                }
                Err(error) => self.check_error(&error, &[(name, begun)]),
            },
            (Ask::Flush(begun), Answer::Done(done)) => {
                let flushed = begun.flushed(&self.histories);
                match done {
                    Ok(()) => self.flushes = vec![flushed],
                    Err(error) => {
                        self.check_error(&error, &[])?;
                        if error.code() == "ERR_DEEPRING_UNCERTAIN" {
                            self.flushes.push(flushed);
                        }
                    }
                }
                Ok(())
            }
            (Ask::Into(name, begun), Answer::Bytes(bytes)) => match bytes {
                Ok(bytes) => self.found(&name, begun, Some(&bytes)),
                // Its length can have changed.
                Err(Error::Argument(_)) if self.histories[&name].since(begun).len() > 1 => Ok(()),
                Err(Error::NotFound { .. }) => self.found(&name, begun, None),
                Err(error) => self.check_error(&error, &[]),
            },
            (Ask::Get(asked), Answer::Leases(leases)) => match leases {
                Ok(leases) => {
                    for ((name, begun), lease) in asked.into_iter().zip(leases) {
                        self.found(&name, begun, Some(lease.bytes()))?;
                        self.hold(name, lease, false);
                    }
                    Ok(())
                }
                Err(error) => self.check_error(&error, &asked),
            },
            (Ask::Change(name, begun), Answer::Leases(leases)) => match leases {
                Ok(mut leases) => {
                    let lease = leases.swap_remove(0);
                    self.found(&name, begun, Some(lease.bytes()))?;
                    self.hold(name, lease, true);
                    Ok(())
                }
                Err(error) => {
                    self.changing.remove(&name);
                    self.check_error(&error, &[(name, begun)])
                }
            },
            (Ask::Make(name, begun), Answer::Leases(leases)) => match leases {
                Ok(mut leases) => {
                    let lease = leases.swap_remove(0);
                    if lease.bytes().iter().any(|byte| *byte != 0) {
                        return Err("a new lease is not all zeros".into());
                    }
                    self.hold(name, lease, true);
                    Ok(())
                }
                Err(error) => {
                    self.changing.remove(&name);
                    self.check_error(&error, &[(name, begun)])
                }
            },
            (Ask::Outside, Answer::Any) => Ok(()),
            _ => Err("another answer than was asked for".into()),
        }
    }

    fn can_be_pinned(&self, name: &String) -> bool {
        let comes = |running: &Running| matches!(&running.ask, Ask::Pin(other, _) | Ask::Put(other, true) if other == name);
        self.pins.contains(name) || self.running.iter().any(comes)
    }

    fn found(&mut self, name: &str, begun: usize, bytes: Option<&[u8]>) -> Result<(), String> {
        self.history(name).found(begun, bytes).map_err(|what| format!("{name}: {what}"))
    }

    fn hold(&mut self, name: String, lease: SwapLease, writes: bool) {
        self.tally.leases += 1;
        let version = (!writes).then(|| lease.bytes().to_vec());
        self.held.push(Held { name, lease, version, writes });
    }

    /// A lease ends. One that writes brings a version or is forgotten.
    fn release(&mut self) -> Result<(), String> {
        let nth = self.rng.below(self.held.len() as u64) as usize;
        let Held { name, mut lease, version, writes } = self.held.swap_remove(nth);
        if !writes {
            if version.as_deref() != Some(lease.bytes()) {
                return Err(format!("the bytes of a lease of {name} have changed"));
            }
            return lease.close(false).map_err(|error| error.to_string());
        }
        self.changing.remove(&name);
        let next = self.version(Some(lease.bytes().len()));
        let is_changed = self.rng.below(4) > 0;
        if is_changed {
            lease.bytes_mut().map_err(|error| error.to_string())?.copy_from_slice(&next.content());
        }
        if !is_changed || self.rng.once_in(3) {
            drop(lease);
            return Ok(());
        }
        self.history(&name).comes(next);
        let closed = lease.close(true);
        // The error is that of an earlier write.
        self.history(&name).ended(true)?;
        closed.or_else(|error| self.check_error(&error, &[]))
    }

    /// The budget holds, and knows of what is leased.
    fn check_budget(&self) -> Result<(), String> {
        let Some(store) = &self.store else { return Ok(()) };
        let stats = store.stats();
        let of = |held: &Held| (held.lease.bytes().as_ptr() as usize, held.lease.bytes().len().next_multiple_of(PAGE) as u64);
        // Leases of one version share its memory.
        let held: BTreeMap<usize, u64> = self.held.iter().map(of).filter(|(_, bytes)| *bytes > 0).collect();
        let leased: u64 = held.values().sum();
        if stats.used > stats.memory || stats.used_max > stats.memory || leased > stats.used {
            return Err(format!("{leased} bytes are leased: {stats:?}"));
        }
        Ok(())
    }

    // ---- ends ----

    /// A job is dropped.
    fn give_up(&mut self) -> Result<(), String> {
        if self.running.is_empty() {
            return Ok(());
        }
        let nth = self.rng.below(self.running.len() as u64) as usize;
        let Running { ask, job, .. } = self.running.swap_remove(nth);
        drop(job);
        self.tally.given_up += 1;
        match ask {
            Ask::Put(name, _) | Ask::Remove(name, _) => {
                self.changing.remove(&name);
                self.history(&name).ended(false)?;
            }
            Ask::Change(name, _) | Ask::Make(name, _) => drop(self.changing.remove(&name)),
            // It can be the last one by now.
            Ask::Flush(begun) => self.flushes.push(begun.flushed(&self.histories)),
            _ => {}
        }
        Ok(())
    }

    /// The flushes that a store can be of that is left now.
    fn possible(&self) -> Vec<Flushed> {
        let begun = self.running.iter().filter_map(|running| match &running.ask {
            Ask::Flush(begun) => Some(begun.flushed(&self.histories)),
            _ => None,
        });
        self.flushes.iter().cloned().chain(begun).collect()
    }

    /// What a process would leave that is killed now is looked at elsewhere.
    fn kill(&mut self) -> Result<(), String> {
        self.tally.kills += 1;
        let (from, to) = (self.place.join("store"), self.place.join("left"));
        std::fs::create_dir(&to).expect("a directory");
        for entry in std::fs::read_dir(&from).expect("the store") {
            let entry = entry.expect("an entry");
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
        self.stage.set_faults(false);
        let possible = self.possible();
        self.left(&to, &possible).map_err(|what| format!("after a kill, {what}"))?;
        self.stage.set_faults(true);
        std::fs::remove_dir_all(to).expect("removed");
        Ok(())
    }

    /// Opens a store that was left, and checks that it is one of these. Returns it, and its versions.
    fn left(&mut self, path: &Path, possible: &[Flushed]) -> Result<(SwapStore, BTreeMap<String, Version>), String> {
        let options = self.options.clone().create(false);
        let store = loop {
            let engine = self.stage.engine(self.engine);
            match self.alone(SwapStore::open(&engine, path, options.clone()))? {
                // The work of the one before.
                Err(Error::Busy { .. }) if self.stage.step() => {}
                Err(Error::Torn { .. }) if !self.is_durable => {
                    self.tally.torn += 1;
                    let versions = self.histories.keys().map(|name| (name.clone(), ABSENT)).collect();
                    return Ok((self.open(path, self.engine)?, versions));
                }
                opened => break opened.map_err(|error| format!("it cannot be opened: {error}"))?,
            }
        };
        let names = self.histories.keys().cloned().collect();
        let found = self.alone(read(&store, names))?.map_err(|error| error.to_string())?;
        let versions = possible.iter().find_map(|flushed| versions(&found, flushed));
        let what: Vec<_> = found.iter().map(|(name, bytes)| (name, self.histories[name].describe(bytes.as_deref()))).collect();
        let versions = versions.ok_or_else(|| format!("the store is of no one flush: {what:?}, and not {possible:?}"))?;
        Ok((store, versions))
    }

    /// Begins a store.
    fn open(&mut self, path: &Path, engine: usize) -> Result<SwapStore, String> {
        let (engine, options) = (self.stage.engine(engine), self.options.clone().create(true));
        self.alone(SwapStore::open(&engine, path, options))?.map_err(|error| format!("no store can be begun: {error}"))
    }

    /// Drops the store and all that uses it, and opens it again, perhaps with another engine.
    fn reopen(&mut self) -> Result<(), String> {
        self.tally.reopened += 1;
        let possible = self.possible();
        self.drop_all();
        self.stage.set_faults(false);
        self.engine = self.rng.below(2) as usize;
        let path = self.place.join("store");
        let (store, versions) = self.left(&path, &possible).map_err(|what| format!("opened again, {what}"))?;
        self.stage.set_faults(true);
        self.store = Some(store);
        self.histories = versions.into_iter().map(|(name, version)| (name, History::new(version))).collect();
        self.flushes = vec![Begun::now(&self.histories).flushed(&self.histories)];
        Ok(())
    }

    fn drop_all(&mut self) {
        if self.rng.once_in(2) {
            self.rng.shuffle(&mut self.running);
        }
        self.running.clear();
        self.held.clear();
        self.changing.clear();
        self.pins.clear();
        self.store = None;
    }

    /// Everything ends in order, and is there again.
    fn finish(&mut self) -> Result<(), String> {
        while !self.held.is_empty() || !self.running.is_empty() {
            self.settle()?;
            self.check_budget()?;
            if !self.stage.step() {
                self.unblock()?;
            }
            if let Some(what) = self.stage.violation() {
                return Err(what);
            }
        }
        while let Some(name) = self.pins.pop() {
            self.store().unpin(&name);
        }
        let (names, store) = (self.histories.keys().cloned().collect(), self.store());
        match self.alone(read(&store, names))? {
            Ok(found) => {
                for (name, bytes) in found {
                    let now = self.now(&name);
                    self.found(&name, now, bytes.as_deref())?;
                }
            }
            Err(error) => self.check_error(&error, &[])?,
        }
        let flush = self.store().flush();
        let mut flushed = self.alone(flush)?;
        // Each error is reported once.
        for _ in 0..2 * self.histories.len() {
            if flushed.is_err() {
                let flush = self.store().flush();
                flushed = self.alone(flush)?;
            }
        }
        let Err(error) = flushed else {
            self.tally.flushed += 1;
            self.store = None;
            self.alone(store.close())?.map_err(|error| format!("a flushed store cannot be closed: {error}"))?;
            let flushed = Begun::now(&self.histories).flushed(&self.histories);
            self.engine = 1 - self.engine;
            let path = self.place.join("store");
            let left = self.left(&path, &[flushed]);
            return left.map(drop).map_err(|what| format!("closed and opened again, {what}"));
        };
        self.drop_all();
        self.check_error(&error, &[])
    }
}
