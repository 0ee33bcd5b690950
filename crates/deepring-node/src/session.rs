//! [`Session`]: the state of one JavaScript environment: its engines, files, handles, groups, and
//! its list of records.
//!
//! Every asynchronous call takes an id and returns nothing; its outcome arrives through
//! [`Session::drain`]. Transfers are staged in JavaScript and cross with [`Session::flush`].

use crate::cancellations::Cancellations;
use crate::checkpoints::OpenCheckpoints;
use crate::convert::{Detail, Opened};
use crate::delivery::Delivery;
use crate::engines::release_default;
use crate::record::{self, RECORD};
use crate::shares::Share;
use crate::swap::OpenSwaps;
use crate::tensors::OpenTensors;
use crate::whole::Replacements;
use deepring::binding::{EngineBinding, Group, Handle, Name};
use deepring::{Engine, File};
use napi::Env;
use napi::bindgen_prelude::*;
use napi_derive::napi;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[napi]
pub struct Session {
    pub(crate) state: Rc<State>,
}

/// Engines, files and handles have numbers, which are never reused.
pub struct State {
    pub delivery: Arc<Delivery>,
    pub engines: RefCell<HashMap<u32, Engine>>,
    pub files: RefCell<HashMap<u32, File>>,
    /// Of the files that other environments can have open, too.
    pub shares: RefCell<HashMap<u32, Share>>,
    pub handles: RefCell<HashMap<u32, Arc<Handle>>>,
    /// Controls that can still be canceled, by the id of their record.
    pub controls: RefCell<HashMap<u64, Arc<AtomicBool>>>,
    /// What cancels transfers together.
    pub cancellations: RefCell<Cancellations>,
    /// Groups of transfers whose records have not been drained, by the id of the record.
    pub groups: RefCell<HashMap<u64, Arc<Group>>>,
    /// Names that are needed again after their request.
    pub names: RefCell<HashMap<u32, Name>>,
    /// Files that will take the place of others.
    pub replacements: RefCell<Replacements>,
    pub tensors: OpenTensors,
    pub checkpoints: OpenCheckpoints,
    pub swaps: OpenSwaps,
    details: RefCell<HashMap<u64, Detail>>,
    pub default: RefCell<Option<u32>>,
    next: RefCell<u32>,
    staged: RefCell<Vec<Engine>>,
}

impl State {
    pub fn number(&self) -> u32 {
        let mut next = self.next.borrow_mut();
        *next += 1;
        *next
    }

    pub fn engine(&self, number: u32) -> Result<Engine> {
        self.engines.borrow().get(&number).cloned().ok_or_else(|| unknown("engine", number))
    }

    pub fn handle(&self, number: u32) -> Option<Arc<Handle>> {
        self.handles.borrow().get(&number).cloned()
    }

    pub fn staged(&self, engine: &Engine) {
        let mut staged = self.staged.borrow_mut();
        if !staged.iter().any(|other| other.is_same(engine)) {
            staged.push(engine.clone());
        }
    }

    pub fn sweep(&self) {
        self.engines.borrow().values().for_each(Engine::sweep);
    }

    /// The environment is ending.
    fn tear_down(&self) {
        self.delivery.close();
        self.controls.borrow().values().for_each(|canceled| canceled.store(true, Ordering::Release));
        self.groups.borrow().values().for_each(|group| group.cancel());
        self.tensors.cancel();
        for engine in self.staged.borrow_mut().drain(..) {
            engine.wake();
        }
        self.sweep();
        self.delivery.wait_until_idle();
        self.shares.borrow_mut().clear();
        self.files.borrow_mut().clear();
        // Files that were opened and whose details were not fetched.
        self.delivery.clear();
        self.details.borrow_mut().clear();
        self.swaps.clear();
        self.tensors.clear();
        self.checkpoints.clear();
        self.replacements.borrow_mut().clear();
        self.groups.borrow_mut().clear();
        self.engines.borrow_mut().clear();
        if self.default.borrow_mut().take().is_some() {
            release_default();
        }
    }
}

pub fn unknown(what: &str, number: u32) -> Error {
    Error::new(Status::InvalidArg, format!("{what} {number} does not exist in this environment"))
}

