//! [`Remote`]: the store behind the tier, without a version of `object_store`.

use crate::attributes::Attributes;
use crate::failure::{Failure, Fault};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// What a tier asks of the store behind it. Everything else goes there untouched.
pub(crate) trait Remote: fmt::Debug + Send + Sync + 'static {
    /// One request. The future owns all that it needs, because several callers can wait for it.
    fn get(&self, path: &str, ask: Ask) -> BoxFuture<'static, Result<Answer, Failure>>;
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) asked: Asked,
    /// The answer is to be of this `ETag`, or a failure.
    pub(crate) if_match: Option<String>,
    /// Only the description is wanted.
    pub(crate) head: bool,
}

/// What of an object is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Asked {
    All,
    Bounded(Range<u64>),
    Offset(u64),
    /// The last bytes.
    Suffix(u64),
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) meta: Meta,
    pub(crate) range: Range<u64>,
    pub(crate) body: BoxStream<'static, Result<Bytes, Failure>>,
}

/// What describes an object.
#[derive(Debug, Clone)]
pub(crate) struct Meta {
    pub(crate) e_tag: Option<String>,
    pub(crate) size: u64,
    pub(crate) modified: DateTime<Utc>,
    pub(crate) version: Option<String>,
    /// `None` if there is one that this crate does not know. Such an object is not cached.
    pub(crate) attributes: Option<Arc<Attributes>>,
}

impl Asked {
    /// The bytes of an object of this size, as `object_store` defines it: an end behind that of the object is clipped, a start
    /// at or behind it is refused, and so is a range without bytes.
    pub(crate) fn resolve(&self, size: u64) -> Result<Range<u64>, Fault> {
        let range = match self {
            Self::All => return Ok(0..size),
            Self::Suffix(bytes) => return Ok(size.saturating_sub(*bytes)..size),
            Self::Bounded(range) => range.start..range.end.min(size),
            Self::Offset(start) => *start..size,
        };
        if range.start < range.end { Ok(range) } else { Err(Fault::OutOfBounds { asked: self.to_string(), size }) }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("the whole object"),
            Self::Bounded(range) => write!(f, "{}..{}", range.start, range.end),
            Self::Offset(start) => write!(f, "{start}.."),
            Self::Suffix(bytes) => write!(f, "the last {bytes} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Asked;
    use proptest::prelude::*;

    #[test]
    fn ends_are_clipped_and_what_has_no_bytes_is_refused() {
        assert_eq!(Asked::Bounded(3..20).resolve(10), Ok(3..10));
        assert_eq!(Asked::Suffix(20).resolve(10), Ok(0..10));
        assert_eq!(Asked::All.resolve(0), Ok(0..0));
        for asked in [Asked::Bounded(10..20), Asked::Bounded(3..3), Asked::Bounded(u64::MAX - 1..u64::MAX), Asked::Offset(10)] {
            assert!(asked.resolve(10).is_err(), "{asked}");
        }
    }

    proptest! {
        #[test]
        fn what_is_resolved_is_inside(start in 0u64..200, len in 0u64..200, size in 0u64..200) {
            for asked in [Asked::All, Asked::Bounded(start..start + len), Asked::Offset(start), Asked::Suffix(len)] {
                if let Ok(range) = asked.resolve(size) {
                    prop_assert!(range.start <= range.end && range.end <= size);
                }
            }
        }
    }
}
