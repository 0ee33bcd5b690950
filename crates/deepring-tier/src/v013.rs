//! Version 0.13 of `object_store`: that of DataFusion 55, Ballista 55 and delta-rs 1.

#[path = "dialect.rs"]
mod dialect;

pub use dialect::TieredStore;
pub use object_store_013 as object_store;
use object_store_013::{Attributes, GetResult, GetResultPayload, ObjectMeta};
use std::ops::Range;

fn get_result(payload: GetResultPayload, meta: ObjectMeta, range: Range<u64>, attributes: Attributes) -> GetResult {
    GetResult { payload, meta, range, attributes }
}
