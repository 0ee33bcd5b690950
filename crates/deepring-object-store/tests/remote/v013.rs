//! Version 0.13.

#[path = "cases/mod.rs"]
pub(crate) mod cases;

use deepring_object_store::v013::{RemoteCheckpoints, RemoteError};
use object_store_013 as object_store;
