//! Lance on deepring: its objects are kept by `deepring-object-store`, and read through a tier before it.
//!
//! Lance opens a store of its own by the scheme of a table's address. What puts another one in its place is a
//! [`WrappingObjectStore`].

use engines_support::Place;
use lance::dataset::builder::DatasetBuilder;
use lance::dataset::{WriteMode, WriteParams};
use lance::deps::arrow_array::RecordBatchReader;
use lance::{Dataset, Result};
use lance_io::object_store::{ObjectStoreParams, WrappingObjectStore};
use object_store::ObjectStore;
use object_store::list::PaginatedListStore;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

/// The table, in the store of a place. With this scheme, Lance goes through the trait, as it does with a bucket.
const TABLE: &str = "file-object-store:///table.lance";

/// Opens the place of a table. Lance writes its files of data once; a version names those that it has.
///
/// # Errors
/// Those of [`Place::open`].
pub fn open(folder: &Path) -> std::result::Result<Place, Box<dyn Error>> {
    Place::open(folder, "*.lance", ["_versions/", "_transactions/"])
}

/// The table.
///
/// # Errors
/// Fails if there is none, or Lance does.
pub async fn table(place: &Place) -> Result<Dataset> {
    DatasetBuilder::from_uri(TABLE).with_store_params(parameters(place)).load().await
}

/// Adds rows to the table, as a version of it, or makes it. It has them once this ends.
///
/// # Errors
/// Fails if Lance does.
pub async fn append(place: &Place, rows: impl RecordBatchReader + Send + 'static, mode: WriteMode) -> Result<Dataset> {
    let parameters = WriteParams { mode, store_params: Some(parameters(place)), ..WriteParams::default() };
    Dataset::write(rows, TABLE, Some(parameters)).await
}

fn parameters(place: &Place) -> ObjectStoreParams {
    ObjectStoreParams { object_store_wrapper: Some(Arc::new(Instead(place.clone()))), ..ObjectStoreParams::default() }
}

/// The store of a place, instead of the one that Lance has opened.
#[derive(Debug)]
struct Instead(Place);

impl WrappingObjectStore for Instead {
    fn wrap(&self, _prefix: &str, _original: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        self.0.objects().clone()
    }

    fn wrap_paginated(&self, _prefix: &str, _original: Arc<dyn PaginatedListStore>) -> Option<Arc<dyn PaginatedListStore>> {
        None
    }
}
