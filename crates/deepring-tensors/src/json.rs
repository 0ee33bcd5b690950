//! JSON read piece by piece: an object or an array hands out the text of each value, and keeps none. So a text costs no more
//! memory than what is taken from it, however its values are nested.

use crate::error::{Fault, Reason, quoted};
use serde::de::{Deserializer as _, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// A value in a text, and what a wrong one is reported as.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value<'j> {
    text: &'j str,
    reason: Reason,
}

impl<'j> Value<'j> {
    pub(crate) fn new(text: &'j str, reason: Reason) -> Self {
        Self { text, reason }
    }

    /// The text as it is, without the space around it.
    pub(crate) fn text(self) -> &'j str {
        self.text
    }

    pub(crate) fn fault(self, detail: impl Into<String>) -> Fault {
        Fault::new(self.reason, detail)
    }

    /// Calls `each` with every key of an object, and its value.
    pub(crate) fn object(self, each: impl FnMut(Cow<'j, str>, Self) -> Result<(), Fault>) -> Result<(), Fault> {
        let mut walk = Walk { each, fault: None, reason: self.reason };
        let mut json = serde_json::Deserializer::from_str(self.text);
        let walked = json.deserialize_map(Object(&mut walk)).and_then(|()| json.end());
        walked.map_err(|error| walk.fault.take().unwrap_or_else(|| self.wrong("an object", &error)))
    }

    /// Calls `each` with every value of an array.
    pub(crate) fn array(self, mut each: impl FnMut(Self) -> Result<(), Fault>) -> Result<(), Fault> {
        let mut walk = Walk { each: |_, value| each(value), fault: None, reason: self.reason };
        let mut json = serde_json::Deserializer::from_str(self.text);
        let walked = json.deserialize_seq(Array(&mut walk)).and_then(|()| json.end());
        walked.map_err(|error| walk.fault.take().unwrap_or_else(|| self.wrong("an array", &error)))
    }

    /// A whole number below 2^53, written as one.
    pub(crate) fn number(self) -> Result<u64, Fault> {
        let number = serde_json::from_str(self.text).map_err(|error| self.wrong("a whole number", &error))?;
        if number >= 1 << 53 {
            return Err(self.fault(format!("{number} is not below 2^53")));
        }
        Ok(number)
    }

    /// [`Value::number`], or `null`.
    pub(crate) fn number_or_null(self) -> Result<Option<u64>, Fault> {
        if self.text == "null" { Ok(None) } else { self.number().map(Some) }
    }

    /// The numbers of an array, at most so many.
    pub(crate) fn numbers(self, len_max: usize) -> Result<Vec<u64>, Fault> {
        let mut numbers = Vec::new();
        self.array(|value| {
            if numbers.len() == len_max {
                return Err(value.fault(format!("an array has more than {len_max} numbers")));
            }
            numbers.push(value.number()?);
            Ok(())
        })?;
        numbers.shrink_to_fit();
        Ok(numbers)
    }

    /// A string.
    pub(crate) fn string(self) -> Result<Cow<'j, str>, Fault> {
        // Most have no escapes: these are borrowed.
        if let Ok(text) = serde_json::from_str::<&str>(self.text) {
            return Ok(text.into());
        }
        serde_json::from_str::<String>(self.text).map(Cow::from).map_err(|error| self.wrong("a string", &error))
    }

    /// A string that `parse` knows. Its message has the string.
    pub(crate) fn known<T>(self, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, Fault> {
        let text = self.string()?;
        parse(&text).ok_or_else(|| self.fault(format!("{} is not {expected}", quoted(&text))))
    }

    fn wrong(self, expected: &str, error: &serde_json::Error) -> Fault {
        let found: String = self.text.chars().take(40).collect();
        let detail = if error.is_data() { String::new() } else { format!(": {error}") };
        self.fault(format!("{} is not {expected}{detail}", quoted(&found)))
    }
}

/// A field that must be there once.
#[derive(Debug)]
pub(crate) struct Field<T> {
    name: &'static str,
    value: Option<T>,
}

impl<T> Field<T> {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, value: None }
    }

    pub(crate) fn set(&mut self, of: Value<'_>, value: T) -> Result<(), Fault> {
        match self.value.replace(value) {
            None => Ok(()),
            Some(_) => Err(of.fault(format!("{} is there twice", self.name))),
        }
    }

    pub(crate) fn take(self, of: Value<'_>) -> Result<T, Fault> {
        self.value.ok_or_else(|| of.fault(format!("{} is missing", self.name)))
    }
}

