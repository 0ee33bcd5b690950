//! Events of the feature `tracing`, as a subscriber of the program gets them.

use crate::harness::{READ_WRITE, bytes, directory, engines};
use deepring::{Direct, OpenOptions};
use std::fmt::{Debug, Write};
use std::sync::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// What any thread of this process has reported.
static EVENTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Recorder;

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
        let mut text = Text(format!("{} ", event.metadata().level()));
        event.record(&mut text);
        EVENTS.lock().expect("the events").push(text.0);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn opening_a_file_is_one_event_and_a_thousand_requests_are_none() {
    tracing::subscriber::set_global_default(Recorder).expect("the only subscriber");
    let directory = directory();
    for (index, engine) in engines().into_iter().enumerate() {
        let path = directory.path().join(format!("traced-{index}"));
        let named = format!("path={path:?}");
        let events = || EVENTS.lock().expect("the events").iter().filter(|text| text.contains(&named)).cloned().collect::<Vec<_>>();
        let file = engine.open(&path, READ_WRITE).expect("the file");
        let ops: Vec<_> = (0..1000u64).map(|at| file.write_at(bytes(at * 100, 100, 1), at * 100)).collect();
        for op in ops {
            op.wait().result.expect("a write");
        }
        file.close().wait().expect("a close");
        let expected = format!("direct={}", file_is_direct(&engine, &path));
        let found = events();
        assert!(matches!(&found[..], [one] if one.starts_with("DEBUG ") && one.contains(&expected)), "{found:?}");
        engine.open_async(&path, OpenOptions::new().read(true).direct(Direct::Never)).wait().expect("the file");
        assert!(events().last().is_some_and(|text| text.contains("direct=false")), "opened on a thread of the engine");
    }
}

fn file_is_direct(engine: &deepring::Engine, path: &std::path::Path) -> bool {
    engine.path_info(path).expect("the file").direct_io.available
}
