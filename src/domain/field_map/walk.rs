//! One pass over a JSON object that picks the numbers at some pointers and skips all else.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::FIELDS;

/// A number or null at the end of a pointer, or what is wrong with the value there.
type Value = Result<Option<i64>, &'static str>;

const NOT_WHOLE: &str = "must be a whole number of 64 bits, or one as digits in quotes";

/// The values at the pointers of one JSON text; what no pointer leads to is absent.
pub(super) fn values_at(
    json: &str,
    pointers: &[&[String]; FIELDS.len()],
) -> Result<[Value; FIELDS.len()], serde_json::Error> {
    let mut found = [const { Ok(None) }; FIELDS.len()];
    let wanted = pointers.iter().copied().enumerate().collect();
    let mut json = serde_json::Deserializer::from_str(json);
    let walk = FieldWalk {
        wanted,
        found: &mut found,
    };
    walk.deserialize(&mut json)?;
    json.end()?;
    Ok(found)
}

/// Visits a value below which some fields stand.
struct FieldWalk<'a, 'f> {
    /// The fields by their places, and the way to each from here; none is at its end.
    wanted: Vec<(usize, &'a [String])>,
    found: &'f mut [Value; FIELDS.len()],
}

impl<'a> FieldWalk<'a, '_> {
    /// Visits the member or element `token`. False where no pointer leads there.
    fn fields_below(&self, token: &str) -> Vec<(usize, &'a [String])> {
        let wanted = self.wanted.iter();
        wanted
            .filter_map(|(field, way)| match way.split_first() {
                Some((first, rest)) if first == token => Some((*field, rest)),
                Some(_) | None => None,
            })
            .collect()
    }

    fn visit_step<'de, E: Error>(
        &mut self,
        wanted: Vec<(usize, &'a [String])>,
        visit: impl FnOnce(WalkStep<'a, '_>) -> Result<Value, E>,
    ) -> Result<(), E> {
        let ends = wanted.iter().all(|(_, way)| way.is_empty());
        let fields: Vec<usize> = wanted.iter().map(|(field, _)| *field).collect();
        let value = visit(if ends {
            WalkStep::Number
        } else {
            WalkStep::Further(FieldWalk {
                wanted,
                found: self.found,
            })
        })?;
        if ends {
            for field in fields {
                if let Some(slot) = self.found.get_mut(field) {
                    *slot = value;
                }
            }
        }
        Ok(())
    }
}

/// The value at the end of a pointer, or one on the way.
enum WalkStep<'a, 'f> {
    Number,
    Further(FieldWalk<'a, 'f>),
}

impl<'de> DeserializeSeed<'de> for WalkStep<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<Value, D::Error> {
        match self {
            Self::Number => value.deserialize_any(Number),
            Self::Further(walk) => walk.deserialize(value).map(|()| Ok(None)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for FieldWalk<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FieldWalk<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut seen: Vec<&str> = Vec::new();
        while let Some(name) = map.next_key_seed(Name(&self.wanted))? {
            let Some(name) = name else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if seen.contains(&name) {
                return Err(A::Error::custom(format_args!("{name} stands twice")));
            }
            seen.push(name);
            let wanted = self.fields_below(name);
            self.visit_step(wanted, |step| map.next_value_seed(step))?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        let mut index = 0_usize;
        loop {
            let wanted = self.fields_below(&index.to_string());
            if wanted.is_empty() {
                if seq.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(());
                }
            } else {
                let mut ended = false;
                self.visit_step(wanted, |step| {
                    let value = seq.next_element_seed(step)?;
                    ended = value.is_none();
                    Ok::<_, A::Error>(value.unwrap_or(Ok(None)))
                })?;
                if ended {
                    return Ok(());
                }
            }
            index = index.saturating_add(1);
        }
    }

    // A scalar on the way: what stands below it is absent.
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Reads a member's name; some where a pointer leads there.
struct Name<'w, 'a>(&'w [(usize, &'a [String])]);

impl<'de, 'a> DeserializeSeed<'de> for Name<'_, 'a> {
    type Value = Option<&'a str>;

    fn deserialize<D: Deserializer<'de>>(self, name: D) -> Result<Self::Value, D::Error> {
        name.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Name<'_, 'a> {
    type Value = Option<&'a str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        let firsts = self.0.iter().filter_map(|(_, way)| way.first());
        let mut same = firsts.map(String::as_str).filter(|first| *first == name);
        Ok(same.next())
    }
}

/// Reads a number or null; any other value is consumed and told.
struct Number;

impl<'de> Visitor<'de> for Number {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Ok(Some(number)))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(i64::try_from(number).map(Some).map_err(|_| NOT_WHOLE))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(whole_number(text).map(Some).ok_or(NOT_WHOLE))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Ok(None))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Err(NOT_WHOLE))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Err(NOT_WHOLE))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Err(NOT_WHOLE))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Err(NOT_WHOLE))
    }
}

/// Digits as JSON would have them: no plus, no leading zero, no fraction.
fn whole_number(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let canonical = text == "0"
        || (!digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit()));
    text.parse().ok().filter(|_| canonical)
}
