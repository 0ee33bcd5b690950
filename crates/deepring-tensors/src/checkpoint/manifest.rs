//! [`Manifest`]: what makes a directory a generation: it names the part of every writer, and sums it.
//!
//! ```text
//!   "id":"…","generation":42,"step":7,"created":1767225600000,"previous":41,
//!   "parts":[{"name":"part-00000.json","bytes":512,"crc":"xxxxxxxx"}],"meta":{…}
//! ```
//!
//! `step` and `previous` can be `null`. `created` counts milliseconds since 1970. `meta` is JSON as the program gave it.

use super::names::{Id, Member, WRITERS_MAX};
use super::part::{PART_BYTES_MAX, Part};
use crate::error::{Error, Fault, Reason};
use crate::json::{Field, Value};
use crate::sealed;
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

#[cfg(test)]
mod tests {
    use super::{MANIFEST_BYTES_MAX, META_BYTES_MAX, Manifest, ManifestPart, meta};
    use crate::checkpoint::names::{Id, WRITERS_MAX};
    use crate::checkpoint::part::{CHUNK_BYTES, Part};
    use crate::error::Reason;
    use crate::sealed::seal;
    use proptest::prelude::*;

    fn part(id: u128, writer: u32) -> Part {
        Part { id: Id(id), writer, chunk: CHUNK_BYTES, files: vec![], split: vec![] }
    }

    fn manifest(texts: &[String]) -> Manifest {
        let parts = (0..).zip(texts).map(|(writer, text)| ManifestPart::new(writer, text.as_bytes())).collect();
        Manifest { id: Id(1), generation: 42, step: Some(7), created_ms: 1, previous: None, parts, meta: "{}".into() }
    }

    /// The reason of a text whose fields were changed, and sealed again.
    fn reason(from: &str, to: &str) -> Reason {
        let text = manifest(&[String::new(), String::new()]).text();
        let fields = text.strip_prefix("{\"format\":\"deepring-checkpoint\",\"version\":1,").expect("the beginning");
        let fields = fields.rsplit_once(",\"crc32c\"").expect("the end").0;
        assert!(fields.contains(from), "{fields}");
        Manifest::parse(seal(&fields.replacen(from, to, 1)).as_bytes(), 42).expect_err("wrong").reason
    }

    #[test]
    fn the_form_is_that_of_the_format() {
        let parts = vec![ManifestPart { name: "part-00000.json".into(), bytes: 3, crc: 0xab }];
        let manifest = Manifest { id: Id(10), generation: 42, step: None, created_ms: 5, previous: Some(41), parts, meta: "[1, 2]".into() };
        let fields = "\"id\":\"0000000000000000000000000000000a\",\"generation\":42,\"step\":null,\"created\":5,\"previous\":41,\
            \"parts\":[{\"name\":\"part-00000.json\",\"bytes\":3,\"crc\":\"000000ab\"}],\"meta\":[1, 2]";
        assert_eq!(manifest.text(), seal(fields));
        // A field that a later release adds.
        assert_eq!(Manifest::parse(seal(&format!("\"new\":[[{{}}]],{fields}")).as_bytes(), 42), Ok(manifest));
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for (from, to) in [
            ("\"id\":\"0", "\"id\":\""),
            ("\"step\":7", "\"step\":7.0"),
            ("\"step\":7", "\"step\":9007199254740992"),
            ("\"step\":7,", ""),
            ("\"step\":7", "\"step\":7,\"step\":7"),
            ("\"previous\":null", "\"previous\":42"),
            ("part-00000.json", "part-00001.json"),
            ("part-00000.json", "../part-00000.json"),
            ("part-00001.json", "part-1.json"),
            ("\"crc\":\"0", "\"crc\":\"+"),
            ("\"bytes\":0", "\"bytes\":-1"),
            ("\"parts\":[", "\"parts\":[],\"other\":["),
            ("\"parts\":[", "\"parts\":{},\"other\":["),
            ("\"meta\":{}", "\"meta\":{"),
        ] {
            assert_eq!(reason(from, to), Reason::Manifest, "{from} {to}");
        }
        assert_eq!(reason("\"generation\":42", "\"generation\":41"), Reason::Identity);
        assert_eq!(reason("\"bytes\":0", "\"bytes\":67108865"), Reason::TooLarge);
    }

