//! [`Attributes`]: what a store says of an object beside its size and version, such as its type, without a version of
//! `object_store`. Every answer of S3 has some. Pure.

/// What an attribute is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    ContentDisposition,
    ContentEncoding,
    ContentLanguage,
    ContentType,
    CacheControl,
    StorageClass,
    /// Of the user.
    Metadata(String),
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Attributes(pub(crate) Vec<(Name, String)>);

/// Those that have no name of their own. In a record, each has the number of its place here: later ones go to the end.
const PLAIN: [Name; 6] =
    [Name::ContentDisposition, Name::ContentEncoding, Name::ContentLanguage, Name::ContentType, Name::CacheControl, Name::StorageClass];
/// The number of one of the user.
const METADATA: u8 = u8::MAX;

impl Attributes {
    /// For a record: of each its number, the name of a user's, and the value, each text behind its length. `None`: one is too long.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        for (name, value) in &self.0 {
            bytes.push(PLAIN.iter().position(|plain| plain == name).map_or(METADATA, |number| number as u8));
            let own = if let Name::Metadata(own) = name { Some(own) } else { None };
            for text in own.into_iter().chain([value]) {
                let len = u16::try_from(text.len()).ok()?;
                bytes.extend_from_slice(&len.to_le_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
        }
        Some(bytes)
    }

    /// What [`Attributes::encode`] has written.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut list = Vec::new();
        while let Some((&number, rest)) = bytes.split_first() {
            bytes = rest;
            let name = if number == METADATA { Name::Metadata(text(&mut bytes)?) } else { PLAIN.get(usize::from(number))?.clone() };
            list.push((name, text(&mut bytes)?));
        }
        Some(Self(list))
    }
}

fn text(bytes: &mut &[u8]) -> Option<String> {
    let (len, rest) = bytes.split_first_chunk()?;
    let (text, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
    *bytes = rest;
    Some(std::str::from_utf8(text).ok()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_too_long_is_not_written() {
        const LEN_MAX: usize = u16::MAX as usize;
        let of = |len: usize| Attributes(vec![(Name::Metadata("x".repeat(len)), String::new())]);
        assert_eq!(of(LEN_MAX).encode().and_then(|bytes| Attributes::decode(&bytes)), Some(of(LEN_MAX)));
        assert_eq!(of(LEN_MAX + 1).encode(), None);
    }

    proptest! {
        #[test]
        fn all_come_back(list in prop::collection::vec((0..=PLAIN.len(), ".{0,20}", ".{0,20}"), 0..9)) {
            let name = |number: usize, own| PLAIN.get(number).cloned().unwrap_or(Name::Metadata(own));
            let attributes = Attributes(list.into_iter().map(|(number, own, value)| (name(number, own), value)).collect());
            prop_assert_eq!(Attributes::decode(&attributes.encode().expect("short ones")), Some(attributes));
        }

        #[test]
        fn other_bytes_are_none_or_attributes_that_are_written_like_them(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some(attributes) = Attributes::decode(&bytes) {
                prop_assert_eq!(attributes.encode(), Some(bytes));
            }
        }
    }
}
