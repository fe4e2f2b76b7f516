//! The judgement of one key of one layer: a value is tried by putting it, alone, into the defaults.

use std::collections::HashMap;

use config::{ConfigError, Map, Source};
use serde::Deserialize as _;
use toml::{Table, Value};

use super::{
    Mistake, PREFIX, Settings, ValueOrigin,
    accepted::{explain_refusal, kind_of, one_line, parse_variable, same_kind},
    places::{Places, join_key},
    suggest,
};

/// The origins of the keys that were set, for the check of the whole.
#[derive(Debug, Default)]
pub(super) struct SettingOrigins {
    /// The layer that set each key.
    pub origins: HashMap<String, ValueOrigin>,
    /// The mistakes found already.
    pub mistakes: Vec<Mistake>,
    /// Where the keys of the file stand.
    pub(super) places: Places,
}

impl SettingOrigins {
    /// The layer that set the key, or the list that it is in, and the place there.
    pub(super) fn key_origin(&self, key: &str) -> Option<ValueOrigin> {
        // The whole of a list was set, not an element.
        let list = key.split('[').next().unwrap_or(key);
        let origin = self.origins.get(list)?;
        Some(self.origin_with_line(origin, key))
    }

    fn origin_with_line(&self, origin: &ValueOrigin, key: &str) -> ValueOrigin {
        match origin {
            ValueOrigin::File { path, .. } => ValueOrigin::File {
                path: path.clone(),
                line: self.places.key_line(key),
            },
            ValueOrigin::Default | ValueOrigin::Variable(_) => origin.clone(),
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
    pub(super) told: &'a mut SettingOrigins,
    pub(super) origin: ValueOrigin,
    pub(super) layer: Layer,
}

impl Judge<'_> {
    fn add_mistake(&mut self, key: impl Into<String>, reason: impl Into<String>) {
        let key = key.into();
        let origin = self.told.origin_with_line(&self.origin, &key);
        self.told.mistakes.push(Mistake {
            key,
            reason: reason.into(),
            origin,
        });
    }

    fn add_unknown_key(
        &mut self,
        key: impl Into<String>,
        section: &str,
        known: &Table,
        name: &str,
    ) {
        let meant = suggest::suggest_key(self.schema, section, known, name);
        let variable = matches!(self.origin, ValueOrigin::Variable(_));
        let meant = meant.map(|key| {
            if variable {
                suggest::variable_name(&key)
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
        self.add_mistake(key, format!("unknown {what}{meant}; {place}{has} {names}"));
    }

    /// The accepted form at a key, with its default as the example.
    fn accepted_form(&self, known: &Value, key: &str) -> String {
        let name = key.rsplit('.').next().unwrap_or(key);
        let example = match (&self.origin, known) {
            (_, Value::String(text)) if text.is_empty() => String::new(),
            (ValueOrigin::Variable(name), Value::String(text)) => format!(", as in {name}={text}"),
            (ValueOrigin::Variable(name), Value::Array(_)) => format!(", as in {name}=a,b"),
            (ValueOrigin::Variable(name), known) => format!(", as in {name}={known}"),
            (ValueOrigin::File { .. } | ValueOrigin::Default, known) => {
                format!(", as in {name} = {known}")
            }
        };
        format!("{}{example}", kind_of(known))
    }

    pub(super) fn judge_table(&mut self, known: &Table, table: Table, section: &str) {
        for (name, value) in table {
            let key = join_key(section, &name);
            match (known.get(&name), value) {
                (None, _) => self.add_unknown_key(key, section, known, &name),
                (Some(Value::Table(known)), Value::Table(table)) => {
                    self.judge_table(known, table, &key);
                }
                (Some(Value::Table(_)), _) => {
                    self.add_mistake(key, "is a section: must be a table");
                }
                (Some(Value::Array(known)), value) if first_table(known).is_some() => {
                    self.judge_table_list(first_table(known).unwrap_or(&Table::new()), value, &key);
                }
                (Some(known), value) => {
                    if self.value_fits(known, &value, &key, &key) {
                        self.take_value(&key, value);
                    }
                }
            }
        }
    }

    /// A list of tables, each with all keys of `known`. What is good of it is taken, with that of `known` for the rest,
    /// so that the check finds what is wrong with the good.
    fn judge_table_list(&mut self, known: &Table, value: Value, key: &str) {
        let Value::Array(elements) = value else {
            return self.add_mistake(key, format!("must be a list of tables: [[{key}]]"));
        };
        let mut usable = Vec::new();
        for (at, element) in elements.into_iter().enumerate() {
            let here = format!("{key}[{at}]");
            let element = if let Value::Table(element) = element {
                self.judge_element(known, element, key, &here)
            } else {
                self.add_mistake(here, format!("must be a table: [[{key}]]"));
                known.clone()
            };
            usable.push(Value::Table(element));
        }
        self.take_value(key, Value::Array(usable));
    }

    /// The good part of one table of the list at `key`, and of `known` the rest.
    fn judge_element(&mut self, known: &Table, element: Table, key: &str, here: &str) -> Table {
        let mut usable = known.clone();
        for name in known.keys().filter(|name| !element.contains_key(*name)) {
            self.add_mistake(join_key(here, name), "is missing");
        }
        for (name, value) in element {
            let shown = join_key(here, &name);
            match known.get(&name) {
                None => self.add_unknown_key(shown, key, known, &name),
                Some(known) => {
                    if self.value_fits(known, &value, &join_key(key, &name), &shown) {
                        usable.insert(name, value);
                    }
                }
            }
        }
        usable
    }

    pub(super) fn judge_variable(&mut self, name: &str, value: Option<&str>) {
        let rest = name.strip_prefix(PREFIX).unwrap_or_default();
        let key = rest.to_lowercase().replace("__", ".");
        if rest != rest.to_uppercase() {
            let reason = format!("unknown key; did you mean {PREFIX}{}?", rest.to_uppercase());
            return self.add_mistake(key, reason);
        }
        let Some(value) = value else {
            return self.add_mistake(key, "is not UTF-8 text");
        };
        let mut known = self.schema;
        let mut section = String::new();
        for name in key.split('.') {
            match known.get(name) {
                Some(Value::Table(inner)) => {
                    known = inner;
                    section = join_key(&section, name);
                }
                Some(Value::Array(list)) if first_table(list).is_some() => {
                    return self.add_mistake(key, "a list of tables can be set in a file only");
                }
                Some(kind) if join_key(&section, name) == key => {
                    match parse_variable(kind, value) {
                        Some(value) if self.value_fits(kind, &value, &key, &key) => {
                            self.take_value(&key, value);
                        }
                        Some(_) => {}
                        None => {
                            let accepted = self.accepted_form(kind, &key);
                            self.add_mistake(key.clone(), format!("must be {accepted}"));
                        }
                    }
                    return;
                }
                Some(_) | None => {
                    let name = name.to_owned();
                    return self.add_unknown_key(key, &section, known, &name);
                }
            }
        }
        self.add_mistake(key, "is a section: set its keys one by one");
    }

    /// Whether `value` can stand at `key` (`shown` is its name in messages, with the place in the list).
    fn value_fits(&mut self, known: &Value, value: &Value, key: &str, shown: &str) -> bool {
        if !same_kind(known, value) {
            let accepted = self.accepted_form(known, key);
            self.add_mistake(shown, format!("must be {accepted}"));
            return false;
        }
        let mut tried = Value::Table(self.schema.clone());
        if let Some(place) = value_at(&mut tried, key) {
            *place = value.clone();
        }
        match Settings::deserialize(tried) {
            Ok(_) => true,
            Err(error) => {
                let accepted = self.accepted_form(known, key);
                self.add_mistake(shown, explain_refusal(error.message(), &accepted));
                false
            }
        }
    }

    fn take_value(&mut self, key: &str, value: Value) {
        match value.try_into::<config::Value>() {
            Ok(value) => {
                self.layer.0.insert(key.to_owned(), value);
                self.told
                    .origins
                    .insert(key.to_owned(), self.origin.clone());
            }
            Err(error) => self.add_mistake(key, one_line(error.message())),
        }
    }
}

/// The value at `key`; in a list of tables that of its first element.
fn value_at<'a>(root: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    key.split('.').try_fold(root, |value, name| match value {
        Value::Array(list) => list.first_mut()?.get_mut(name),
        table => table.get_mut(name),
    })
}

fn first_table(list: &[Value]) -> Option<&Table> {
    list.first().and_then(Value::as_table)
}
