//! Version 0.14.

#[path = "cases.rs"]
mod cases;
#[path = "stores.rs"]
mod stores;

use object_store_014 as object_store;
