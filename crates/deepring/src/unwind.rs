//! Panics of the caller's code on threads of the engine: wakers, completions, callbacks, and the `Drop` of what they
//! hold. Each such call is contained, so none of them unwinds a thread of the engine.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs code that may be the caller's. Returns `None` if it panicked.
///
/// The state that the code shares with the engine is either its own, or is whole at every point where it can panic.
pub(crate) fn contain<T>(call: impl FnOnce() -> T) -> Option<T> {
    if cfg!(all(loom, test)) {
        // A model that fails panics, wherever it is.
        return Some(call());
    }
    catch_unwind(AssertUnwindSafe(call)).map_err(discard).ok()
}

/// Drops what a panic carries, which can panic again.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(second);
    }
}

#[cfg(test)]
mod tests {
    use super::contain;
    use std::panic::resume_unwind;

    /// A payload whose `Drop` panics with itself.
    struct Again;

    impl Drop for Again {
        fn drop(&mut self) {
            resume_unwind(Box::new(Again));
        }
    }

    #[test]
    fn a_panic_whose_payload_panics_when_it_is_dropped_is_contained() {
        assert_eq!(contain(|| 7), Some(7));
        assert_eq!(contain(|| -> i32 { resume_unwind(Box::new(Again)) }), None);
    }
}
