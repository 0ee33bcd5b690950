//! Memory of leases on both sides of the boundary: JavaScript has it until the lease ends, and it is the store's again then.

use crate::memory::{Tenant, View, detach, expose_external, over_allocated, unexpose};
use deepring_tensors::binding::Lent;
use napi::bindgen_prelude::*;
use napi::sys;
use std::ptr;

/// Memory that an `ArrayBuffer` shows, or has a copy of where the runtime refuses external memory.
pub struct Shown {
    tenant: Option<Tenant>,
    address: u64,
    len: usize,
}

impl Shown {
    /// Makes it a `Uint8Array`.
    pub fn of(env: sys::napi_env, Lent { memory, address, len }: Lent) -> Result<(sys::napi_value, Self)> {
        if let Some((array, tenant)) = expose_external(env, memory, address, len, None)? {
            return Ok((array, Self { tenant: Some(tenant), address, len }));
        }
        let (array, data) = over_allocated(env, len)?;
        // SAFETY: the lease has the memory until it ends, on this thread; the runtime's was made a moment ago, with as many bytes.
        unsafe { ptr::copy_nonoverlapping(address as *const u8, data, len) };
        Ok((array, Self { tenant: None, address, len }))
    }

    /// Detaches the `Uint8Array`. With `write`, its bytes are those of the lease, which has not ended.
    pub fn withdraw(self, env: sys::napi_env, view: &View, write: bool) -> Result<()> {
        let Self { tenant, address, len } = self;
        if write && tenant.is_none() {
            view.read(|bytes| {
                // SAFETY: the lease has the memory, and can change it; a copy of it in the runtime's memory is apart from it.
                unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), address as *mut u8, len.min(bytes.len())) };
            });
        }
        detach(env, view)?;
        tenant.into_iter().for_each(unexpose);
        Ok(())
    }
}