    #[test]
    fn a_part_is_the_one_that_was_summed() {
        let texts = [0, 1].map(|writer| part(1, writer).text().expect("small"));
        let manifest = manifest(&texts);
        assert_eq!(manifest.part(1, texts[1].as_bytes()), Ok(part(1, 1)));
        let reason = |text: &str| manifest.part(1, text.as_bytes()).expect_err("wrong").reason;
        assert_eq!(reason(&texts[0]), Reason::Identity, "of another writer");
        assert_eq!(reason(&part(2, 1).text().expect("small")), Reason::Identity, "of another generation");
        assert_eq!(reason(&texts[1].replace("{}", "[]")), Reason::Part, "changed");
        assert_eq!(reason(&texts[1][1..]), Reason::Part, "cut");
        assert_eq!(reason(&Part { chunk: 2 * CHUNK_BYTES, ..part(1, 1) }.text().expect("small")), Reason::Identity, "written again");
    }

    #[test]
    fn the_largest_manifest_is_read_and_a_larger_one_is_not() {
        let name = |writer: u32| ManifestPart { bytes: 1 << 26, ..ManifestPart::new(writer, b"x") };
        let mut largest = manifest(&[]);
        largest.parts = (0..WRITERS_MAX).map(name).collect();
        largest.meta = format!("\"{}\"", "x".repeat(META_BYTES_MAX as usize - 2));
        let text = largest.text();
        assert_eq!(Manifest::parse(text.as_bytes(), 42), Ok(largest.clone()));
        largest.parts.push(name(WRITERS_MAX));
        assert_eq!(Manifest::parse(largest.text().as_bytes(), 42).expect_err("one writer more").reason, Reason::Manifest);
        let zeros = vec![b'0'; MANIFEST_BYTES_MAX as usize + 1];
        assert_eq!(Manifest::parse(&zeros, 42).expect_err("too large").reason, Reason::TooLarge);
    }

    #[test]
    fn meta_is_any_json_up_to_its_size() {
        for (given, kept) in
            [(" {\"a\": [1, 2]}\n", "{\"a\": [1, 2]}"), ("null", "null"), ("\"\\ud800\"", "\"\\ud800\""), ("1e999", "1e999")]
        {
            assert_eq!(meta(given).expect("JSON"), kept);
            let mut manifest = manifest(&[String::new()]);
            manifest.meta = kept.into();
            assert_eq!(Manifest::parse(manifest.text().as_bytes(), 42), Ok(manifest));
        }
        for wrong in ["", "{", "{} {}", "1,\"parts\":[]", "undefined"] {
            assert_eq!(meta(wrong).expect_err("not JSON").code(), "ERR_DEEPRING_INVALID");
        }
        assert!(meta(&format!("\"{}\"", "x".repeat(META_BYTES_MAX as usize - 1))).is_err());
    }

    proptest! {
        #[test]
        fn a_manifest_comes_back(
            (id, generation) in (any::<u128>(), 1..1u64 << 53),
            (step, previous) in (prop::option::of(0..1u64 << 53), prop::option::of(any::<prop::sample::Index>())),
            sums in prop::collection::vec((0..1u64 << 26, any::<u32>()), 1..5),
            text in ".{0,9}",
        ) {
            let listed = |(writer, (bytes, crc))| ManifestPart { bytes, crc, ..ManifestPart::new(writer, b"") };
            let parts = (0..).zip(sums).map(listed).collect();
            let previous = previous.map(|index| index.index(generation as usize) as u64);
            let meta = serde_json::Value::from(text).to_string();
            let manifest = Manifest { id: Id(id), generation, step, created_ms: 1, previous, parts, meta };
            prop_assert_eq!(Manifest::parse(manifest.text().as_bytes(), generation), Ok(manifest));
        }
    }
}
