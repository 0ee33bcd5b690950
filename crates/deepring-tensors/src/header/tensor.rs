//! One tensor of a header: its fields, and what it must be by itself.

use super::Walk;
use super::values::{Skipped, Whole};
use crate::columns::Kind;
use crate::error::{Reason, misplaced_text};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// The largest number that JavaScript can count with.
const NUMBER_MAX: u64 = (1 << 53) - 1;

/// One tensor.
pub(super) struct Tensor<'w>(pub(super) &'w mut Walk);

impl<'de> DeserializeSeed<'de> for Tensor<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tensor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with dtype, shape and data_offsets")
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        Err(misplaced_text(&self))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let walk = self.0;
        let (mut kind, mut elements, mut offsets) = (None, None, None);
        while let Some(field) = map.next_key_seed(FieldName)? {
            let twice = match field {
                Field::Dtype => kind.replace(map.next_value_seed(DtypeName(&mut *walk))?).is_some(),
                Field::Shape if elements.is_some() => true,
                Field::Shape => elements.replace(map.next_value_seed(Shape(&mut *walk))?).is_some(),
                Field::Offsets => {
                    walk.reason = Reason::Offsets;
                    let found = map.next_value_seed(Offsets)?;
                    walk.reason = Reason::Field;
                    offsets.replace(found).is_some()
                }
                Field::Other => {
                    map.next_value_seed(Skipped)?;
                    false
                }
            };
            if twice {
                return walk.fail_tensor(Reason::Field, format!("{} is there twice", field.name()));
            }
        }
        let (Some(kind), Some(elements), Some((begin, end))) = (kind, elements, offsets) else {
            let missing = if kind.is_none() {
                Field::Dtype
            } else if elements.is_none() {
                Field::Shape
            } else {
                Field::Offsets
            };
            return walk.fail_tensor(Reason::Field, format!("{} is missing", missing.name()));
        };
        check(walk, kind, elements, begin, end)?;
        walk.columns.kinds.push(kind);
        walk.columns.shapes.end();
        walk.columns.begins.push(begin);
        walk.columns.lens.push(end - begin);
        Ok(())
    }
}

/// What one tensor must be by itself. The elements are `None` if there are more than can be counted.
fn check<E: serde::de::Error>(walk: &mut Walk, kind: Kind, elements: Option<u64>, begin: u64, end: u64) -> Result<(), E> {
    if begin > NUMBER_MAX || end > NUMBER_MAX {
        return walk.fail_tensor(Reason::Offsets, format!("data_offsets [{begin}, {end}] are not below 2^53"));
    }
    let Some(elements) = elements else {
        return walk.fail_tensor(Reason::Overflow, "the shape has more elements than can be counted");
    };
    if begin > end {
        return walk.fail_tensor(Reason::Order, format!("it ends at {end}, before its begin at {begin}"));
    }
    let Kind::Known(dtype) = kind else { return Ok(()) };
    let Some(bits) = elements.checked_mul(dtype.bits().into()) else {
        return walk.fail_tensor(Reason::Overflow, "the shape has more bytes than can be counted");
    };
    if !bits.is_multiple_of(8) {
        return walk.fail_tensor(Reason::Bits, format!("{elements} elements of {dtype} do not fill whole bytes"));
    }
    if bits / 8 != end - begin {
        let detail = format!("{elements} elements of {dtype} have {} bytes, and data_offsets say {}", bits / 8, end - begin);
        return walk.fail_tensor(Reason::Size, detail);
    }
    Ok(())
}

/// The fields of a tensor.
#[derive(Clone, Copy)]
enum Field {
    Dtype,
    Shape,
    Offsets,
    Other,
}

impl Field {
    const fn name(self) -> &'static str {
        match self {
            Self::Dtype => "dtype",
            Self::Shape => "shape",
            Self::Offsets => "data_offsets",
            Self::Other => "a field",
        }
    }
}

struct FieldName;

impl<'de> DeserializeSeed<'de> for FieldName {
    type Value = Field;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Field, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldName {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E>(self, name: &str) -> Result<Field, E> {
        let fields = [Field::Dtype, Field::Shape, Field::Offsets];
        Ok(fields.into_iter().find(|field| field.name() == name).unwrap_or(Field::Other))
    }
}

struct DtypeName<'w>(&'w mut Walk);

impl<'de> DeserializeSeed<'de> for DtypeName<'_> {
    type Value = Kind;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for DtypeName<'_> {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of an element type")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Kind, E> {
        match self.0.columns.kind(name) {
            Some(kind) => Ok(kind),
            None => self.0.fail_tensor(Reason::Field, "there are too many unknown element types"),
        }
    }
}

/// A shape, which is added. Its elements, or `None` if they cannot be counted.
struct Shape<'w>(&'w mut Walk);

impl<'de> DeserializeSeed<'de> for Shape<'_> {
    type Value = Option<u64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<u64>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shape<'_> {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of whole numbers")
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Option<u64>, E> {
        Err(misplaced_text(&self))
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut extents: S) -> Result<Option<u64>, S::Error> {
        let mut elements = Some(1u64);
        while let Some(extent) = extents.next_element_seed(Whole)? {
            elements = elements.and_then(|elements| elements.checked_mul(extent)).filter(|_| extent <= NUMBER_MAX);
            self.0.columns.shapes.extend(extent);
        }
        Ok(elements)
    }
}

/// Two whole numbers.
struct Offsets;

impl<'de> DeserializeSeed<'de> for Offsets {
    type Value = (u64, u64);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(u64, u64), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Offsets {
    type Value = (u64, u64);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("data_offsets of two whole numbers")
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(u64, u64), E> {
        Err(misplaced_text(&self))
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut offsets: S) -> Result<(u64, u64), S::Error> {
        let (begin, end) = (offsets.next_element_seed(Whole)?, offsets.next_element_seed(Whole)?);
        let (Some(begin), Some(end)) = (begin, end) else { return Err(S::Error::invalid_length(1, &self)) };
        match offsets.next_element_seed(Whole)? {
            None => Ok((begin, end)),
            Some(_) => Err(S::Error::invalid_length(3, &self)),
        }
    }
}
