//! [`Index`]: what a swapper writes down of itself at every flush.
//!
//! ```text
//!   "durable":true,"torn":false,
//!   "groups":[{"name":"layer0","numel":1000,"dtype":"F32","states":["exp_avg"],"gradient":"BF16","slots":[0,null]}]
//! ```
//!
//! A slot is that of the parameters or of a state; `null` is all zeros. `gradient` is `null` if there is none.

use super::geometry::{Geometry, Slot};
use super::options::Group;
use crate::dtype::DType;
use crate::error::{Fault, Reason};
use crate::sealed;
use crate::swap::directory::INDEX_BYTES_MAX;
use serde_json::{Value, json};

const FORMAT: &str = "deepring-optimizer";

/// Of each part that is kept: where it is. `None` is all zeros.
pub(super) type Slots = Vec<Option<Slot>>;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Index {
    /// In place writes have begun since the last flush.
    pub(super) is_torn: bool,
    /// Of each group.
    pub(super) slots: Vec<Slots>,
}

impl Index {
    pub(super) fn text(&self, groups: &[Geometry], durable: bool) -> String {
        let groups: Vec<Value> = groups.iter().zip(&self.slots).map(|(geometry, slots)| described(&geometry.group, slots)).collect();
        let fields = format!("\"durable\":{durable},\"torn\":{},\"groups\":{}", self.is_torn, Value::from(groups));
        sealed::seal_as(FORMAT, &fields)
    }

    /// The index of just these groups.
    pub(super) fn parse(bytes: &[u8], groups: &[Geometry], durable: bool) -> Result<Self, Fault> {
        let text = sealed::open_as(FORMAT, bytes, INDEX_BYTES_MAX, Reason::Index)?;
        let wrong = |detail: &str| Fault::new(Reason::Index, detail);
        let all: Value = serde_json::from_str(text).map_err(|error| wrong(&error.to_string()))?;
        let (Some(is_torn), Some(found)) = (all["torn"].as_bool(), all["groups"].as_array()) else {
            return Err(wrong("a field is missing"));
        };
        if all["durable"] != durable {
            return Err(wrong("it was made with the other choice of `durable`"));
        }
        if found.len() != groups.len() {
            return Err(wrong(&format!("it has {} groups, not {}", found.len(), groups.len())));
        }
        let mut slots = Vec::with_capacity(groups.len());
        for (geometry, found) in groups.iter().zip(found) {
            let own = slots_of(&found["slots"]).filter(|slots| slots.len() == geometry.kept());
            match own.filter(|slots| described(&geometry.group, slots) == *found) {
                Some(own) => slots.push(own),
                None => return Err(Fault::of(Reason::Index, &geometry.group.name, "it has another group in its place")),
            }
        }
        Ok(Self { is_torn, slots })
    }
}

fn described(group: &Group, slots: &[Option<Slot>]) -> Value {
    let Group { name, numel, states, dtype, gradient, .. } = group;
    let slots: Vec<Option<u8>> = slots.iter().map(|slot| slot.map(|slot| u8::from(slot == Slot::Second))).collect();
    let gradient = gradient.map(DType::name);
    json!({ "name": name, "numel": numel, "states": states, "dtype": dtype.name(), "gradient": gradient, "slots": slots })
}

fn slots_of(value: &Value) -> Option<Slots> {
    let slot = |value: &Value| match value.as_u64() {
        Some(0) => Some(Some(Slot::First)),
        Some(1) => Some(Some(Slot::Second)),
        _ => value.is_null().then_some(None),
    };
    value.as_array()?.iter().map(slot).collect()
}

#[cfg(test)]
mod tests {
    use super::{DType, Geometry, Group, Index, Slot};

    #[test]
    fn an_index_is_that_of_its_groups_and_of_no_others() {
        let geometry = |groups: &[Group]| Geometry::all(groups, true).expect("a geometry").0;
        let (a, b) = (Group::new("a", 7).states(["m"]).gradient(DType::BF16), Group::new("b\u{0}\"", 0));
        let groups = geometry(&[a.clone(), b.clone()]);
        let index = Index { is_torn: true, slots: vec![vec![Some(Slot::Second), None], vec![Some(Slot::First)]] };
        let text = index.text(&groups, true);
        assert_eq!(Index::parse(text.as_bytes(), &groups, true), Ok(index));
        assert!(Index::parse(text.as_bytes(), &groups, false).is_err());
        for others in
            [vec![a.clone()], vec![b.clone(), a.clone()], vec![a.clone().states(["v"]), b.clone()], vec![Group::new("a", 8), b.clone()]]
        {
            assert!(Index::parse(text.as_bytes(), &geometry(&others), true).is_err(), "{others:?}");
        }
        let resident = geometry(&[a.resident(true), b]);
        assert!(Index::parse(text.as_bytes(), &resident, true).is_ok(), "what stays in memory can change");
        let mut bytes = text.into_bytes();
        bytes[70] ^= 1;
        assert!(Index::parse(&bytes, &groups, true).is_err());
    }
}
