//! The judgement of one key of one layer: a value is tried by putting it, alone, into the defaults.

use std::collections::HashMap;

use config::{ConfigError, Map, Source};
use serde::Deserialize as _;
use toml::{Table, Value};

use super::{
    Mistake, Origin, PREFIX, Settings,
    accepted::{kind_of, one_line, parsed, refusal, same_kind},
    places::{Places, joined},
    suggest,
};

/// The origins of the keys that were set, for the check of the whole.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The layer that set each key.
    pub origins: HashMap<String, Origin>,
    /// The mistakes found already.
    pub mistakes: Vec<Mistake>,
    /// Where the keys of the file stand.
    pub(super) places: Places,
}

impl Told {
    /// The layer that set the key, or the list that it is in, and the place there.
    pub(super) fn origin(&self, key: &str) -> Option<Origin> {
        // The whole of a list was set, not an element.
        let list = key.split('[').next().unwrap_or(key);
        let origin = self.origins.get(list)?;
        Some(self.placed(origin, key))
    }

    /// The origin with the line of the key.
    fn placed(&self, origin: &Origin, key: &str) -> Origin {
        match origin {
            Origin::File { path, .. } => Origin::File {
                path: path.clone(),
                line: self.places.line(key),
            },
            Origin::Default | Origin::Variable(_) => origin.clone(),
        }
    }
}

/// Keys and values of one layer, all of them good by themselves.
#[derive(Debug, Clone, Default)]
pub(super) struct Layer(pub(super) Map<String, config::Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, config::Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// Judges the keys of one origin.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    pub(super) schema: &'a Table,
    pub(super) told: &'a mut Told,
    pub(super) origin: Origin,
    pub(super) layer: Layer,
}

