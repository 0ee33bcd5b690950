//! [`Forecast`]: which tensors a program says that it will use, and in which order. Pure.
//!
//! Uses are counted from the beginning of the plan on, through all of its laps, so the number of a use never changes.

use std::collections::HashMap;
use std::sync::Arc;

/// There is no use that is known of.
pub(super) const NEVER: u64 = u64::MAX;

/// A sequence of uses, and how far the program has come in it.
#[derive(Debug, Default)]
pub(super) struct Forecast {
    names: Vec<Arc<str>>,
    /// The places of each name in the sequence, in ascending order.
    places: HashMap<Arc<str>, Vec<u32>>,
    repeat: bool,
    /// The use that is expected next.
    next: u64,
}

impl Forecast {
    pub(super) fn new(names: Vec<Arc<str>>, repeat: bool) -> Self {
        let mut places: HashMap<Arc<str>, Vec<u32>> = HashMap::new();
        for (place, name) in names.iter().enumerate() {
            places.entry(Arc::clone(name)).or_default().push(place as u32);
        }
        Self { repeat: repeat && !names.is_empty(), names, places, next: 0 }
    }

    /// The number of the next use of a name, or [`NEVER`].
    pub(super) fn next_use(&self, name: &str) -> u64 {
        let (Some(places), len) = (self.places.get(name), self.names.len() as u64) else { return NEVER };
        let (lap, at) = (self.next / len, (self.next % len) as u32);
        if !self.repeat && lap > 0 {
            return NEVER;
        }
        match places.get(places.partition_point(|&place| place < at)) {
            Some(&place) => lap * len + u64::from(place),
            None if self.repeat => (lap + 1) * len + u64::from(places[0]),
            None => NEVER,
        }
    }

    /// A name is used. Returns the uses that are past by now: this one, and those that the program has left out. None if the
    /// plan does not have the name any more.
    pub(super) fn used(&mut self, name: &str) -> std::ops::Range<u64> {
        let found = self.next_use(name);
        let end = if found == NEVER { self.next } else { found + 1 };
        std::mem::replace(&mut self.next, end)..end
    }

    /// The name of a use.
    pub(super) fn name(&self, number: u64) -> Option<&Arc<str>> {
        let len = self.names.len() as u64;
        (self.repeat || number < len).then(|| &self.names[(number % len) as usize])
    }

    /// Names that come next, each once, in the order of their uses, from this one on.
    pub(super) fn ahead(&self, from: u64) -> impl Iterator<Item = (u64, &Arc<str>)> {
        let end = self.next + self.names.len() as u64;
        let uses = (from.max(self.next)..end).map_while(|number| Some((number, self.name(number)?)));
        uses.filter(|(number, name)| self.next_use(name) == *number)
    }
}

#[cfg(test)]
mod tests {
    use super::{Forecast, NEVER};

    fn forecast(names: &str, repeat: bool) -> Forecast {
        Forecast::new(names.split_whitespace().map(Into::into).collect(), repeat)
    }

    fn ahead(forecast: &Forecast) -> String {
        forecast.ahead(0).map(|(number, name)| format!("{name}{number}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn uses_are_counted_through_all_laps() {
        let mut plan = forecast("a b a c", true);
        assert_eq!(ahead(&plan), "a0 b1 c3");
        assert_eq!((plan.used("a"), plan.next_use("a"), plan.next_use("b")), (0..1, 2, 1));
        assert_eq!((plan.used("b"), plan.used("a"), plan.next_use("a"), plan.next_use("b")), (1..2, 2..3, 4, 5));
        assert_eq!(ahead(&plan), "c3 a4 b5");
        assert_eq!((plan.used("c"), plan.used("a"), plan.next_use("a")), (3..4, 4..5, 6));
    }

    #[test]
    fn what_is_left_out_is_past_and_what_is_unknown_changes_nothing() {
        let mut plan = forecast("a b c d", false);
        assert_eq!(plan.used("x"), 0..0);
        assert_eq!((plan.used("c"), plan.next_use("a"), plan.next_use("c"), plan.next_use("d")), (0..3, NEVER, NEVER, 3));
        assert_eq!((plan.used("a"), plan.used("d"), plan.used("d"), plan.next_use("d")), (3..3, 3..4, 4..4, NEVER));
        assert_eq!(ahead(&plan), "");
        assert_eq!((ahead(&forecast("", true)), forecast("", true).next_use("a")), (String::new(), NEVER));
    }
}
