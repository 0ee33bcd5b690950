//! [`Manifest`]: what makes a directory a generation: it names the part of every writer, and sums it.
//!
//! ```text
//!   "id":"…","generation":42,"step":7,"created":1767225600000,"previous":41,
//!   "parts":[{"name":"part-00000.json","bytes":512,"crc":"xxxxxxxx"}],"meta":{…}
//! ```
//!
//! `step` and `previous` can be `null`. `created` counts milliseconds since 1970. `meta` is JSON as the program gave it.

use super::json::{Field, Value};
use super::names::{Id, Member, WRITERS_MAX};
use super::part::{PART_BYTES_MAX, Part};
use super::sealed;
use crate::error::{Error, Fault, Reason};
use deepring::crc32c;
use serde_json::value::RawValue;
use std::fmt::Write as _;

/// The longest `meta`.
pub(crate) const META_BYTES_MAX: u64 = 16 << 20;

/// The largest manifest: its `meta`, and some 100 bytes for each writer.
pub(crate) const MANIFEST_BYTES_MAX: u64 = META_BYTES_MAX + WRITERS_MAX as u64 * 100 + 4096;

/// What a generation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) id: Id,
    pub(crate) generation: u64,
    pub(crate) step: Option<u64>,
    pub(crate) created_ms: u64,
    /// The newest generation when this one began.
    pub(crate) previous: Option<u64>,
    /// Of writer 0, 1, 2 and so on.
    pub(crate) parts: Vec<ManifestPart>,
    /// JSON, which [`meta`] allows.
    pub(crate) meta: String,
}

/// The file of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ManifestPart {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// Of all its bytes.
    pub(crate) crc: u32,
}

impl ManifestPart {
    /// The part of this text.
    pub(crate) fn new(writer: u32, text: &[u8]) -> Self {
        Self { name: Member::Part(writer).to_string(), bytes: text.len() as u64, crc: crc32c(text) }
    }
}

impl Manifest {
    /// The text of the file. Equal manifests have equal texts.
    pub(crate) fn text(&self) -> String {
        let Self { id, generation, step, created_ms, previous, parts, meta } = self;
        let (step, previous) = (or_null(*step), or_null(*previous));
        let mut text = format!("\"id\":\"{id}\",\"generation\":{generation},\"step\":{step},\"created\":{created_ms},");
        let _ = write!(text, "\"previous\":{previous},\"parts\":[");
        for (nth, ManifestPart { name, bytes, crc }) in parts.iter().enumerate() {
            let (comma, crc) = (if nth == 0 { "" } else { "," }, sealed::digits(*crc));
            let _ = write!(text, "{comma}{{\"name\":\"{name}\",\"bytes\":{bytes},\"crc\":\"{crc}\"}}");
        }
        let _ = write!(text, "],\"meta\":{meta}");
        sealed::seal(&text)
    }

    /// Reads the text of a file, found in the directory of this generation.
    pub(crate) fn parse(bytes: &[u8], generation: u64) -> Result<Self, Fault> {
        let all = Value::new(sealed::open(bytes, MANIFEST_BYTES_MAX, Reason::Manifest)?, Reason::Manifest);
        let (mut id, mut number, mut step) = (Field::new("id"), Field::new("generation"), Field::new("step"));
        let (mut created, mut previous) = (Field::new("created"), Field::new("previous"));
        let (mut parts, mut meta) = (Field::new("parts"), Field::new("meta"));
        all.object(|key, value| match &*key {
            "id" => id.set(value, value.known("an id", Id::parse)?),
            "generation" => number.set(value, value.number()?),
            "step" => step.set(value, value.number_or_null()?),
            "created" => created.set(value, value.number()?),
            "previous" => previous.set(value, value.number_or_null()?),
            "parts" => parts.set(value, parts_of(value)?),
            "meta" => meta.set(value, value.text()),
            _ => Ok(()),
        })?;
        let number = number.take(all)?;
        if number != generation {
            return Err(Fault::new(Reason::Identity, format!("it is of generation {number}, in the directory of {generation}")));
        }
        let (previous, meta) = (previous.take(all)?, meta.take(all)?);
        if previous.is_some_and(|previous| previous >= number) {
            return Err(all.fault(format!("it is of generation {number}, and not after the previous one")));
        }
        if meta.len() as u64 > META_BYTES_MAX {
            return Err(all.fault(format!("meta has {} bytes, and {META_BYTES_MAX} are allowed", meta.len())));
        }
        let (id, step, created_ms, parts) = (id.take(all)?, step.take(all)?, created.take(all)?, parts.take(all)?);
        Ok(Self { id, generation, step, created_ms, previous, parts, meta: meta.to_owned() })
    }

