//! [`Failure`]: why a call has failed, without a version of `object_store`. [`Fault`]: what a remote did wrong.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What is wrong with an answer of a remote, or with what was asked for. It is the source of the `Generic` error, or of the
/// `Precondition`, that a call returns, and `downcast_ref` finds it there. Nothing of such an answer is cached.
///
/// ```
/// use deepring_tier::Fault;
/// use std::time::Duration;
/// let source: Box<dyn std::error::Error> = Box::new(Fault::TimedOut(Duration::from_secs(1))); // that of an error
/// assert!(matches!(source.downcast_ref(), Some(Fault::TimedOut(_))));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The remote did not answer in time: see [`TierBuilder::timeout`](crate::TierBuilder::timeout).
    #[error("the remote did not answer within {0:?}")]
    TimedOut(Duration),
    /// The body of an answer ended early.
    #[error("the remote sent {found} bytes for a range of {expected}")]
    Short {
        /// The bytes of the range.
        expected: u64,
        /// The bytes that came.
        found: u64,
    },
    /// The body of an answer went on behind its end.
    #[error("the remote sent more than the {expected} bytes of the range")]
    Long {
        /// The bytes of the range.
        expected: u64,
    },
    /// The answer is for another range than was asked for.
    #[error("the remote answered with {start}..{end} of {size} bytes, when asked for {asked}")]
    WrongRange {
        /// What was asked for.
        asked: String,
        /// Where the answer begins.
        start: u64,
        /// Where the answer ends.
        end: u64,
        /// The size of the object, as the answer has it.
        size: u64,
    },
    /// The object changed between two parts of one read. No read mixes two versions, so this one ended.
    #[error("the object was replaced while it was read; read it again")]
    Changed,
    /// The range is not inside the object.
    #[error("the range {asked} is not inside the object, which has {size} bytes")]
    OutOfBounds {
        /// What was asked for.
        asked: String,
        /// The bytes of the object.
        size: u64,
    },
}

/// Which error of `object_store` it becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    NotFound,
    AlreadyExists,
    Precondition,
    NotModified,
    Denied,
    Unauthenticated,
    NotSupported,
    /// The remote has another version than the one that a fetch asked for: 412.
    Lost,
    /// An answer with another `ETag` than the one that was asked for: a remote without `If-Match`.
    Differs,
    Other,
}

/// See the module. All who wait for one fetch get the same.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) path: String,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    Fault(Fault),
    Other(Arc<dyn Error + Send + Sync>),
}

impl Failure {
    pub(crate) fn new(kind: Kind, path: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, path: path.into(), source: Source::Other(Arc::from(source.into())) }
    }

    pub(crate) fn fault(path: &str, fault: Fault) -> Self {
        let kind = if fault == Fault::Changed { Kind::Lost } else { Kind::Other };
        Self { kind, path: path.to_owned(), source: Source::Fault(fault) }
    }

    pub(crate) fn with_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// What an error of `object_store` carries.
    pub(crate) fn into_source(self) -> Box<dyn Error + Send + Sync> {
        match self.source {
            Source::Fault(fault) => Box::new(fault),
            Source::Other(error) => Box::new(Shared(error)),
        }
    }
}

/// An error that several callers got.
#[derive(Debug)]
struct Shared(Arc<dyn Error + Send + Sync>);

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Shared {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}
