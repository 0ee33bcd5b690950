//! The settings of an engine and a handle, from a program and from the environment.

use crate::backend::BackendKind;
use crate::builder::{EngineBuilder, backend_of};
use crate::config::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN};
use crate::error::ErrorKind;
use arbitrary::{Result, Unstructured};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

pub(super) fn check(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    // With too few bytes the remaining numbers are left out.
    let _ = check_numbers(&mut input);
    check_variable(input.take_rest());
}

fn check_numbers(input: &mut Unstructured<'_>) -> Result<()> {
    let mut builder = EngineBuilder::default();
    if let Some(depth) = input.arbitrary()? {
        builder = builder.queue_depth(depth);
    }
    if let Some(bytes) = input.arbitrary()? {
        builder = builder.block_bytes(bytes);
    }
    if let Some(bytes) = input.arbitrary()? {
        builder = builder.in_flight_bytes(bytes);
    }
    if let Some(operations) = input.arbitrary()? {
        builder = builder.max_queued(operations);
    }
    match builder.config() {
        Ok(config) => {
            assert!(is_block(config.block_bytes), "{config:?}");
            assert!(config.in_flight_bytes >= config.block_bytes && config.max_queued > 0, "{config:?}");
            assert!(config.queue_depth != Some(0), "{config:?}");
            let asked: u64 = input.arbitrary()?;
            let block = config.handle_block_bytes(asked);
            assert!(if asked == 0 { block == 0 } else { is_block(block) && block <= config.in_flight_bytes }, "{asked} became {block}");
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::Invalid),
    }
    Ok(())
}

fn is_block(bytes: u64) -> bool {
    (BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&bytes) && bytes.is_multiple_of(BLOCK_BYTES_MIN)
}

fn check_variable(value: &[u8]) {
    let expected = match value {
        b"" => Ok(None),
        b"uring" => Ok(Some(BackendKind::Uring)),
        b"threads" => Ok(Some(BackendKind::Threads)),
        _ => Err(ErrorKind::Invalid),
    };
    let found = backend_of(Some(OsStr::from_bytes(value)));
    assert_eq!(found.map_err(|error| error.kind()), expected);
}
