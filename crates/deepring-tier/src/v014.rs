//! Version 0.14 of `object_store`: that of Lance 14, SlateDB and zarrs.

#[path = "dialect.rs"]
mod dialect;

pub use dialect::TieredStore;
pub use object_store_014 as object_store;
use object_store_014::{Attributes, Extensions, GetResult, GetResultPayload, ObjectMeta};
use std::ops::Range;

fn get_result(payload: GetResultPayload, meta: ObjectMeta, range: Range<u64>, attributes: Attributes) -> GetResult {
    GetResult { payload, meta, range, attributes, extensions: Extensions::default() }
}
