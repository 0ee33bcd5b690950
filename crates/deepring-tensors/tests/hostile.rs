//! Hostile and odd files: each case of `tests/hostile/` opens with the table that it states, or is refused for the reason
//! that it states. `__test__/hostile-tensors.spec.ts` runs the same cases. Here, the reference crate is asked, too: where it
//! answers otherwise, the case says why.

mod described;
mod harness;

use deepring::Engine;
use deepring_tensors::{Error, OpenOptions, Safetensors};
use described::{data_byte, number, text_of, texts};
use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

/// Tensors of a case are loaded if they have no more bytes.
const LOADED_BYTES_MAX: u64 = 1 << 20;

/// A message has a name of at most 120 characters, a path and a sentence, whatever a file says.
const MESSAGE_BYTES_MAX: usize = 4096;

/// No case takes longer, also in a build without optimization on a busy machine.
const TIME_MAX: Duration = Duration::from_secs(20);

#[test]
fn every_header_opens_or_is_refused_as_its_case_states() {
    run("headers.json", |directory, case| {
        let start = described::write(&directory.join("model.safetensors"), &case["file"]);
        ("model.safetensors".into(), BTreeMap::from([("model.safetensors".into(), start)]))
    });
}

#[test]
fn every_directory_opens_or_is_refused_as_its_case_states() {
    run("directories.json", |directory, case| {
        let files = case["files"].as_object().expect("files");
        let starts = files.iter().map(|(name, file)| (name.clone(), described::write(&directory.join(name), file))).collect();
        (case["open"].as_str().expect("a path").to_owned(), starts)
    });
}

/// Runs the cases of a file. Fails with all that do not hold.
fn run(name: &str, write: impl Fn(&Path, &Value) -> (String, BTreeMap<String, u64>)) {
    let engine = harness::engine();
    let mut failed = Vec::new();
    for case in described::cases(name) {
        let title = format!("row {}: {}", case["row"], case["name"]);
        let directory = harness::directory();
        let (open, starts) = write(directory.path(), &case);
        let held = catch_unwind(AssertUnwindSafe(|| {
            let begun = Instant::now();
            check(&engine, directory.path(), &open, &starts, &case);
            assert!(begun.elapsed() < TIME_MAX, "it took {:?}", begun.elapsed());
            ask_reference(&directory.path().join(&open), &case);
        }));
        if held.is_err() {
            failed.push(title);
        }
    }
    assert!(failed.is_empty(), "{} cases do not hold: {failed:#?}", failed.len());
}

fn options(case: &Value) -> OpenOptions {
    let given = &case["options"];
    let options = OpenOptions::new().strict(given["strict"].as_bool().unwrap_or(true));
    if given["maxHeaderBytes"].is_null() { options } else { options.max_header_bytes(number(&given["maxHeaderBytes"])) }
}

fn check(engine: &Engine, directory: &Path, open: &str, starts: &BTreeMap<String, u64>, case: &Value) {
    let path = directory.join(open);
    let opened = Safetensors::open_with(engine, &path, options(case)).wait();
    if !case["opens"].is_null() {
        let model = opened.unwrap_or_else(|error| panic!("{}: refused: {error}", case["name"]));
        return check_table(&model, directory, starts, case);
    }
    let error = opened.err().unwrap_or_else(|| panic!("{}: it opens", case["name"]));
    let message = error.to_string();
    assert!(message.len() < MESSAGE_BYTES_MAX, "a message of {} bytes", message.len());
    assert!(!message.chars().any(|char| char.is_control() || ('\u{202a}'..='\u{202e}').contains(&char)), "{message:?}");
    let expected = if case["fails"].is_null() { &case["refused"] } else { &case["fails"] };
    assert_eq!(error.tensor(), expected["tensor"].as_str(), "{}: {message}", case["name"]);
    if let Some(code) = case["fails"]["code"].as_str() {
        assert_eq!(error.code(), code, "{}: {message}", case["name"]);
        assert!(message.contains(expected["path"].as_str().unwrap_or(open)), "{message}");
        return;
    }
    let Error::Format { reason, path: named, .. } = &error else { panic!("{}: {error}", case["name"]) };
    assert_eq!(reason.as_str(), expected["reason"], "{}: {message}", case["name"]);
    assert_eq!(*named, expected["path"].as_str().map_or(path, |file| directory.join(file)), "{}", case["name"]);
    assert_eq!(error.code(), "ERR_DEEPRING_FORMAT");
    if let Some(mentioned) = expected["mentions"].as_str() {
        assert!(message.contains(mentioned), "{message}");
    }
}

