//! Version 0.14.

#[path = "../../../deepring-object-store/tests/suite/cases.rs"]
mod cases;
#[path = "stores.rs"]
mod stores;

use deepring_tier::v014::{TieredStore, object_store};