#[napi]
impl Session {
    #[napi(constructor)]
    pub fn new(env: &Env) -> Result<Self> {
        let state = Rc::new(State {
            delivery: Arc::new(Delivery::new()),
            engines: RefCell::default(),
            files: RefCell::default(),
            shares: RefCell::default(),
            handles: RefCell::default(),
            controls: RefCell::default(),
            cancellations: RefCell::default(),
            groups: RefCell::default(),
            names: RefCell::default(),
            replacements: RefCell::default(),
            tensors: OpenTensors::default(),
            checkpoints: OpenCheckpoints::default(),
            swaps: OpenSwaps::default(),
            details: RefCell::default(),
            default: RefCell::default(),
            next: RefCell::default(),
            staged: RefCell::default(),
        });
        env.add_env_cleanup_hook(Rc::clone(&state), |state| state.tear_down())?;
        Ok(Self { state })
    }

    #[napi]
    pub fn attach(&self, env: &Env, wake: Function<'_, (), ()>) -> Result<()> {
        self.state.delivery.attach(env, &wake)
    }

    #[napi]
    pub fn drain(&self, env: &Env, mut records: Float64ArraySlice<'_>) -> Result<u32> {
        // SAFETY: the caller's array is written during this call only, on the thread that owns it.
        let numbers = unsafe { records.as_mut() };
        let mut details = Vec::new();
        let count = self.state.delivery.drain(env, numbers, &mut details)?;
        if !details.is_empty() {
            self.state.details.borrow_mut().extend(details);
        }
        let (mut controls, mut groups) = (self.state.controls.borrow_mut(), self.state.groups.borrow_mut());
        let mut jobs = self.state.tensors.jobs.borrow_mut();
        if !(controls.is_empty() && groups.is_empty() && jobs.is_empty()) {
            for drained in numbers.chunks_exact(RECORD).take(count) {
                let id = drained[record::ID] as u64;
                controls.remove(&id);
                groups.remove(&id);
                jobs.remove(&id);
            }
        }
        Ok(count as u32)
    }

    #[napi(ts_return_type = "unknown")]
    pub fn detail(&self, id: f64) -> Option<Detail> {
        let detail = self.state.details.borrow_mut().remove(&(id as u64))?;
        Some(match detail {
            Detail::File(file) => {
                let number = self.state.number();
                let opened = Opened::of(number, &file);
                self.state.files.borrow_mut().insert(number, file);
                Detail::Opened(opened)
            }
            Detail::Fresh(fresh) => self.state.register(*fresh),
            other => other,
        })
    }

    /// Wakes the drivers for what was submitted.
    pub(crate) fn wake(&self) {
        for engine in self.state.staged.borrow_mut().drain(..) {
            engine.wake();
        }
    }

    #[napi]
    pub fn block(&self, ids: Float64ArraySlice<'_>) {
        self.wake();
        self.state.delivery.wait_for(ids.iter().map(|&id| id as u64).collect());
    }

    /// Cancels the requests with these ids, and the transfers that were staged with this cancellation, if it is not 0. All at
    /// once: a sweep looks at every request of every engine.
    #[napi]
    pub fn cancel(&self, ids: Float64ArraySlice<'_>, cancellation: f64) {
        self.state.cancellations.borrow_mut().cancel(cancellation as u64);
        let (controls, groups) = (self.state.controls.borrow(), self.state.groups.borrow());
        let mut jobs = self.state.tensors.jobs.borrow_mut();
        let only_transfers = controls.is_empty() && groups.is_empty() && jobs.is_empty();
        let mut single: Vec<u64> = ids.iter().map(|&id| id as u64).collect();
        if !only_transfers {
            single.retain(|id| {
                if let Some(group) = groups.get(id) {
                    group.cancel();
                    return false;
                }
                if let Some(canceled) = controls.get(id) {
                    canceled.store(true, Ordering::Release);
                }
                jobs.remove(id);
                true
            });
        }
        drop((controls, groups, jobs));
        self.state.delivery.cancel(&single);
        self.wake();
        self.state.sweep();
    }

    /// The numbers of `record.rs`.
    #[napi(ts_return_type = "Record<string, Record<string, number>>")]
    pub fn layout(&self) -> HashMap<String, HashMap<String, u32>> {
        record::layout()
    }
}
