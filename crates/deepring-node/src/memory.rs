//! Memory on both sides of the boundary: the address of a view, and engine memory as an
//! ArrayBuffer.
//!
//! Engine memory becomes an external ArrayBuffer. It is held by the ArrayBuffer (until its
//! finalizer or `release`), by every transfer in flight on it, and by nothing else. The address
//! of a view decides whether it is engine memory. So the answer is right for every ArrayBuffer
//! that owns the memory at some time (`transfer()` moves it to a new one).
//!
//! Runtimes that refuse external memory (Electron) get an ordinary ArrayBuffer, large enough for
//! an aligned view. That is memory of the runtime: detaching it frees it, also under a transfer.
//! So it is not engine memory (`is_allocated` is false), and `lib/memory/buffer.ts` detaches it
//! only when no request uses it.

use crate::failure::Failure;
use crate::record::Record;
use crate::session::Session;
use crate::tensors_job::Landing;
use crate::turns::Line;
use deepring::binding::{EngineBinding, MemoryLease};
use deepring::{Buffer, IoBuf, IoBufMut, crc32c_append, crc32c_combine};
use deepring_tensors::binding::Permit;
use napi::Env;
use napi::bindgen_prelude::*;
use napi::sys;
use napi_derive::napi;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::ffi::c_void;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The alignment promised for memory we allocate.
const PAGE_BYTES: usize = 4096;

/// Memory that JavaScript holds. Process-wide: an ArrayBuffer can move to another thread.
static EXPOSED: Mutex<BTreeMap<Tenant, Exposed>> = Mutex::new(BTreeMap::new());

/// The address of an `ArrayBuffer`, and a number that distinguishes those that have it: one after the other, or, of leases that
/// only read, at once.
pub type Tenant = (u64, u64);

struct Exposed {
    lease: MemoryLease,
    /// Its share of a budget, which goes back with it.
    _permit: Option<Permit>,
}

fn exposed() -> MutexGuard<'static, BTreeMap<Tenant, Exposed>> {
    EXPOSED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A view of memory as it crosses the boundary: address and length, nothing that can be
/// dereferenced by accident.
#[derive(Clone, Copy)]
pub struct View {
    pub address: u64,
    pub len: u64,
    array_buffer: sys::napi_value,
}

impl TypeName for View {
    fn type_name() -> &'static str {
        "Uint8Array"
    }

    fn value_type() -> ValueType {
        ValueType::Object
    }
}

impl ValidateNapiValue for View {}

impl FromNapiValue for View {
    unsafe fn from_napi_value(env: sys::napi_env, value: sys::napi_value) -> Result<Self> {
        let mut kind = 0;
        let (mut len, mut offset) = (0usize, 0usize);
        let mut data: *mut c_void = ptr::null_mut();
        let mut array_buffer = ptr::null_mut();
        // SAFETY: all out-pointers are locals; for a value that is not a typed array, the call
        // fails.
        let status = unsafe {
            sys::napi_get_typedarray_info(env, value, &raw mut kind, &raw mut len, &raw mut data, &raw mut array_buffer, &raw mut offset)
        };
        check_status!(status, "expected a Uint8Array")?;
        Ok(Self { address: data as u64, len: len as u64, array_buffer })
    }
}

/// The memory of a view, on any thread.
struct Memory {
    address: u64,
    len: u64,
}

impl Memory {
    /// The checksum of the bytes, after those of `seed`.
    ///
    /// # Safety
    /// The memory stays in place during the call, and nothing writes to it.
    unsafe fn append_to(&self, seed: u32) -> u32 {
        if self.len == 0 {
            return seed;
        }
        // SAFETY: passed on from the caller of this function.
        crc32c_append(seed, unsafe { std::slice::from_raw_parts(self.address as *const u8, self.len as usize) })
    }
}

/// Views of an array, one after the other.
pub struct Elements {
    env: sys::napi_env,
    array: sys::napi_value,
    next: u32,
}

impl Elements {
    pub fn of(array: &Object<'_>) -> Self {
        let value = array.value();
        Self { env: value.env, array: value.value, next: 0 }
    }

    /// The next view. Fails where there is none.
    pub fn next(&mut self) -> Result<View> {
        let mut value = ptr::null_mut();
        // SAFETY: the array is an argument of the call in progress; the out-pointer is a local.
        let status = unsafe { sys::napi_get_element(self.env, self.array, self.next, &raw mut value) };
        check_status!(status, "expected an array of Uint8Arrays")?;
        self.next += 1;
        // SAFETY: a value of this call.
        unsafe { View::from_napi_value(self.env, value) }
    }
}

