//! SlateDB on deepring: its objects are kept by `deepring-object-store`, and read through a tier before it.

use engines_support::Place;
use slatedb::config::{CompactorOptions, Settings};
use slatedb::{Db, DbBuilder};
use std::error::Error;
use std::path::Path;
use std::time::Duration;

/// Opens the place of a database. SlateDB writes a table once.
///
/// # Errors
/// Those of [`Place::open`].
pub fn open(folder: &Path) -> Result<Place, Box<dyn Error>> {
    Place::open(folder, "*.sst", ["manifest/", "compactions/"])
}

/// A database that writes tables soon, so that a test of some seconds makes many of them. Without a compactor it takes 8 of them at most.
///
/// # Errors
/// Fails if SlateDB does.
pub async fn database(place: &Place, compacts: bool) -> Result<Db, slatedb::Error> {
    let compactor = CompactorOptions { poll_interval: Duration::from_millis(100), ..CompactorOptions::default() };
    let settings = Settings {
        flush_interval: Some(Duration::from_millis(10)),
        l0_sst_size_bytes: 1 << 20,
        max_unflushed_bytes: 16 << 20,
        compactor_options: compacts.then_some(compactor),
        garbage_collector_options: None,
        ..Settings::default()
    };
    // Without a cache of blocks in memory, each read asks the tier.
    DbBuilder::new("db", place.objects().clone()).with_settings(settings).with_db_cache_disabled().build().await
}
