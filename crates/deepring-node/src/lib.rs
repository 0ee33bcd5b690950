//! The Node-API binding: types in, batches of completions out, no policy.
//!
//! ```text
//!   JavaScript thread                         engine's threads
//!   Session.flush(rows)   ──► Engine ──► driver ──► Landing::settle
//!   Session.drain(array)  ◄── Delivery (one list per environment) ◄──┘
//!                  ▲              │ on empty → non-empty
//!                  └─── wake ◄────┘ one threadsafe function per environment
//! ```
//!
//! Numbers cross as numbers, memory as a `Uint8Array` of which only address and length are taken.
//! No reference to JavaScript memory is ever formed. The caller keeps its buffer objects alive
//! until their record has been drained. Memory of the engine is held here as well, per operation,
//! so that neither garbage collection nor a transfer frees it early.
//!
//! **Teardown.** A *synchronous* clean-up hook of the environment cancels queued requests, waits
//! for those at the device, and closes the files. Without it a terminated worker would crash the
//! process: its buffers would be freed while the device writes to them.

#![allow(missing_docs, unreachable_pub, reason = "nothing here is for Rust; what JavaScript sees is documented in lib/core/native.ts")]
#![allow(clippy::needless_pass_by_value, reason = "napi passes converted values by value")]
#![allow(clippy::unused_self, reason = "everything is a method of the session, with or without its state")]
#![allow(clippy::too_many_arguments, reason = "positional arguments cross the boundary fastest")]
#![allow(clippy::trivially_copy_pass_by_ref, reason = "napi passes the environment by reference")]

mod canceled;
mod cancellations;
mod checkpoints;
mod checkpoints_detail;
mod checkpoints_writer;
mod convert;
// napi registers nothing in a test build, so functions outside of the session would be unused there.
#[cfg(not(test))]
mod copies;
mod delivery;
mod engines;
mod failure;
mod files;
mod hash;
mod many;
mod memory;
mod memory_lent;
mod record;
mod session;
mod shares;
mod swap;
mod swap_detail;
mod swap_leases;
mod swap_optimizer;
mod tensors;
mod tensors_convert;
mod tensors_detail;
mod tensors_job;
mod tensors_lists;
mod tensors_load;
mod tensors_memory;
mod tensors_save;
mod tensors_stream;
mod tensors_writer;
mod transfers;
mod turns;
mod whole;