impl View {
    /// A lease on this view's memory, if all of it is engine memory.
    pub fn lease(&self) -> Option<MemoryLease> {
        let exposed = exposed();
        let (_, candidate) = exposed.range(..=(self.address, u64::MAX)).next_back()?;
        let end = candidate.lease.address() + candidate.lease.bytes();
        (self.len > 0 && self.address + self.len <= end).then(|| candidate.lease.clone())
    }

    /// Whether all of it is memory of this lease.
    pub fn lies_in(&self, lease: &MemoryLease) -> bool {
        self.len > 0 && self.address >= lease.address() && self.address + self.len <= lease.address() + lease.bytes()
    }

    fn memory(&self) -> Memory {
        Memory { address: self.address, len: self.len }
    }

    /// Reads the bytes.
    pub fn read<T>(self, with: impl FnOnce(&[u8]) -> T) -> T {
        if self.len == 0 {
            return with(&[]);
        }
        // SAFETY: read during the call that passed the view in, on the thread that owns it;
        // nothing detaches it in between.
        with(unsafe { std::slice::from_raw_parts(self.address as *const u8, self.len as usize) })
    }

    /// A copy of the bytes.
    pub fn to_vec(self) -> Vec<u8> {
        self.read(<[u8]>::to_vec)
    }

    /// The path whose bytes these are.
    pub fn to_path(self) -> PathBuf {
        Path::new(OsStr::from_bytes(&self.to_vec())).to_path_buf()
    }
}

/// Exposes a buffer whose bytes do not matter to JavaScript as a `Uint8Array` of its length.
pub fn expose(env: sys::napi_env, buffer: Buffer) -> Result<sys::napi_value> {
    let len = buffer.len();
    match expose_external(env, MemoryLease::of(&buffer), buffer.as_ptr() as u64, len, None)? {
        Some((array, _)) => Ok(array),
        None => Ok(over_allocated(env, len)?.0),
    }
}

/// The same of one whose bytes matter.
pub fn expose_with(env: sys::napi_env, buffer: Buffer, permit: Option<Permit>) -> Result<sys::napi_value> {
    if let Some((array, _)) = expose_external(env, MemoryLease::of(&buffer), buffer.as_ptr() as u64, buffer.len(), permit)? {
        return Ok(array);
    }
    let (array, data) = over_allocated(env, buffer.len())?;
    // SAFETY: the runtime's memory was made a moment ago, and has as many bytes from here on.
    unsafe { ptr::copy_nonoverlapping(buffer.as_ptr(), data, buffer.len()) };
    Ok(array)
}

/// The bytes from `address` on, which lie in the memory of the lease. `None` if the runtime refuses external memory.
pub fn expose_external(
    env: sys::napi_env,
    lease: MemoryLease,
    address: u64,
    len: usize,
    permit: Option<Permit>,
) -> Result<Option<(sys::napi_value, Tenant)>> {
    let tenancy = next_tenancy();
    let tenant = (address, tenancy);
    exposed().insert(tenant, Exposed { lease, _permit: permit });
    let (data, hint) = (address as *mut c_void, tenancy as *mut c_void);
    let mut array_buffer = ptr::null_mut();
    // SAFETY: `EXPOSED` holds the memory until the finalizer or `release`. The hint is a number,
    // not a pointer.
    let status = unsafe { sys::napi_create_external_arraybuffer(env, data, len, Some(finalize), hint, &raw mut array_buffer) };
    match status {
        sys::Status::napi_ok => uint8_array(env, array_buffer, 0, len).map(|array| Some((array, tenant))),
        sys::Status::napi_no_external_buffers_allowed => {
            unexpose(tenant);
            Ok(None)
        }
        _ => {
            // Some runtimes have already called the finalizer (Node 20, for more than 4 GiB),
            // others have not.
            unexpose(tenant);
            check_status!(status, "an ArrayBuffer of {len} bytes cannot be created").map(|()| None)
        }
    }
}

fn next_tenancy() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

unsafe extern "C" fn finalize(_env: sys::napi_env, data: *mut c_void, hint: *mut c_void) {
    unexpose((data as u64, hint as u64));
}

/// Drops the lease that JavaScript had on a buffer. Can be called again.
pub fn unexpose(tenant: Tenant) {
    let removed = exposed().remove(&tenant);
    drop(removed);
}

