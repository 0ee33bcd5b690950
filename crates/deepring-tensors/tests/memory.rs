//! A header costs its own size in memory, once for its bytes and at most [`TIMES`] for what is made of them, whatever it
//! says; an index likewise. What it merely claims costs nothing. The allocator of this program counts.

mod described;
mod harness;

use deepring::Engine;
use deepring_tensors::{OpenOptions, Safetensors};
use serde_json::{Value, json};
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Beside its own bytes, which are engine memory: columns, which grow by doubling, and are copied once into another order.
const TIMES: f64 = 3.0;

/// What opening any file takes: handles, queues, messages.
const ANY_BYTES: usize = 512 << 10;

/// Far below what the headers claim, and above what threads reserve for their memory when they start: 64 MiB each.
const ADDRESS_BYTES: u64 = 1 << 30;

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn grow(bytes: usize) {
    PEAK.fetch_max(LIVE.fetch_add(bytes, Relaxed) + bytes, Relaxed);
}

// SAFETY: passes everything on to the system's allocator, as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Large blocks are moved by their pages, not copied.
        grow(size.saturating_sub(layout.size()));
        LIVE.fetch_sub(layout.size().saturating_sub(size), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes of the heap that opening took at most, beside what was there before.
fn peak_of(engine: &Engine, path: &Path, options: OpenOptions) -> (usize, bool) {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let opened = Safetensors::open_with(engine, path, options).wait();
    (PEAK.load(Relaxed) - before, opened.is_ok())
}

/// The most address space that this process ever had.
fn address_space() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

const SCALAR: &str = r#"{"dtype":"U8","shape":[],"data_offsets":["#;

/// Headers that say much with few bytes: a name, the header, bytes of data, and whether it opens.
fn headers() -> Vec<(&'static str, Value, u64, bool)> {
    let tensor = |shape: Value| json!([r#"{"a":{"dtype":"U8","shape":["#, shape, r#"0],"data_offsets":[0,0]}}"#]);
    let flat = |parts: Value| {
        Value::from(
            parts
                .as_array()
                .expect("a list")
                .iter()
                .flat_map(|part| part.as_array().cloned().unwrap_or_else(|| vec![part.clone()]))
                .collect::<Vec<_>>(),
        )
    };
    let delete = json!({ "repeat": "\u{7f}", "times": 20_000_000 });
    let field = |before: &str, after: &str| json!([before, delete, after]);
    vec![
        (
            "tiny tensors",
            json!(["{", { "each": format!("\"{{i}}\":{SCALAR}{{begin}},{{end}}]}}"), "times": 263_000, "bytes": 1 }, "}"]),
            263_000,
            true,
        ),
        (
            "tensors without bytes",
            json!(["{", { "each": r#""{i}":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#, "times": 263_000 }, "}"]),
            0,
            true,
        ),
        ("a shape of zeros", flat(tensor(json!([{ "repeat": "0,", "times": 9_000_000 }]))), 0, true),
        ("a shape of large numbers", flat(tensor(json!([{ "repeat": "9007199254740991,", "times": 1_000_000 }]))), 0, false),
        ("a long name", json!(["{\"", { "repeat": "x", "times": 20_000_000 }, format!("\":{SCALAR}0,1]}}}}")]), 1, true),
        ("a name of escapes", json!(["{\"", { "repeat": "\\n", "times": 10_000_000 }, format!("\":{SCALAR}0,1]}}}}")]), 1, true),
        ("a string in place of a header", field("\"", "\""), 0, false),
        ("a string in place of a tensor", field("{\"a\":\"", "\"}"), 0, false),
        ("a string in place of a shape", field("{\"a\":{\"shape\":\"", "\"}}"), 0, false),
        ("a string in place of an extent", field("{\"a\":{\"shape\":[\"", "\"]}}"), 0, false),
        ("a string in place of offsets", field("{\"a\":{\"data_offsets\":\"", "\"}}"), 0, false),
        ("a string in place of an offset", field("{\"a\":{\"data_offsets\":[\"", "\"]}}"), 0, false),
        ("a string in place of metadata", field("{\"__metadata__\":\"", "\"}"), 0, false),
        ("a long unknown type", field("{\"a\":{\"dtype\":\"", "\",\"shape\":[],\"data_offsets\":[0,1]}}"), 1, true),
        ("a key of the metadata twice", json!(["{\"__metadata__\":{\"", delete, "\":\"\",\"", delete, "\":\"\"}}"]), 0, false),
        ("metadata of short keys", json!(["{\"__metadata__\":{", { "each": "\"{i}\":\"\"", "times": 1_500_000 }, "}}"]), 0, true),
        (
            "unknown types",
            json!(["{", { "each": format!("\"{{i}}\":{{\"dtype\":\"{}{{i}}\",\"shape\":[],\"data_offsets\":[{{begin}},{{end}}]}}", "x".repeat(60_000)), "times": 256, "bytes": 1 }, "}"]),
            256,
            true,
        ),
        ("90 MB of [", json!([{ "repeat": "[", "times": 90_000_000 }]), 0, false),
        ("90 MB of [ in a field", json!(["{\"a\":{\"x\":", { "repeat": "[", "times": 90_000_000 }]), 0, false),
        (
            "fields that are skipped",
            json!([format!("{{\"a\":{SCALAR}0,1],\"x\":["), { "repeat": "{\"y\":\"\\n\\n\"},", "times": 1_000_000 }, "0]}}"]),
            1,
            true,
        ),
    ]
}

#[test]
fn a_header_costs_its_own_size_and_nothing_that_it_claims() {
    let directory = harness::directory();
    let engine = harness::engine();
    let path = directory.path().join("model.safetensors");
    let options = OpenOptions::new();
    harness::raw_file(&path, "{}", &[]);
    assert!(peak_of(&engine, &path, options).1);

    // What is only claimed: lengths, and shapes.
    let huge = r#"{"a":{"dtype":"F64","shape":[4503599627370496],"data_offsets":[0,36028797018963968]}}"#;
    let long = r#"{"a":{"dtype":"U8","shape":[4503599627370496],"data_offsets":[0,4503599627370496]}}"#;
    let claims = [
        json!({ "header": "{}", "length": "1099511627776", "data": 100 }),
        json!({ "header": "{}", "length": "1099511627776", "size": 1_099_511_627_784u64 }),
        json!({ "header": "{}", "length": "18446744073709551615", "data": 100 }),
        json!({ "header": huge, "data": 100 }),
        json!({ "header": long, "data": 100 }),
    ];
    let before = address_space();
    for claim in claims {
        std::fs::remove_file(&path).expect("removed");
        described::write(&path, &claim);
        let (peak, opens) = peak_of(&engine, &path, options);
        assert!(!opens && peak < ANY_BYTES, "{claim}: {peak} bytes");
    }
    let grown = address_space() - before;
    assert!(grown < ADDRESS_BYTES, "{grown} bytes of address space");

    let mut failed = Vec::new();
    for (name, header, data, expected) in headers() {
        std::fs::remove_file(&path).expect("removed");
        let own = described::write(&path, &json!({ "header": header, "data": data })) as usize;
        let (peak, opens) = peak_of(&engine, &path, options);
        let times = peak.saturating_sub(ANY_BYTES) as f64 / own as f64;
        harness::say(&format!("{name}: {peak} bytes for {own}"));
        if times > TIMES || opens != expected {
            failed.push(format!("{name}: {times:.2} times its size, opens: {opens}"));
        }
    }

    // An index that names as many files as it can: they are not there, and the first of them ends it.
    let text = |each: &str, times: u64| json!({ "text": ["{\"weight_map\":{", { "each": each, "times": times }, "}}"] });
    let index = directory.path().join("model.safetensors.index.json");
    for (name, described) in [
        ("an index of one file", text("\"{i}\":\"x\"", 1_000_000)),
        ("an index of 65 536 files", text("\"{i}\":\"{i}\"", 1 << 16)),
        ("an index of a million files", text("\"{i}\":\"{i}\"", 1_000_000)),
    ] {
        described::write(&index, &described);
        let own = std::fs::metadata(&index).expect("an index").len() as usize;
        let (peak, opens) = peak_of(&engine, &index, options);
        // Of 65 536 files, their paths, too.
        let allowed = (TIMES * own as f64) as usize + ANY_BYTES + (1 << 16) * (directory.path().as_os_str().len() + 128);
        harness::say(&format!("{name}: {peak} bytes for {own}"));
        if peak > allowed || opens {
            failed.push(format!("{name}: {peak} bytes, allowed {allowed}, opens: {opens}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
