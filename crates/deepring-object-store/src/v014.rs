//! Version 0.14 of `object_store`: that of Lance 14, SlateDB and zarrs.

#[path = "dialect.rs"]
mod dialect;
#[cfg(feature = "checkpoint")]
#[path = "remote/mod.rs"]
mod remote;

use crate::version::Version;
pub use object_store_014 as object_store;
use object_store_014::path::Path;
use object_store_014::{Attributes, Extensions, GetResult, GetResultPayload, ListResult, ObjectMeta, PutResult};
#[cfg(feature = "checkpoint")]
pub use remote::{RemoteCheckpoints, RemoteError};
use std::ops::Range;

/// As HTTP has it.
fn tag(version: Version) -> String {
    format!("\"{version}\"")
}

fn put_result(e_tag: String) -> PutResult {
    PutResult { e_tag: Some(e_tag), version: None, extensions: Extensions::default() }
}

fn get_result(payload: GetResultPayload, meta: ObjectMeta, range: Range<u64>) -> GetResult {
    GetResult { payload, meta, range, attributes: Attributes::default(), extensions: Extensions::default() }
}

fn list_result(common_prefixes: Vec<Path>, objects: Vec<ObjectMeta>) -> ListResult {
    ListResult { common_prefixes, objects, extensions: Extensions::default() }
}