    /// The part of a writer, which must exist, if these are the bytes that the manifest sums.
    pub(crate) fn part(&self, writer: u32, bytes: &[u8]) -> Result<Part, Fault> {
        let listed = &self.parts[writer as usize];
        if bytes.len() as u64 != listed.bytes {
            let detail = format!("it has {} bytes, and the manifest lists {}", bytes.len(), listed.bytes);
            return Err(Fault::new(Reason::Part, detail));
        }
        let part = Part::parse(bytes)?;
        self.check(&part, writer)?;
        if crc32c(bytes) != listed.crc {
            return Err(Fault::new(Reason::Identity, "it is a part of this generation, but not the one that the manifest sums"));
        }
        Ok(part)
    }

    /// Checks that a part is that of this writer of this generation.
    fn check(&self, part: &Part, writer: u32) -> Result<(), Fault> {
        if (part.id, part.writer) == (self.id, writer) {
            return Ok(());
        }
        let detail = format!("it is of writer {} of {}, not of writer {writer} of {}", part.writer, part.id, self.id);
        Err(Fault::new(Reason::Identity, detail))
    }
}

/// The `meta` of a program, without the space around it.
pub(crate) fn meta(json: &str) -> Result<String, Error> {
    let too_long = |len: usize| Error::Argument(format!("meta has {len} bytes, and {META_BYTES_MAX} are allowed"));
    if json.len() as u64 > META_BYTES_MAX {
        return Err(too_long(json.len()));
    }
    let value: &RawValue = serde_json::from_str(json).map_err(|error| Error::Argument(format!("meta is not JSON: {error}")))?;
    Ok(value.get().to_owned())
}

fn parts_of(value: Value<'_>) -> Result<Vec<ManifestPart>, Fault> {
    let mut parts = Vec::new();
    value.array(|part| {
        let writer = parts.len() as u32;
        if writer == WRITERS_MAX {
            return Err(part.fault(format!("there are more than {WRITERS_MAX} parts")));
        }
        parts.push(part_of(part, writer)?);
        Ok(())
    })?;
    if parts.is_empty() { Err(value.fault("there are no parts")) } else { Ok(parts) }
}

fn part_of(part: Value<'_>, writer: u32) -> Result<ManifestPart, Fault> {
    let (mut name, mut bytes, mut crc) = (Field::new("name"), Field::new("bytes"), Field::new("crc"));
    part.object(|key, value| match &*key {
        "name" => {
            let own = |name: &str| (Member::parse(name) == Some(Member::Part(writer))).then(|| name.to_owned());
            name.set(value, value.known(&format!("the name of the part of writer {writer}"), own)?)
        }
        "bytes" => bytes.set(value, value.number()?),
        "crc" => crc.set(value, value.known("a checksum", sealed::of_digits)?),
        _ => Ok(()),
    })?;
    let (name, bytes, crc) = (name.take(part)?, bytes.take(part)?, crc.take(part)?);
    if bytes > PART_BYTES_MAX {
        return Err(Fault::new(Reason::TooLarge, format!("{name} has {bytes} bytes, and {PART_BYTES_MAX} are allowed")));
    }
    Ok(ManifestPart { name, bytes, crc })
}

fn or_null(number: Option<u64>) -> String {
    number.map_or_else(|| "null".into(), |number| number.to_string())
}
