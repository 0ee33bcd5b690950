//! What the contenders through deepring's crates share.

use deepring::Engine;

/// An error is a sentence.
pub(crate) type Outcome<T> = Result<T, String>;

pub(crate) fn failed(error: impl std::fmt::Display) -> String {
    error.to_string()
}

pub(crate) fn engine() -> Outcome<Engine> {
    Engine::builder().build().map_err(failed)
}

/// The path that moved the bytes, in a few words.
pub(crate) fn ran(engine: &Engine) -> String {
    format!("{}, direct", engine.info().backend.as_str())
}