impl Judge<'_> {
    fn wrong(&mut self, key: impl Into<String>, reason: impl Into<String>) {
        let key = key.into();
        let origin = self.told.placed(&self.origin, &key);
        self.told.mistakes.push(Mistake {
            key,
            reason: reason.into(),
            origin,
        });
    }

    fn unknown(&mut self, key: impl Into<String>, section: &str, known: &Table, name: &str) {
        let meant = suggest::key(self.schema, section, known, name);
        let variable = matches!(self.origin, Origin::Variable(_));
        let meant = meant.map(|key| {
            if variable {
                suggest::variable(&key)
            } else {
                key
            }
        });
        let meant = meant.map_or_else(String::new, |key| format!("; did you mean {key}?"));
        let names: Vec<_> = known.keys().map(String::as_str).collect();
        let (names, what) = (
            names.join(", "),
            if section.is_empty() { "section" } else { "key" },
        );
        let place = if section.is_empty() {
            "there are"
        } else {
            section
        };
        let has = if section.is_empty() { "" } else { " has" };
        self.wrong(key, format!("unknown {what}{meant}; {place}{has} {names}"));
    }

    /// The accepted form at a key, with its default as the example.
    fn accepted(&self, known: &Value, key: &str) -> String {
        let name = key.rsplit('.').next().unwrap_or(key);
        let example = match (&self.origin, known) {
            (_, Value::String(text)) if text.is_empty() => String::new(),
            (Origin::Variable(name), Value::String(text)) => format!(", as in {name}={text}"),
            (Origin::Variable(name), Value::Array(_)) => format!(", as in {name}=a,b"),
            (Origin::Variable(name), known) => format!(", as in {name}={known}"),
            (Origin::File { .. } | Origin::Default, known) => format!(", as in {name} = {known}"),
        };
        format!("{}{example}", kind_of(known))
    }

    pub(super) fn table(&mut self, known: &Table, table: Table, section: &str) {
        for (name, value) in table {
            let key = joined(section, &name);
            match (known.get(&name), value) {
                (None, _) => self.unknown(key, section, known, &name),
                (Some(Value::Table(known)), Value::Table(table)) => self.table(known, table, &key),
                (Some(Value::Table(_)), _) => self.wrong(key, "is a section: must be a table"),
                (Some(Value::Array(known)), value) if element(known).is_some() => {
                    self.tables(element(known).unwrap_or(&Table::new()), value, &key);
                }
                (Some(known), value) => {
                    if self.fits(known, &value, &key, &key) {
                        self.take(&key, value);
                    }
                }
            }
        }
    }

    /// A list of tables, each with all keys of `known`. What is good of it is taken, with that of `known` for the rest,
    /// so that the check finds what is wrong with the good.
    fn tables(&mut self, known: &Table, value: Value, key: &str) {
        let Value::Array(elements) = value else {
            return self.wrong(key, format!("must be a list of tables: [[{key}]]"));
        };
        let mut usable = Vec::new();
        for (at, element) in elements.into_iter().enumerate() {
            let here = format!("{key}[{at}]");
            let element = if let Value::Table(element) = element {
                self.element(known, element, key, &here)
            } else {
                self.wrong(here, format!("must be a table: [[{key}]]"));
                known.clone()
            };
            usable.push(Value::Table(element));
        }
        self.take(key, Value::Array(usable));
    }

    /// The good part of one table of the list at `key`, and of `known` the rest.
    fn element(&mut self, known: &Table, element: Table, key: &str, here: &str) -> Table {
        let mut usable = known.clone();
        for name in known.keys().filter(|name| !element.contains_key(*name)) {
            self.wrong(joined(here, name), "is missing");
        }
        for (name, value) in element {
            let shown = joined(here, &name);
            match known.get(&name) {
                None => self.unknown(shown, key, known, &name),
                Some(known) => {
                    if self.fits(known, &value, &joined(key, &name), &shown) {
                        usable.insert(name, value);
                    }
                }
            }
        }
        usable
    }

    pub(super) fn variable(&mut self, name: &str, value: Option<&str>) {
        let rest = name.strip_prefix(PREFIX).unwrap_or_default();
        let key = rest.to_lowercase().replace("__", ".");
        if rest != rest.to_uppercase() {
            let reason = format!("unknown key; did you mean {PREFIX}{}?", rest.to_uppercase());
            return self.wrong(key, reason);
        }
        let Some(value) = value else {
            return self.wrong(key, "is not UTF-8 text");
        };
        let mut known = self.schema;
        let mut section = String::new();
        for name in key.split('.') {
            match known.get(name) {
                Some(Value::Table(inner)) => {
                    known = inner;
                    section = joined(&section, name);
                }
                Some(Value::Array(list)) if element(list).is_some() => {
                    return self.wrong(key, "a list of tables can be set in a file only");
                }
                Some(kind) if joined(&section, name) == key => {
                    match parsed(kind, value) {
                        Some(value) if self.fits(kind, &value, &key, &key) => {
                            self.take(&key, value);
                        }
                        Some(_) => {}
                        None => {
                            let accepted = self.accepted(kind, &key);
                            self.wrong(key.clone(), format!("must be {accepted}"));
                        }
                    }
                    return;
                }
                Some(_) | None => {
                    let name = name.to_owned();
                    return self.unknown(key, &section, known, &name);
                }
            }
        }
        self.wrong(key, "is a section: set its keys one by one");
    }

    /// Whether `value` can stand at `key` (`shown` is its name in messages, with the place in the list).
    fn fits(&mut self, known: &Value, value: &Value, key: &str, shown: &str) -> bool {
        if !same_kind(known, value) {
            let accepted = self.accepted(known, key);
            self.wrong(shown, format!("must be {accepted}"));
            return false;
        }
        let mut tried = Value::Table(self.schema.clone());
        if let Some(place) = place(&mut tried, key) {
            *place = value.clone();
        }
        match Settings::deserialize(tried) {
            Ok(_) => true,
            Err(error) => {
                let accepted = self.accepted(known, key);
                self.wrong(shown, refusal(error.message(), &accepted));
                false
            }
        }
    }

    fn take(&mut self, key: &str, value: Value) {
        match value.try_into::<config::Value>() {
            Ok(value) => {
                self.layer.0.insert(key.to_owned(), value);
                self.told
                    .origins
                    .insert(key.to_owned(), self.origin.clone());
            }
            Err(error) => self.wrong(key, one_line(error.message())),
        }
    }
}

/// The value at `key`; in a list of tables that of its first element.
fn place<'a>(root: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    key.split('.').try_fold(root, |value, name| match value {
        Value::Array(list) => list.first_mut()?.get_mut(name),
        table => table.get_mut(name),
    })
}

fn element(list: &[Value]) -> Option<&Table> {
    list.first().and_then(Value::as_table)
}
