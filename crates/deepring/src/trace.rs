//! Events for programs that use the crate `tracing`: few, about files and engines, never about a request or a block.
//! Without the feature nothing is compiled.
//!
//! | level | event | fields |
//! |---|---|---|
//! | `DEBUG` | a file was opened | `path`, `direct`, `reason` |
//! | `WARN` | a file has become buffered | `path` |
//! | `WARN` | a close took more than a second | `path`, `elapsed_ms` |
//! | `ERROR` | a ring was lost | `errno`, `leaked_blocks` |
//!
//! A subscriber is the caller's code: it runs on the thread where the event happens, its panics are contained.

#[cfg(feature = "tracing")]
use crate::unwind::contain;
use std::path::Path;
use std::time::Duration;

/// A close that takes longer is reported.
const SLOW_CLOSE: Duration = Duration::from_secs(1);

macro_rules! event {
    ($level:ident, $message:literal, $($field:ident = $value:expr),+) => {
        #[cfg(feature = "tracing")]
        {
            let _ = contain(|| tracing::event!(target: "deepring", tracing::Level::$level, $($field = $value,)+ $message));
        }
        // Named, and not evaluated.
        #[cfg(not(feature = "tracing"))]
        {
            let _ = || {
                $(let _ = &$value;)+
            };
        }
    };
}

pub(crate) fn opened(path: &Path, direct: bool, reason: &str) {
    event!(DEBUG, "a file was opened", path = path.to_string_lossy().as_ref(), direct = direct, reason = reason);
}

pub(crate) fn became_buffered(path: &Path) {
    event!(WARN, "a file has become buffered: a direct transfer was refused", path = path.to_string_lossy().as_ref());
}

/// The close of a file took this long.
pub(crate) fn closed(path: &Path, elapsed: Duration) {
    if elapsed >= SLOW_CLOSE {
        event!(WARN, "a close was slow", path = path.to_string_lossy().as_ref(), elapsed_ms = elapsed.as_millis() as u64);
    }
}

pub(crate) fn ring_lost(errno: i32, leaked_blocks: usize) {
    event!(ERROR, "a ring was lost; threads take over", errno = errno, leaked_blocks = leaked_blocks as u64);
}

#[cfg(all(feature = "tracing", not(loom)))]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::open::{self, Name, OpenOptions};
    use std::fmt::{Debug, Write};
    use std::sync::{Arc, Mutex};
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    #[derive(Default, Clone)]
    struct Recorder(Arc<Mutex<Vec<(Level, String)>>>);

    struct Text(String);

    impl Visit for Text {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            write!(self.0, "{field}={value:?} ").expect("a string");
        }
    }

    impl Subscriber for Recorder {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "deepring"
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            let mut text = Text(String::new());
            event.record(&mut text);
            self.0.lock().expect("the events").push((*event.metadata().level(), text.0));
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    fn recorded(run: impl FnOnce()) -> Vec<(Level, String)> {
        let recorder = Recorder::default();
        tracing::subscriber::with_default(recorder.clone(), run);
        std::mem::take(&mut *recorder.0.lock().expect("the events"))
    }

    #[test]
    fn a_slow_close_is_reported_and_another_is_not() {
        let path = Path::new("weights.bin");
        assert!(recorded(|| closed(path, Duration::from_millis(999))).is_empty());
        let events = recorded(|| closed(path, Duration::from_millis(2500)));
        assert!(matches!(&events[..], [(Level::WARN, text)] if text.contains("path=\"weights.bin\" elapsed_ms=2500")), "{events:?}");
    }

    #[test]
    fn a_file_that_becomes_buffered_is_reported_once() {
        let file = tempfile::NamedTempFile::new_in(".").expect("a file");
        let name = Name::of(file.path());
        let events = recorded(|| {
            let file = open::open(&name, &OpenOptions::new().read(true)).expect("the file");
            if file.is_direct() {
                assert!(file.downgrade() && !file.downgrade());
            } else {
                became_buffered(&file.path);
            }
        });
        assert!(matches!(&events[..], [(Level::WARN, text)] if text.contains("buffered") && text.contains("path=")), "{events:?}");
    }

    #[test]
    fn a_subscriber_that_panics_harms_nothing() {
        struct Panics;
        impl Subscriber for Panics {
            fn enabled(&self, _: &Metadata<'_>) -> bool {
                true
            }
            fn new_span(&self, _: &Attributes<'_>) -> Id {
                Id::from_u64(1)
            }
            fn record(&self, _: &Id, _: &Record<'_>) {}
            fn record_follows_from(&self, _: &Id, _: &Id) {}
            fn event(&self, _: &Event<'_>) {
                panic!("a subscriber");
            }
            fn enter(&self, _: &Id) {}
            fn exit(&self, _: &Id) {}
        }
        tracing::subscriber::with_default(Panics, || ring_lost(libc::EPERM, 3));
        let events = recorded(|| ring_lost(libc::EPERM, 3));
        assert!(matches!(&events[..], [(Level::ERROR, text)] if text.contains("errno=1 leaked_blocks=3")), "{events:?}");
    }
}