/// Detaches the view's ArrayBuffer and drops the lease on its memory, which returns to the pool
/// when the last transfer on it has settled.
pub fn release(env: sys::napi_env, view: &View) -> Result<()> {
    let tenant = {
        let exposed = exposed();
        let found = exposed.range(..=(view.address, u64::MAX)).next_back();
        found.filter(|(_, found)| view.address < found.lease.address() + found.lease.bytes()).map(|(&tenant, _)| tenant)
    };
    detach(env, view)?;
    tenant.into_iter().for_each(unexpose);
    Ok(())
}

/// Detaches the view's ArrayBuffer.
pub fn detach(env: sys::napi_env, view: &View) -> Result<()> {
    // SAFETY: the ArrayBuffer came with the view in the call in progress.
    check_status!(unsafe { sys::napi_detach_arraybuffer(env, view.array_buffer) })
}

/// Memory of the runtime, as a `Uint8Array` that starts on a page, and its address.
pub fn over_allocated(env: sys::napi_env, len: usize) -> Result<(sys::napi_value, *mut u8)> {
    let mut array_buffer = ptr::null_mut();
    let mut data: *mut c_void = ptr::null_mut();
    // SAFETY: out-pointers are locals.
    check_status!(unsafe { sys::napi_create_arraybuffer(env, len + PAGE_BYTES, &raw mut data, &raw mut array_buffer) })?;
    let offset = (data as usize).next_multiple_of(PAGE_BYTES) - data as usize;
    let array = uint8_array(env, array_buffer, offset, len)?;
    Ok((array, data.cast::<u8>().wrapping_add(offset)))
}

fn uint8_array(env: sys::napi_env, array_buffer: sys::napi_value, offset: usize, len: usize) -> Result<sys::napi_value> {
    let mut array = ptr::null_mut();
    // SAFETY: the ArrayBuffer was made a moment ago and is at least `offset + len` long.
    let status = unsafe { sys::napi_create_typedarray(env, sys::TypedarrayType::uint8_array, len, array_buffer, offset, &raw mut array) };
    check_status!(status)?;
    Ok(array)
}

#[napi]
impl Session {
    // ---- memory ----

    #[napi(ts_return_type = "Uint8Array<ArrayBuffer> | Failure")]
    pub fn allocate(&self, env: &Env, engine: u32, bytes: f64, zeroed: bool) -> Result<Either<RawValue, Failure>> {
        let engine = self.state.engine(engine)?;
        let buffer = if zeroed { engine.buffer(bytes as usize) } else { engine.pooled_buffer(bytes as usize) };
        match buffer {
            Ok(buffer) => Ok(Either::A(RawValue(expose(env.raw(), buffer)?))),
            Err(error) => Ok(Either::B(Failure::from(&error))),
        }
    }

    #[napi]
    pub fn release(&self, env: &Env, view: View) -> Result<()> {
        release(env.raw(), &view)
    }

    #[napi]
    pub fn is_allocated(&self, view: View) -> bool {
        view.lease().is_some()
    }
}

#[napi]
impl Session {
    // ---- checksums ----

    /// Of memory, on this thread.
    #[napi]
    pub fn crc32c(&self, view: View, seed: u32) -> u32 {
        // SAFETY: the memory of the call's own argument; nothing runs on its thread meanwhile.
        unsafe { view.memory().append_to(seed) }
    }

    /// Of memory, on a thread of the engine.
    #[napi]
    pub fn crc32c_later(&self, env: &Env, id: f64, engine: u32, view: View, seed: u32) -> Result<()> {
        let engine = self.state.engine(engine)?;
        let (delivery, lease, summed) = (Arc::clone(&self.state.delivery), view.lease(), view.memory());
        delivery.expect(env)?;
        engine.run_blocking_on(None, move || {
            // SAFETY: engine memory is held by the lease, foreign memory by the facade, until the record has been drained; a
            // worker that is terminated waits for it in the clean-up hook.
            let crc = unsafe { summed.append_to(seed) };
            drop(lease);
            delivery.push(Line::OTHER, Record::of_sum(id as u64, Ok(crc)));
        });
        Ok(())
    }

    #[napi]
    pub fn crc32c_combine(&self, a: u32, b: u32, len_b: f64) -> u32 {
        crc32c_combine(a, b, len_b as u64)
    }
}

/// Memory that JavaScript lends to a job. The landing of the job, which holds back its record, goes with the last of it.
pub struct Foreign {
    address: u64,
    len: usize,
    /// If it is the engine's memory.
    lease: Option<MemoryLease>,
    landing: Arc<Landing>,
}

