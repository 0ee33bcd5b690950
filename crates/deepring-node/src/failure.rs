//! What went wrong, as JavaScript gets it.

use deepring::ErrorKind;
use deepring::binding::GroupFailure;
use napi_derive::napi;

#[napi(object)]
#[derive(Clone)]
pub struct Failure {
    pub code: String,
    pub errno: i32,
    pub syscall: String,
    pub path: Option<String>,
    pub position: f64,
    pub requested: f64,
    pub transferred: f64,
    /// Of a call with many ranges: which one; -1 if there is none.
    pub index: f64,
    /// Of a wrong checksum.
    pub expected: Option<u32>,
    pub actual: Option<u32>,
    /// The name of the tensor that it is about.
    pub tensor: Option<String>,
    /// What is wrong with a file.
    pub reason: Option<String>,
    /// Of a budget: bytes that are needed, and those that it has.
    pub needed: Option<f64>,
    pub budget: Option<f64>,
    /// Of a checkpoint: the number of the generation, and writers that it lacks.
    pub generation: Option<f64>,
    pub writers: Option<Vec<u32>>,
    pub message: String,
}

impl Failure {
    /// A failure of which nothing but this is known.
    pub fn plain(code: &str, message: &str) -> Self {
        Self {
            code: code.to_owned(),
            errno: 0,
            syscall: String::new(),
            path: None,
            position: -1.0,
            requested: 0.0,
            transferred: 0.0,
            index: -1.0,
            expected: None,
            actual: None,
            tensor: None,
            reason: None,
            needed: None,
            budget: None,
            generation: None,
            writers: None,
            message: message.to_owned(),
        }
    }
}

impl From<&deepring_tensors::Error> for Failure {
    fn from(error: &deepring_tensors::Error) -> Self {
        use deepring_tensors::Error;
        let plain = |message: &str| Self { tensor: error.tensor().map(str::to_owned), ..Self::plain(&error.code(), message) };
        let path = |path: &std::path::Path| Some(path.to_string_lossy().into_owned());
        match error {
            Error::Io { error: cause, .. } => Self { tensor: error.tensor().map(str::to_owned), ..Self::from(cause) },
            Error::Format { reason, path: file, detail, .. } => {
                Self { path: path(file), reason: Some(reason.as_str().to_owned()), ..plain(detail) }
            }
            Error::NotFound { .. } => plain("there is no such tensor"),
            Error::Slice { detail, .. } => plain(detail),
            Error::Budget { needed, budget, .. } => Self {
                needed: Some(*needed as f64),
                budget: Some(*budget as f64),
                ..plain(&format!("{needed} bytes are needed at once, and the budget is {budget}"))
            },
            Error::Checksum { path: file, position, expected, actual, .. } => Self {
                path: path(file),
                position: *position as f64,
                expected: Some(*expected),
                actual: Some(*actual),
                ..plain(&format!("the checksum is {actual:#010x}, not {expected:#010x}"))
            },
            Error::Incomplete { generation, writers } => {
                let text = error.to_string();
                let sentence = text.rsplit_once(": ").map_or(&*text, |(_, sentence)| sentence);
                Self { generation: Some(*generation as f64), writers: Some(writers.clone()), ..plain(sentence) }
            }
            Error::Conflict { generation, detail } => Self { generation: Some(*generation as f64), ..plain(detail) },
            Error::Busy { path: store, detail } => Self { path: path(store), ..plain(detail) },
            Error::Torn { path: store } => {
                Self { path: path(store), ..plain("it was not flushed before its process ended; open it with `create` to begin anew") }
            }
            Error::Overlap { start, end, .. } => {
                Self { position: *start as f64, ..plain(&format!("bytes {start} to {end} were given before")) }
            }
            Error::OutOfRange { start, end, len, .. } => {
                Self { position: *start as f64, ..plain(&format!("bytes {start} to {end} leave the {len} that it has")) }
            }
            Error::NoGeneration { generation } => Self { generation: Some(*generation as f64), ..plain("there is no such generation") },
            Error::Argument(text) => plain(text),
            other => plain(&other.to_string()),
        }
    }
}

impl From<&deepring::Error> for Failure {
    fn from(error: &deepring::Error) -> Self {
        let errno = error.errno().unwrap_or(0);
        let code = error.code();
        let sums = if let ErrorKind::Checksum { expected, actual } = error.kind() { Some((expected, actual)) } else { None };
        Self {
            code: if code.starts_with("ERR_") { code } else { String::new() },
            errno: -errno,
            syscall: error.syscall().to_owned(),
            path: error.path().map(|path| path.to_string_lossy().into_owned()),
            position: error.position().map_or(-1.0, |position| position as f64),
            requested: error.requested() as f64,
            transferred: error.transferred() as f64,
            index: error.index().map_or(-1.0, f64::from),
            expected: sums.map(|(expected, _)| expected),
            actual: sums.map(|(_, actual)| actual),
            tensor: None,
            reason: None,
            needed: None,
            budget: None,
            generation: None,
            writers: None,
            message: error.sentence(),
        }
    }
}

/// One failure of a group.
#[napi(object)]
pub struct MemberFailure {
    pub index: f64,
    pub failure: Failure,
}

impl From<&GroupFailure> for MemberFailure {
    fn from(failed: &GroupFailure) -> Self {
        Self { index: failed.index as f64, failure: Failure::from(&failed.error) }
    }
}
