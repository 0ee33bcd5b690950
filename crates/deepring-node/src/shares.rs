//! Files that several environments of the process have open: one descriptor, one inode, one direct I/O.
//!
//! ```text
//!   share ──► token ──posted──► open_shared
//!     │                              │
//!     └── Share ──► File ◄── Share ──┘      SHARED knows it weakly: it is there as long as one of them has it
//! ```
//!
//! Each environment has a clone of the file in its table, which its requests use. A share keeps one more clone, so that others can
//! be made of it. An environment gives its share up before it closes its own clone: then the last to close closes the descriptor,
//! and learns how that went.

use crate::convert::Opened;
use crate::delivery::lock;
use crate::engines;
use crate::session::{Session, State, unknown};
use deepring::binding::EngineBinding;
use deepring::{Engine, File};
use napi::bindgen_prelude::*;
use napi_derive::napi;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, LazyLock, Mutex, Weak};

/// What others need to open the file is in the facade's token; this is its key.
type Token = u64;

struct Shared {
    files: HashMap<Token, Weak<File>>,
    next: Token,
}

/// Tokens begin at random, because another copy of the binary in this process has tokens, too.
static SHARED: LazyLock<Mutex<Shared>> = LazyLock::new(|| {
    // Far below the largest integer of JavaScript.
    let next = RandomState::new().build_hasher().finish() >> 12;
    Mutex::new(Shared { files: HashMap::new(), next })
});

/// What an environment holds of a file that it shares.
pub struct Share {
    token: Token,
    _file: Arc<File>,
}

impl Share {
    fn of(file: &File) -> deepring::Result<Self> {
        let file = Arc::new(file.try_clone()?);
        let mut shared = lock(&SHARED);
        shared.files.retain(|_, file| file.strong_count() > 0);
        let token = shared.next;
        shared.next += 1;
        shared.files.insert(token, Arc::downgrade(&file));
        Ok(Self { token, _file: file })
    }
}

/// A file of another environment.
#[napi(object)]
pub struct OpenedShared {
    pub opened: Opened,
    /// Its engine, by the number that it has here; 0 stands for the default engine.
    pub engine: u32,
}

impl State {
    /// The number of an engine that another environment can have made.
    fn number_of(&self, engine: &Engine) -> u32 {
        if engines::is_default(engine) {
            return 0;
        }
        let known = self.engines.borrow().iter().find(|(_, other)| other.is_same(engine)).map(|(&number, _)| number);
        known.unwrap_or_else(|| {
            let number = self.number();
            self.engines.borrow_mut().insert(number, engine.clone());
            number
        })
    }
}

#[napi]
impl Session {
    /// The token of an open file, which is the same each time.
    #[napi]
    pub fn share_file(&self, number: u32) -> Result<f64> {
        let mut shares = self.state.shares.borrow_mut();
        if let Some(share) = shares.get(&number) {
            return Ok(share.token as f64);
        }
        let files = self.state.files.borrow();
        let file = files.get(&number).ok_or_else(|| unknown("file", number))?;
        let share = Share::of(file).map_err(|error| Error::from_reason(error.to_string()))?;
        let token = share.token;
        shares.insert(number, share);
        Ok(token as f64)
    }

    /// Nothing if all have closed the file.
    #[napi]
    pub fn open_shared(&self, token: f64) -> Option<OpenedShared> {
        let token = token as Token;
        let file = lock(&SHARED).files.get(&token).and_then(Weak::upgrade)?;
        let own = file.try_clone().ok()?;
        let number = self.state.number();
        let opened = OpenedShared { opened: Opened::of(number, &own), engine: self.state.number_of(own.engine()) };
        self.state.shares.borrow_mut().insert(number, Share { token, _file: file });
        self.state.files.borrow_mut().insert(number, own);
        Some(opened)
    }
}
