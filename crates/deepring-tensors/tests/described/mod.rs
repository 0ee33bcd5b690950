//! Files that are described as data: `tests/hostile/*.json`, which the tests of both languages read. The form is in
//! `tests/hostile/README.md`.

#![allow(dead_code, reason = "every test binary uses its own part")]

use serde_json::Value;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

/// Bytes of the length of a header.
const LENGTH_BYTES: u64 = 8;

/// The cases of one file of `tests/hostile/`.
pub(crate) fn cases(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile").join(name);
    let text = fs::read_to_string(path).expect("the cases");
    match serde_json::from_str(&text).expect("JSON") {
        Value::Array(cases) => cases,
        other => panic!("{other} in place of an array"),
    }
}

/// What a text or a list of its pieces describes.
pub(crate) fn text_of(described: &Value) -> Vec<u8> {
    let mut text = Vec::new();
    match described {
        Value::Array(pieces) => pieces.iter().for_each(|piece| add(&mut text, piece)),
        piece => add(&mut text, piece),
    }
    text
}

fn add(text: &mut Vec<u8>, piece: &Value) {
    if let Some(plain) = piece.as_str() {
        text.extend_from_slice(plain.as_bytes());
    } else if let Some(hex) = piece["hex"].as_str() {
        text.extend((0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal digits")));
    } else if let Some(repeated) = piece["repeat"].as_str() {
        text.extend_from_slice(repeated.repeat(number(&piece["times"]) as usize).as_bytes());
    } else {
        let template = Template::of(piece["each"].as_str().expect("a piece"));
        let (times, bytes) = (number(&piece["times"]), number(&piece["bytes"]));
        let mut line = String::new();
        for index in 0..times {
            line.clear();
            line.push_str(if index == 0 { "" } else { "," });
            template.fill(&mut line, index, bytes);
            text.extend_from_slice(line.as_bytes());
        }
    }
}

/// A text with `{i}`, `{begin}` and `{end}`.
struct Template<'t>(Vec<&'t str>);

impl<'t> Template<'t> {
    const PLACES: [&'static str; 3] = ["{i}", "{begin}", "{end}"];

    fn of(mut text: &'t str) -> Self {
        let mut parts = Vec::new();
        while let Some((at, place)) = Self::PLACES.iter().filter_map(|place| Some((text.find(place)?, place))).min() {
            parts.extend([&text[..at], &text[at..at + place.len()]]);
            text = &text[at + place.len()..];
        }
        parts.push(text);
        Self(parts)
    }

    fn fill(&self, line: &mut String, index: u64, bytes: u64) {
        for &part in &self.0 {
            let number = match part {
                "{i}" => index,
                "{begin}" => index * bytes,
                "{end}" => (index + 1) * bytes,
                plain => {
                    line.push_str(plain);
                    continue;
                }
            };
            write!(line, "{number}").expect("a string grows");
        }
    }
}

/// The byte at a place of described data: the first is 1, the 252nd again.
pub(crate) fn data_byte(at: u64) -> u8 {
    1 + (at % 251) as u8
}

/// Writes a described file. Returns where its data begin.
pub(crate) fn write(path: &Path, described: &Value) -> u64 {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).expect("a directory");
    }
    if let Some(target) = described["link"].as_str() {
        std::os::unix::fs::symlink(target, path).expect("a link");
        return 0;
    }
    if described["pipe"] == true {
        assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
        return 0;
    }
    let mut bytes = Vec::new();
    let mut start = 0;
    if described.get("text").is_some() {
        bytes = text_of(&described["text"]);
    } else {
        let header = text_of(&described["header"]);
        let length = described["length"].as_str().map_or(header.len() as u64, |length| length.parse().expect("a length"));
        start = LENGTH_BYTES + header.len() as u64;
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&header);
        bytes.extend((0..number(&described["data"])).map(data_byte));
    }
    fs::write(path, &bytes).expect("a file");
    if !described["size"].is_null() {
        File::options().write(true).open(path).and_then(|file| file.set_len(number(&described["size"]))).expect("a size");
    }
    start
}

/// A number of a description; 0 if it is not there.
pub(crate) fn number(value: &Value) -> u64 {
    if value.is_null() { 0 } else { value.as_u64().unwrap_or_else(|| panic!("{value} is not a number")) }
}

/// Texts of a description; none if they are not there.
pub(crate) fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|text| text.as_str().expect("a text").to_owned()).collect()
}
