//! Version 0.13.

#[path = "../../../deepring-object-store/tests/suite/cases.rs"]
mod cases;
#[path = "stores.rs"]
mod stores;

use deepring_tier::v013::{TieredStore, object_store};