/// Compares a table, and the bytes of small ones, with what the case states.
fn check_table(model: &Safetensors, directory: &Path, starts: &BTreeMap<String, u64>, case: &Value) {
    let (opens, table, name) = (&case["opens"], model.table(), &case["name"]);
    assert_eq!(model.trailing(), number(&opens["trailing"]), "{name}");
    assert_eq!((model.missing(), model.unindexed()), (&*texts(&opens["missing"]), &*texts(&opens["unindexed"])), "{name}");
    if let Some(metadata) = opens["metadata"].as_object() {
        let found = model.metadata().iter().map(|(key, value)| (key.to_owned(), Value::from(value))).collect();
        assert_eq!(*metadata, found, "{name}");
    }
    let Some(expected) = opens["tensors"].as_array() else {
        assert_eq!(table.len() as u64, number(&opens["count"]), "{name}");
        return;
    };
    assert_eq!(table.len(), expected.len(), "{name}");
    let small = table.bytes() <= LOADED_BYTES_MAX;
    let loaded = small.then(|| model.load(&table.all()).wait().expect("loaded"));
    let mut realigned = 0;
    for (info, row) in table.iter().zip(expected) {
        let file = row[5].as_str().unwrap_or("model.safetensors");
        let shape: Vec<u64> = row[2].as_array().expect("a shape").iter().map(number).collect();
        let (begin, end) = (number(&row[3]), number(&row[4]));
        let (start, place) = place_of(directory, starts, file, info.path);
        assert_eq!(
            (info.name, info.dtype_name, info.shape),
            (row[0].as_str().expect("a name"), row[1].as_str().expect("a type"), shape),
            "{name}"
        );
        assert_eq!((info.path, info.position, info.len), (&*place, start + begin, end - begin), "{name}");
        let align = info.dtype.map_or(1, |dtype| dtype.align() as u64);
        realigned += u64::from(info.len > 0 && !info.position.is_multiple_of(align));
        if let Some(loaded) = &loaded {
            let tensor = loaded.get(info.name).expect("a tensor");
            let bytes: Vec<u8> = (begin..end).map(data_byte).collect();
            assert_eq!(tensor.bytes(), bytes, "{name}: {}", info.name.escape_debug());
            assert!(tensor.bytes().is_empty() || tensor.bytes().as_ptr().addr().is_multiple_of(align as usize), "{name}");
            assert_eq!((tensor.name(), tensor.dtype_name()), (info.name, info.dtype_name));
        }
    }
    if let Some(loaded) = loaded {
        assert_eq!((loaded.receipt().realigned, loaded.receipt().bytes), (realigned, table.bytes()), "{name}");
    }
}

/// Where the data of a file of a case begin, and its path: names in an index are below the directory of the index.
fn place_of(directory: &Path, starts: &BTreeMap<String, u64>, file: &str, found: &Path) -> (u64, std::path::PathBuf) {
    let (name, start) =
        starts.iter().find(|(name, start)| **start > 0 && Path::new(name).file_name() == Path::new(file).file_name()).unzip();
    // A link: the data are those of its target.
    let start = start.or_else(|| starts.values().find(|start| **start > 0)).expect("a file with data");
    match name {
        Some(name) => (*start, directory.join(name)),
        None => (*start, found.to_owned()),
    }
}

/// The reference crate must answer as the case says, and where that is another answer, the case must say why.
fn ask_reference(path: &Path, case: &Value) {
    let Some(expected) = case["reference"].as_str() else { return };
    let file = std::fs::read(path).expect("the file");
    // Sums of numbers in a header can overflow there, which is a panic in this build and a refusal in others.
    let asked = catch_unwind(|| SafeTensors::read_metadata(&file).ok()).ok().flatten();
    let found = if asked.is_some() { "opens" } else { "refuses" };
    assert_eq!(found, expected, "{}: the reference", case["name"]);
    let ours = if case["opens"].is_null() { "refuses" } else { "opens" };
    assert_eq!(case["because"].is_string(), expected != ours, "{}: a difference has a reason", case["name"]);
    if let (Some((_, metadata)), "opens", Some(rows)) = (asked, ours, case["opens"]["tensors"].as_array()) {
        for row in rows {
            let info = metadata.info(row[0].as_str().expect("a name")).expect("a tensor");
            let shape: Vec<u64> = info.shape.iter().map(|&extent| extent as u64).collect();
            let dtype = serde_json::to_value(info.dtype).expect("a type");
            let described = Value::from(vec![row[0].clone(), dtype, shape.into(), info.data_offsets.0.into(), info.data_offsets.1.into()]);
            assert_eq!(described.as_array().map(Vec::as_slice), row.as_array().map(|row| &row[..5]), "{}", case["name"]);
        }
        assert_eq!(metadata.tensors().len(), rows.len(), "{}", case["name"]);
    }
}

#[test]
fn a_case_that_does_not_hold_is_noticed() {
    let engine = harness::engine();
    let directory = harness::directory();
    let mut case = described::cases("headers.json").into_iter().find(|case| case["name"] == "no metadata").expect("the case");
    let start = described::write(&directory.path().join("model.safetensors"), &case["file"]);
    let starts = BTreeMap::from([("model.safetensors".into(), start)]);
    let holds = |case: &Value| {
        let path = directory.path();
        catch_unwind(AssertUnwindSafe(|| {
            check(&engine, path, "model.safetensors", &starts, case);
            ask_reference(&path.join("model.safetensors"), case);
        }))
        .is_ok()
    };
    assert!(holds(&case));
    for (place, wrong) in [
        ("/opens/tensors/0/2/0", 5.into()),
        ("/opens/tensors/0/0", "b".into()),
        ("/opens/metadata", serde_json::json!({ "a": "b" })),
        ("/reference", "refuses".into()),
    ] {
        let right = std::mem::replace(case.pointer_mut(place).expect("the place"), wrong);
        assert!(!holds(&case), "{place}");
        *case.pointer_mut(place).expect("the place") = right;
    }
    assert_eq!(
        text_of(
            &serde_json::json!(["a", { "hex": "00ff" }, { "repeat": "xy", "times": 2 }, { "each": "{i}:{end}", "times": 2, "bytes": 3 }])
        ),
        b"a\0\xffxyxy0:3,1:6"
    );
}
