//! Errors with any number, about any file.

use crate::error::{Error, ErrorKind};
use arbitrary::{Result, Unstructured};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

pub(super) fn check(bytes: &[u8]) {
    // Too few bytes make no error.
    let _ = check_error(&mut Unstructured::new(bytes));
}

fn check_error(input: &mut Unstructured<'_>) -> Result<()> {
    let errno: i32 = if input.arbitrary()? { input.int_in_range(-200..=200)? } else { input.arbitrary()? };
    let kind = if input.arbitrary()? { ErrorKind::Os(errno) } else { ErrorKind::SyncFailed(errno) };
    let (position, requested, transferred): (u64, u64, u64) = input.arbitrary()?;
    let mut error = Error::new(kind, "read").range(position, requested, transferred);
    let system = error.sentence();
    assert!(!system.is_empty() && !system.contains("(os error"), "{system}");
    if input.arbitrary()? {
        error = error.advise(input.arbitrary::<&str>()?);
    }
    let path: Arc<Path> = Arc::from(Path::new(OsStr::from_bytes(input.bytes(input.len())?)));
    let error = error.at(&path);

    assert_eq!(error.errno(), Some(errno));
    assert_eq!((error.position(), error.requested(), error.transferred()), (Some(position), requested, transferred));
    let (code, sentence, message) = (error.code(), error.sentence(), error.to_string());
    let named = code.strip_prefix('E').is_some_and(|rest| !rest.is_empty() && !code.contains(' '));
    assert!(named, "{code}");
    assert!(sentence.starts_with(&system), "{sentence}");
    assert!(message.starts_with(&code) && message.contains(&format!("at {position}: {transferred} of {requested} bytes")), "{message}");
    Ok(())
}
