//! Version 0.13.

#[path = "cases.rs"]
mod cases;

use object_store_013 as object_store;
