//! Version 0.14.

#[path = "cases/mod.rs"]
pub(crate) mod cases;

use deepring_object_store::v014::{RemoteCheckpoints, RemoteError};
use object_store_014 as object_store;
