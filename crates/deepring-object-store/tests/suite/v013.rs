//! Version 0.13.

#[path = "cases.rs"]
mod cases;
#[path = "stores.rs"]
mod stores;

use object_store_013 as object_store;
