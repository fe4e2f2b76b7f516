//! Reads notifications from JSON with other field names: each field is found by a JSON pointer (RFC 6901).
//!
//! **Invariants.** A member that stands twice on the way to a field is refused: neither value is the right one. A number is taken whole
//! or not at all; nothing is rounded.

mod walk;

use super::{Notification, NotificationWire, json_text, notification};

/// The fields of a notification, in the order of [`FieldMap`].
pub const FIELDS: [&str; 6] = [
    "user_id",
    "asset_id",
    "seq",
    "avail",
    "frozen",
    "created_at",
];

/// A JSON pointer, as its unescaped reference tokens; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pointer {
    text: String,
    tokens: Vec<String>,
}

/// Where each field of a notification stands in a JSON object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldMap {
    pointers: [Pointer; FIELDS.len()],
    is_default: bool,
}

/// A pointer that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointerError {
    /// The field, as in [`FIELDS`].
    pub field: &'static str,
    pub reason: String,
}

impl Default for FieldMap {
    /// Each field at the top of the object, under its own name.
    fn default() -> Self {
        Self {
            pointers: FIELDS.map(|name| Pointer {
                text: format!("/{name}"),
                tokens: vec![name.to_owned()],
            }),
            is_default: true,
        }
    }
}

impl FieldMap {
    /// A map from the pointers of [`FIELDS`], in that order.
    /// Errors: each pointer that is none, and each that leads through the value of another.
    pub fn new(pointers: [&str; FIELDS.len()]) -> Result<Self, Vec<PointerError>> {
        let mut errors = Vec::new();
        let named = FIELDS.iter().zip(pointers);
        let parsed: Vec<Pointer> = named
            .filter_map(|(field, text)| match Pointer::parse_pointer(text) {
                Ok(pointer) => Some(pointer),
                Err(reason) => {
                    errors.push(PointerError { field, reason });
                    None
                }
            })
            .collect();
        let Ok(pointers) = <[Pointer; FIELDS.len()]>::try_from(parsed) else {
            return Err(errors);
        };
        for (field, pointer) in FIELDS.iter().zip(&pointers) {
            let mut others = FIELDS.iter().zip(&pointers);
            if let Some((other, _)) = others.find(|(_, other)| pointer.leads_through(other)) {
                let reason = format!(
                    "leads through the value of {other}: a field is a number, not an object"
                );
                errors.push(PointerError { field, reason });
            }
        }
        if errors.is_empty() {
            let is_default = pointers == Self::default().pointers;
            Ok(Self {
                pointers,
                is_default,
            })
        } else {
            Err(errors)
        }
    }

    /// One JSON object, or an array of up to [`notification::ARRAY_MAX`] of them, checked whole. Values are numbers or decimal
    /// strings; null is absent, and so is what no pointer leads to.
    /// Errors: the mistake, for the sender to read; the first bad element by its index, counted from 0.
    pub fn parse_all(&self, json: &str) -> Result<Vec<Notification>, String> {
        notification::parse_each(json, |one| self.parse_notification(one))
    }

    fn parse_notification(&self, json: &str) -> Result<Notification, String> {
        if !self.is_default {
            return self.parse_by_pointers(json);
        }
        // Most values are plain: the typed form is the faster one, and tells a mistake better.
        Notification::parse_notification(json).or_else(|mistake| {
            let found = self.parse_by_pointers(json);
            found.map_err(|_| mistake)
        })
    }

    fn parse_by_pointers(&self, json: &str) -> Result<Notification, String> {
        if !json.trim_start().starts_with('{') {
            return Err("must be an object".to_owned());
        }
        let found = walk::values_at(json, &self.pointer_tokens())
            .map_err(|error| json_text::error_message(&error))?;
        let mut numbers = [None; FIELDS.len()];
        let named = FIELDS.iter().zip(&self.pointers);
        for ((number, value), (field, pointer)) in numbers.iter_mut().zip(found).zip(named) {
            *number = value.map_err(|mistake| format!("{field} ({}) {mistake}", pointer.text))?;
        }
        let [user_id, asset_id, seq, avail, frozen, created_at] = numbers;
        let wire = NotificationWire {
            user_id,
            asset_id,
            seq,
            avail,
            frozen,
            created_at,
        };
        wire.check_fields()
    }

    fn pointer_tokens(&self) -> [&[String]; FIELDS.len()] {
        self.pointers.each_ref().map(|pointer| &*pointer.tokens)
    }
}

impl Pointer {
    fn parse_pointer(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(if text.is_empty() {
                "is empty, which points at the whole object; a field that is never sent may point at a name that is not there"
                    .to_owned()
            } else {
                "is no JSON pointer: it begins with '/', as in \"/after/user_id\"".to_owned()
            });
        };
        let tokens = rest
            .split('/')
            .map(unescape_token)
            .collect::<Option<Vec<_>>>();
        let tokens = tokens.ok_or("is no JSON pointer: '~' is written ~0, and '/' in a name ~1")?;
        Ok(Self {
            text: text.to_owned(),
            tokens,
        })
    }

    fn leads_through(&self, other: &Self) -> bool {
        self.tokens.len() > other.tokens.len() && self.tokens.starts_with(&other.tokens)
    }
}

/// The name that a reference token stands for.
fn unescape_token(token: &str) -> Option<String> {
    let mut name = String::with_capacity(token.len());
    let mut pieces = token.split('~');
    name.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let (escaped, rest) = piece.split_at_checked(1)?;
        name.push(match escaped {
            "0" => '~',
            "1" => '/',
            _ => return None,
        });
        name.push_str(rest);
    }
    Some(name)
}

#[cfg(test)]
mod tests;
