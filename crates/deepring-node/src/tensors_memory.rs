//! Memory that jobs have brought, until JavaScript takes it over.
//!
//! It becomes an `ArrayBuffer` when JavaScript first looks at it. Each `ArrayBuffer` counts against the limits of the garbage
//! collector at once, and so many together make it collect, which the event loop waits for. What is here does not count
//! until the next load begins: then the collector hears of all that earlier loads have left here, in one sum, so that a
//! program that drops its models without a look at them is collected, too.

use crate::memory::{RawValue, expose_with};
use crate::session::{Session, unknown};
use deepring::Buffer;
use deepring_tensors::binding::Permit;
use napi::Env;
use napi::bindgen_prelude::*;
use napi_derive::napi;
use std::collections::HashMap;

/// The memory of an environment, by its numbers.
#[derive(Default)]
pub struct Memories {
    held: HashMap<u32, Held>,
    /// Loaded since the garbage collector was told.
    untold: Vec<u32>,
}

struct Held {
    buffer: Buffer,
    /// Its share of a stream's budget. What has none was loaded.
    permit: Option<Permit>,
    /// Bytes of it that count for the garbage collector.
    told: i64,
}

impl Memories {
    pub fn insert(&mut self, number: u32, buffer: Buffer, permit: Option<Permit>) {
        if permit.is_none() {
            self.untold.push(number);
        }
        self.held.insert(number, Held { buffer, permit, told: 0 });
    }

    /// Tells the garbage collector of what was loaded.
    pub fn tell(&mut self, env: &Env) -> Result<()> {
        let mut sum = 0;
        for number in self.untold.drain(..) {
            if let Some(held) = self.held.get_mut(&number) {
                held.told = held.buffer.len() as i64;
                sum += held.told;
            }
        }
        if sum > 0 {
            env.adjust_external_memory(sum)?;
        }
        Ok(())
    }

    fn remove(&mut self, env: &Env, number: u32) -> Result<Option<Held>> {
        let held = self.held.remove(&number);
        if let Some(told) = held.as_ref().map(|held| held.told).filter(|&told| told > 0) {
            env.adjust_external_memory(-told)?;
        }
        Ok(held)
    }

    pub fn clear(&mut self) {
        self.held.clear();
    }
}

#[napi]
impl Session {
    /// Takes over memory that a job has brought. It goes back as that of `allocate` does.
    #[napi(ts_return_type = "Uint8Array<ArrayBuffer>")]
    pub fn take_memory(&self, env: &Env, memory: u32) -> Result<RawValue> {
        let taken = self.state.tensors.memories.borrow_mut().remove(env, memory)?;
        let Held { buffer, permit, .. } = taken.ok_or_else(|| unknown("memory", memory))?;
        Ok(RawValue::of(expose_with(env.raw(), buffer, permit)?))
    }

    /// Gives back memory that was not taken over.
    #[napi]
    pub fn drop_memory(&self, env: &Env, memory: u32) -> Result<()> {
        let dropped = self.state.tensors.memories.borrow_mut().remove(env, memory)?;
        drop(dropped);
        Ok(())
    }
}
