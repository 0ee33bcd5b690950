//! Version 0.13 of `object_store`: that of DataFusion 55, Ballista 55 and delta-rs 1.

#[path = "dialect.rs"]
mod dialect;
#[cfg(feature = "checkpoint")]
#[path = "remote/mod.rs"]
mod remote;

use crate::version::Version;
pub use object_store_013 as object_store;
use object_store_013::path::Path;
use object_store_013::{Attributes, GetResult, GetResultPayload, ListResult, ObjectMeta, PutResult};
#[cfg(feature = "checkpoint")]
pub use remote::{RemoteCheckpoints, RemoteError};
use std::ops::Range;

/// This version knows no quotation marks around an `ETag`.
fn tag(version: Version) -> String {
    version.to_string()
}

fn put_result(e_tag: String) -> PutResult {
    PutResult { e_tag: Some(e_tag), version: None }
}

fn get_result(payload: GetResultPayload, meta: ObjectMeta, range: Range<u64>) -> GetResult {
    GetResult { payload, meta, range, attributes: Attributes::default() }
}

fn list_result(common_prefixes: Vec<Path>, objects: Vec<ObjectMeta>) -> ListResult {
    ListResult { common_prefixes, objects }
}