struct Walk<F> {
    each: F,
    fault: Option<Fault>,
    reason: Reason,
}

impl<'j, F: FnMut(Cow<'j, str>, Value<'j>) -> Result<(), Fault>> Walk<F> {
    fn visit<E: serde::de::Error>(&mut self, key: Cow<'j, str>, value: &'j RawValue) -> Result<(), E> {
        (self.each)(key, Value::new(value.get(), self.reason)).map_err(|fault| {
            self.fault = Some(fault);
            E::custom("see the fault")
        })
    }
}

struct Object<'w, F>(&'w mut Walk<F>);

impl<'j, F: FnMut(Cow<'j, str>, Value<'j>) -> Result<(), Fault>> Visitor<'j> for Object<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'j>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(key) = map.next_key::<&RawValue>()? {
            let key = Value::new(key.get(), self.0.reason).string().map_err(|fault| M::Error::custom(fault.detail))?;
            let value = map.next_value()?;
            self.0.visit(key, value)?;
        }
        Ok(())
    }
}

struct Array<'w, F>(&'w mut Walk<F>);

impl<'j, F: FnMut(Cow<'j, str>, Value<'j>) -> Result<(), Fault>> Visitor<'j> for Array<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<S: SeqAccess<'j>>(self, mut values: S) -> Result<(), S::Error> {
        while let Some(value) = values.next_element()? {
            self.0.visit(Cow::Borrowed(""), value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Value;
    use crate::error::{Fault, Reason};
    use proptest::prelude::*;

    fn value(text: &str) -> Value<'_> {
        Value::new(text, Reason::Part)
    }

    fn keys(text: &str) -> Result<Vec<(String, String)>, Fault> {
        let mut found = Vec::new();
        value(text).object(|key, value| {
            found.push((key.into_owned(), value.text().to_owned()));
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn an_object_hands_out_its_values_in_order() {
        let found = keys("{\"a\\n\": [1, {}] ,\"b\":\"}\", \"a\\n\": null}").expect("an object");
        let expected = [("a\n", "[1, {}]"), ("b", "\"}\""), ("a\n", "null")];
        assert_eq!(found, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        for wrong in ["", "{", "[]", "{} 1", "{\"a\"}", "{1:2}", "{\"a\":1,}", "{\"\\ud800\":1}", "null", "\"text\""] {
            assert_eq!(keys(wrong).expect_err(wrong).reason, Reason::Part, "{wrong}");
        }
    }

    #[test]
    fn what_a_value_finds_ends_the_walk() {
        let mut seen = 0;
        let found = value("[1, 2, 3]").array(|value| {
            seen += 1;
            if value.number()? == 2 { Err(Fault::of(Reason::Version, "t", "two")) } else { Ok(()) }
        });
        assert_eq!((found, seen), (Err(Fault::of(Reason::Version, "t", "two")), 2));
    }

    #[test]
    fn a_number_is_whole_and_small() {
        assert_eq!(value("9007199254740991").number(), Ok((1 << 53) - 1));
        assert_eq!((value("null").number_or_null(), value("0").number_or_null()), (Ok(None), Ok(Some(0))));
        for wrong in ["9007199254740992", "-0", "-1", "1.0", "1e3", "01", "+1", "\"1\"", "", "1 2", "nulL"] {
            assert_eq!(value(wrong).number_or_null().expect_err(wrong).reason, Reason::Part);
        }
        assert_eq!((value("[]").numbers(0), value("[1, 2]").numbers(2)), (Ok(vec![]), Ok(vec![1, 2])));
        assert!(value("[1, 2]").numbers(1).is_err());
    }

    #[test]
    fn a_message_has_the_beginning_of_what_is_wrong() {
        let long = format!("\"{}\"", "\u{1b}".repeat(1 << 20));
        for fault in [value(&long).number().expect_err("text"), keys(&long).expect_err("text"), value(&long).string().expect_err("control")]
        {
            assert!(fault.detail.len() < 600 && !fault.detail.contains('\u{1b}'), "{}", fault.detail);
        }
    }

    proptest! {
        #[test]
        fn strings_come_back(text in any::<String>()) {
            let json = serde_json::Value::from(text.as_str()).to_string();
            prop_assert_eq!(value(&json).string().map(std::borrow::Cow::into_owned), Ok(text));
        }
    }
}
