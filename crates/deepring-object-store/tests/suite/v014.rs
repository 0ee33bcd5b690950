//! Version 0.14.

#[path = "cases.rs"]
mod cases;

use object_store_014 as object_store;
