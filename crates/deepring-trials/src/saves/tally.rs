//! [`Tally`]: which versions can be there, and the verdict on the one that is.

use super::Seen;

/// The account of one model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// The last version whose save has ended; 0 before the first.
    last: u64,
    /// The last version whose save can have begun.
    begun: u64,
    acknowledged: u64,
    leftovers: u64,
}

/// What a cut has broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// An older version is there than the last acknowledged one, or none.
    Lost(String),
    /// What is there is not one whole version that can be there.
    Mixed(String),
}

impl Tally {
    /// The save of this version begins. Versions are numbered upward.
    pub fn begin(&mut self, version: u64) {
        self.begun = self.begun.max(version);
    }

    /// The save of this version has ended.
    pub fn acknowledge(&mut self, version: u64) {
        self.begin(version);
        self.last = version;
        self.acknowledged += 1;
    }

    /// The number of the first version of the next attempt. No number is used for two attempts.
    pub fn next(&self) -> u64 {
        self.begun + 1
    }

    /// How many were acknowledged in all.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// How many files were found beside the model in all.
    pub fn leftovers(&self) -> u64 {
        self.leftovers
    }

    /// Judges what is there after a cut, and continues from there: a version that was found has to
    /// stay.
    ///
    /// # Errors
    /// What is broken.
    pub fn judge(&mut self, seen: &Seen) -> Result<(), Broken> {
        let Self { last, begun, .. } = *self;
        let Seen { stream, version, leftovers, wrong } = seen;
        self.leftovers += leftovers;
        match (wrong, version) {
            (Some(wrong), _) => return Err(Broken::Mixed(format!("{stream}, {last} acknowledged, {begun} begun: {wrong}"))),
            (None, None) if last > 0 => return Err(Broken::Lost(format!("{stream}: version {last} is gone"))),
            (None, &Some(version)) if version < last => {
                return Err(Broken::Lost(format!("{stream}: version {last} is gone and {version} is back")));
            }
            (None, &Some(version)) if version != last && version != begun => {
                let what = format!("{stream}: version {version} is there, {last} was acknowledged and {begun} begun");
                return Err(Broken::Mixed(what));
            }
            (None, &Some(version)) => self.last = version,
            (None, None) => {}
        }
        Ok(())
    }
}
