//! The Node-API binding: types in, batches of completions out, no policy.
//!
//! ```text
//!   JavaScript thread                         engine's threads
//!   Session.read(id, ...) ──► Engine ──► driver ──► Landing::settle
//!   Session.drain(array)  ◄── Delivery (one list per environment) ◄──┘
//!                  ▲              │ on empty → non-empty
//!                  └─── wake ◄────┘ one threadsafe function per environment
//! ```
//!
//! Numbers cross as numbers, memory as a `Uint8Array` of which only address and length are taken; no reference to JavaScript memory is ever
//! formed. The caller keeps its buffer objects alive until their record has been drained. Memory that the engine itself allocated is
//! held here as well, per operation, so that neither garbage collection nor a transfer can free it early.
//!
//! **Teardown.** A *synchronous* clean-up hook of the environment cancels what it has queued, waits for what is at the device, and closes
//! its files. (Without it a terminated worker crashes the process: its buffers are freed while the device writes to them.)

#![allow(missing_docs, unreachable_pub, reason = "nothing here is for Rust; what JavaScript sees is documented in lib/core/native.ts")]
#![allow(clippy::needless_pass_by_value, reason = "what napi converts from JavaScript arrives by value")]
#![allow(clippy::unused_self, reason = "all of the session is methods, whether they need its state or not")]
#![allow(clippy::too_many_arguments, reason = "positional arguments are what crosses the boundary fastest")]
#![allow(clippy::trivially_copy_pass_by_ref, reason = "napi hands the environment out by reference")]

mod convert;
mod delivery;
mod engines;
mod files;
mod memory;
mod record;
mod session;
mod transfers;
