//! The names in a directory of checkpoints. Each is parsed back in exactly one form, so two names never mean the same thing,
//! and a name that is parsed cannot leave its directory.

use std::fmt;

/// What describes a generation, in its directory.
pub(crate) const MANIFEST: &str = "manifest.json";

/// The index that readers of safetensors know, in the directory of a generation.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// The lock of a store.
pub(crate) const LOCK: &str = ".lock";

/// The directory whose files are named after the generations that stay.
pub(crate) const PINS: &str = ".pins";

/// The number of a generation is below this: JavaScript counts no further.
pub(crate) const GENERATIONS_MAX: u64 = 1 << 53;

/// The most writers of a generation: each costs it a file and a lock.
pub(crate) const WRITERS_MAX: u32 = 1 << 16;

/// The longest name of a group, in bytes. A file system allows 255 for the name that contains it.
const GROUP_BYTES_MAX: usize = 64;

/// What tells one attempt at a generation from every other, also after its number was used again: 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Id(pub(crate) u128);

impl Id {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        exactly(Self(u128::from_str_radix(text, 16).ok()?), text)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Who wrote a data file: the attempt, and the writer in it. The metadata of the file has it under `deepring`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) id: Id,
    pub(crate) writer: u32,
}

impl Origin {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (id, writer) = text.split_once(':')?;
        exactly(Self { id: Id::parse(id)?, writer: self::writer(writer)? }, text)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.id, self.writer)
    }
}

/// A directory in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Entry {
    /// A generation.
    Generation(u64),
    /// An attempt at a generation.
    Temporary(u64, Id),
    /// What was a generation, or an attempt.
    Trash(u64, Id),
}

impl Entry {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let attempt = |rest: &str| {
            let (number, id) = rest.split_once('-')?;
            Some((generation(number)?, Id::parse(id)?))
        };
        let entry = if let Some(rest) = name.strip_prefix(".tmp-") {
            attempt(rest).map(|(number, id)| Self::Temporary(number, id))
        } else if let Some(rest) = name.strip_prefix(".trash-") {
            attempt(rest).map(|(number, id)| Self::Trash(number, id))
        } else {
            generation(name).map(Self::Generation)
        };
        exactly(entry?, name)
    }

    /// The number of the generation that it is, was, or would be.
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Generation(number) | Self::Temporary(number, _) | Self::Trash(number, _) => number,
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Generation(number) => write!(f, "{number:012}"),
            Self::Temporary(number, id) => write!(f, ".tmp-{number:012}-{id}"),
            Self::Trash(number, id) => write!(f, ".trash-{number:012}-{id}"),
        }
    }
}

/// A file that a writer has in the directory of its generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Member<'n> {
    /// Tensors: a file of a group.
    Data {
        /// The writer.
        writer: u32,
        /// The group, which [`is_group`] allows.
        group: &'n str,
        /// The number of the file in the group.
        file: u32,
    },
    /// The tables of a writer.
    Part(u32),
    /// Held while the writer is alive.
    Lock(u32),
}

impl<'n> Member<'n> {
    pub(crate) fn parse(name: &'n str) -> Option<Self> {
        let member = if let Some(rest) = name.strip_prefix("data-") {
            let (writer, rest) = rest.strip_suffix(".safetensors")?.split_once('-')?;
            let (group, file) = rest.rsplit_once('-')?;
            let writer = self::writer(writer)?;
            is_group(group).then_some(Self::Data { writer, group, file: file.parse().ok()? })
        } else if let Some(rest) = name.strip_prefix("part-") {
            rest.strip_suffix(".json").and_then(self::writer).map(Self::Part)
        } else {
            name.strip_prefix("lock-").and_then(self::writer).map(Self::Lock)
        };
        exactly(member?, name)
    }
}

impl fmt::Display for Member<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data { writer, group, file } => write!(f, "data-{writer:05}-{group}-{file:05}.safetensors"),
            Self::Part(writer) => write!(f, "part-{writer:05}.json"),
            Self::Lock(writer) => write!(f, "lock-{writer:05}"),
        }
    }
}