impl Foreign {
    pub fn of(view: &View, landing: &Arc<Landing>) -> Self {
        Self { address: view.address, len: view.len as usize, lease: view.lease(), landing: Arc::clone(landing) }
    }

    /// The memory of so many views, which are in an array.
    pub fn all(views: &Object<'_>, count: usize, landing: &Arc<Landing>) -> Result<Vec<Self>> {
        let mut elements = Elements::of(views);
        (0..count).map(|_| Ok(Self::of(&elements.next()?, landing))).collect()
    }

    fn start(&self) -> *mut u8 {
        // Memory without bytes can have no address.
        if self.len == 0 { ptr::NonNull::dangling().as_ptr() } else { self.address as *mut u8 }
    }

    /// Copies all bytes.
    ///
    /// # Safety
    /// The memory is in place: it is the engine's, or the facade holds it.
    pub unsafe fn copy_to(&self, target: &mut [u8]) {
        let bytes = self.len.min(target.len());
        // SAFETY: passed on from the caller of this function; `target` is memory of Rust, so that they are apart.
        unsafe { ptr::copy_nonoverlapping(self.start(), target.as_mut_ptr(), bytes) };
    }

    /// Bytes of it, which must be within.
    ///
    /// # Safety
    /// The memory is in place, and nothing writes to these bytes meanwhile.
    pub unsafe fn part(&self, range: Range<usize>) -> &[u8] {
        // SAFETY: passed on from the caller of this function.
        unsafe { std::slice::from_raw_parts(self.start().wrapping_add(range.start), range.len()) }
    }

    /// The same, to write to.
    ///
    /// # Safety
    /// The memory is in place, and nothing else uses these bytes meanwhile.
    #[allow(clippy::mut_from_ref, reason = "several threads write to parts of it that are apart")]
    pub unsafe fn part_mut(&self, range: Range<usize>) -> &mut [u8] {
        // SAFETY: passed on from the caller of this function.
        unsafe { std::slice::from_raw_parts_mut(self.start().wrapping_add(range.start), range.len()) }
    }
}

// SAFETY: the lease keeps engine memory in place; the facade keeps other memory until the record of the job has come, which
// is held back while this lives. A program must not write to memory that it has lent.
unsafe impl IoBuf for Foreign {
    fn as_ptr(&self) -> *const u8 {
        self.start()
    }
    fn len(&self) -> usize {
        self.len
    }
}

// SAFETY: as above; the facade has checked that memory which is read into is lent once.
unsafe impl IoBufMut for Foreign {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.start()
    }
}

/// Memory that JavaScript has given up.
pub enum Given {
    /// It is the engine's again.
    Whole(Buffer),
    /// Something has not let go of it yet, or it has no bytes.
    Held(Foreign),
}

impl Given {
    /// Detaches so many views of an array, and takes their memory over. Each has all of an allocation of the engine.
    pub fn all(env: sys::napi_env, views: &Object<'_>, count: usize, landing: &Arc<Landing>) -> Result<Vec<Self>> {
        let mut elements = Elements::of(views);
        (0..count).map(|_| Self::of(env, &elements.next()?, landing)).collect()
    }

    fn of(env: sys::napi_env, view: &View, landing: &Arc<Landing>) -> Result<Self> {
        let held = Foreign::of(view, landing);
        if view.len == 0 {
            return Ok(Self::Held(held));
        }
        release(env, view)?;
        let Foreign { address, len, lease, landing } = held;
        let lease = lease.ok_or_else(|| Error::from_reason("the memory is not the engine's"))?;
        // SAFETY: the `ArrayBuffer` that showed the memory was detached above, and the facade lets no request use it.
        Ok(match unsafe { lease.into_buffer(len) } {
            Ok(buffer) => Self::Whole(buffer),
            Err(lease) => Self::Held(Foreign { address, len, lease: Some(lease), landing }),
        })
    }
}

/// A value that is a JavaScript value already.
pub struct RawValue(sys::napi_value);

impl RawValue {
    pub fn of(value: sys::napi_value) -> Self {
        Self(value)
    }
}

impl TypeName for RawValue {
    fn type_name() -> &'static str {
        "Uint8Array"
    }

    fn value_type() -> ValueType {
        ValueType::Object
    }
}

impl ToNapiValue for RawValue {
    unsafe fn to_napi_value(_env: sys::napi_env, value: Self) -> Result<sys::napi_value> {
        Ok(value.0)
    }
}
