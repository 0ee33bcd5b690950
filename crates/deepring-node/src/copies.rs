//! Which copies of this binary the process has loaded.
//!
//! Two copies of the package in one dependency tree are two `.node` files, each with its own
//! statics: range locks, sync failures, limits of devices. The loader (`lib/core/load.ts`) asks for
//! the copies in the order in which they were loaded, and prefers the first one that is the same
//! build. That order is one for the whole process, so the main thread and all workers agree,
//! even if two of them load different copies at the same time.
//!
//! Only C crosses between copies: a symbol that marks a binary as one of ours.

use napi_derive::napi;
use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// The name of [`deepring_claim_report_v1`].
const MARK: &CStr = c"deepring_claim_report_v1";

static REPORTED: AtomicBool = AtomicBool::new(false);

/// 1 at the first call, then 0. Of the copies in a process, the first one's is called, so that one
/// warning is printed in all.
#[unsafe(no_mangle)]
pub extern "C" fn deepring_claim_report_v1() -> c_int {
    c_int::from(!REPORTED.swap(true, Ordering::Relaxed))
}

/// The version of this binary, which must be that of the package.
#[napi]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// The paths of all copies in the process, this one included, in the order of their loading.
#[napi]
pub fn copies() -> Vec<String> {
    let marked = loaded().into_iter().filter(|name| with_mark(name, |_| ()).is_some());
    marked.map(|name| Path::new(OsStr::from_bytes(name.to_bytes())).to_string_lossy().into_owned()).collect()
}

/// True for the first caller in the process, whichever copy it uses.
#[napi]
pub fn claim_report() -> bool {
    loaded().iter().find_map(|name| with_mark(name, |claim| claim() == 1)).unwrap_or(false)
}

/// The names of all shared objects of the process, in the order of their loading.
fn loaded() -> Vec<CString> {
    unsafe extern "C" fn note(info: *mut libc::dl_phdr_info, _size: libc::size_t, names: *mut c_void) -> c_int {
        // SAFETY: the description is valid during the call.
        let name = unsafe { (*info).dlpi_name };
        // SAFETY: this is the vector below, which nothing else uses during the call.
        let names = unsafe { &mut *names.cast::<Vec<CString>>() };
        if !name.is_null() {
            // SAFETY: the loader's names end with a NUL and live as long as the object.
            let name = unsafe { CStr::from_ptr(name.cast::<c_char>()) };
            // The executable has no name.
            if !name.is_empty() {
                names.push(name.to_owned());
            }
        }
        0
    }
    let mut names: Vec<CString> = Vec::new();
    // SAFETY: the callback has the required signature; the vector outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(note), (&raw mut names).cast()) };
    names
}

/// Calls `use_mark` with the mark of a loaded object; `None` if it has none, or is gone.
fn with_mark<T>(name: &CStr, use_mark: impl FnOnce(extern "C" fn() -> c_int) -> T) -> Option<T> {
    // SAFETY: the name ends with a NUL. RTLD_NOLOAD loads nothing and runs no initializer.
    let object = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    if object.is_null() {
        return None;
    }
    // SAFETY: the handle is valid until `dlclose`.
    let mark = unsafe { libc::dlsym(object, MARK.as_ptr()) };
    let used = (!mark.is_null()).then(|| {
        // SAFETY: every binary that exports this name gives it this signature; the version in the
        // name would change with it.
        use_mark(unsafe { std::mem::transmute::<*mut c_void, extern "C" fn() -> c_int>(mark) })
    });
    // SAFETY: closes the reference taken above.
    unsafe { libc::dlclose(object) };
    used
}
