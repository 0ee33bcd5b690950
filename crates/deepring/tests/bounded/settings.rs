//! Settings and sizes that are refused.

use crate::harness::{backends, engines};
use deepring::{Engine, ErrorKind};

#[test]
fn settings_outside_their_range_are_refused() {
    let builder = Engine::builder;
    for refused in [
        builder().queue_depth(0),
        builder().queue_depth(65_537),
        builder().queue_depth(u32::MAX),
        builder().block_bytes(0),
        builder().block_bytes((1 << 30) + 1),
        builder().block_bytes(u64::MAX),
        builder().in_flight_bytes(0),
        builder().max_queued(0),
    ] {
        let error = refused.clone().build().expect_err("outside its range");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{refused:?}: {error}");
    }
    for backend in backends() {
        for accepted in [
            builder().queue_depth(65_536),
            builder().queue_depth(1),
            builder().block_bytes(1),
            builder().block_bytes(1 << 30),
            builder().in_flight_bytes(1),
            builder().in_flight_bytes(u64::MAX),
            builder().max_queued(u64::MAX),
        ] {
            drop(accepted.clone().backend(backend).build().unwrap_or_else(|error| panic!("{accepted:?}: {error}")));
        }
    }
}

#[test]
fn buffers_of_impossible_size_are_refused() {
    for engine in engines() {
        for len in [usize::MAX, usize::MAX / 2, 1 << 50] {
            let error = engine.buffer(len).expect_err("impossible size");
            assert_eq!(error.code(), "ENOMEM", "{error}");
            assert_eq!(engine.pooled_buffer(len).expect_err("impossible size").code(), "ENOMEM");
        }
        assert_eq!(engine.stats().buffers, 0);
    }
}