/// Whether a group can have this name: 1 to 64 of `a` to `z`, `0` to `9`, `_` and `-`.
pub(crate) fn is_group(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    (1..=GROUP_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

fn generation(digits: &str) -> Option<u64> {
    digits.parse().ok().filter(|&number| number < GENERATIONS_MAX)
}

fn writer(digits: &str) -> Option<u32> {
    digits.parse().ok().filter(|&writer| writer < WRITERS_MAX)
}

/// The value, if this is the one text for it.
fn exactly<T: fmt::Display>(value: T, text: &str) -> Option<T> {
    (value.to_string() == text).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::{Entry, GENERATIONS_MAX, Id, Member, Origin, WRITERS_MAX, is_group};
    use proptest::prelude::*;
    use std::path::{Component, Path};

    const ID: &str = "00112233445566778899aabbccddeeff";

    #[test]
    fn names_are_those_of_the_format() {
        let id = Id(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
        assert_eq!(Entry::Generation(42).to_string(), "000000000042");
        assert_eq!(Entry::Temporary(43, id).to_string(), format!(".tmp-000000000043-{ID}"));
        assert_eq!(Entry::Trash(7, id).to_string(), format!(".trash-000000000007-{ID}"));
        let data = Member::Data { writer: 1, group: "main", file: 2 };
        assert_eq!(data.to_string(), "data-00001-main-00002.safetensors");
        assert_eq!((Member::Part(3).to_string(), Member::Lock(4).to_string()), ("part-00003.json".into(), "lock-00004".into()));
        assert_eq!(Origin { id, writer: 12 }.to_string(), format!("{ID}:12"));
    }

    #[test]
    fn a_name_in_another_form_is_none() {
        let entries = ["", "42", "00000000042", "0000000000042", "+00000000042", "00000000004a", " 00000000042", "000000000042/"];
        for name in entries.into_iter().chain(["009007199254740992", "9007199254740992", "99999999999999999999", ".lock", ".pins"]) {
            assert_eq!(Entry::parse(name), None, "{name:?}");
        }
        assert_eq!(Entry::parse("9007199254740991"), Some(Entry::Generation(GENERATIONS_MAX - 1)));
        for name in [".tmp-000000000043", ".tmp-43-", &format!(".tmp-43-{ID}"), &format!(".tmp-000000000043-{}", ID.to_uppercase())] {
            assert_eq!(Entry::parse(name), None, "{name:?}");
        }
        for name in ["data-0-main-00000.safetensors", "data-00000-Main-00000.safetensors", "data-00000--00000.safetensors"] {
            assert_eq!(Member::parse(name), None, "{name:?}");
        }
        for name in ["data-00000-../../x-00000.safetensors", "part-00000", "part-65536.json", "part-000000.json", "lock-", "lock-+0001"] {
            assert_eq!(Member::parse(name), None, "{name:?}");
        }
        for text in [ID, &format!("{ID}:"), &format!("{ID}:01"), &format!("{ID}:65536"), &format!("{ID}0:1"), &format!("+{}:1", &ID[1..])] {
            assert_eq!(Origin::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_name_of_a_group_is_short_and_plain() {
        let longest = "x".repeat(64);
        for name in ["main", "-", "00000", "a_b-c", &longest] {
            assert!(is_group(name), "{name:?}");
        }
        let longer = "x".repeat(65);
        for name in ["", "Main", "a/b", "..", "a b", "ä", "a\0", &longer] {
            assert!(!is_group(name), "{name:?}");
        }
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let number = || prop_oneof![0..3u64, 999_999_999_990..1_000_000_000_010u64, 0..GENERATIONS_MAX];
        prop_oneof![
            number().prop_map(Entry::Generation),
            (number(), any::<u128>()).prop_map(|(number, id)| Entry::Temporary(number, Id(id))),
            (number(), 0..99u128).prop_map(|(number, id)| Entry::Trash(number, Id(id))),
        ]
    }

    proptest! {
        #[test]
        fn directories_come_back(entry in entry()) {
            prop_assert_eq!(Entry::parse(&entry.to_string()), Some(entry));
        }

        #[test]
        fn files_come_back(writer in 0..WRITERS_MAX, group in "[a-z0-9_-]{1,64}", file in prop_oneof![0..3u32, any::<u32>()]) {
            for member in [Member::Data { writer, group: &group, file }, Member::Part(writer), Member::Lock(writer)] {
                let name = member.to_string();
                prop_assert_eq!(Member::parse(&name), Some(member));
            }
        }

        #[test]
        fn what_is_parsed_is_one_file_and_has_one_form(
            name in "(data-|part-|lock-|\\.tmp-|\\.trash-)?[0-9a-f+./-]{0,12}(-[a-z/.]{0,3}-)?[0-9a-f]{0,32}(\\.json|\\.safetensors)?"
        ) {
            let texts = [Entry::parse(&name).map(|entry| entry.to_string()), Member::parse(&name).map(|member| member.to_string())];
            for text in texts.into_iter().flatten() {
                prop_assert_eq!(&text, &name);
                let parts: Vec<_> = Path::new(&name).components().collect();
                prop_assert!(matches!(parts[..], [Component::Normal(part)] if part == name.as_str()));
            }
        }
    }
}
