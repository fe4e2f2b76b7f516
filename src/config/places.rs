//! Where each key stands in a file.

use std::collections::HashMap;

use toml::de::{DeTable, DeValue};

/// Lines of keys, counted from 1. Keys as in messages: `redis.url`, `assets[1].name`.
#[derive(Debug, Clone, Default)]
pub(super) struct Places(HashMap<String, usize>);

impl Places {
    /// The lines of all keys of a file; what cannot be read of it has none.
    pub(super) fn from_text(text: &str) -> Self {
        let breaks: Vec<usize> = text
            .bytes()
            .enumerate()
            .filter_map(|(at, byte)| (byte == b'\n').then_some(at))
            .collect();
        let mut places = Self::default();
        let (table, _) = DeTable::parse_recoverable(text);
        places.add_table(table.get_ref(), "", &breaks);
        places
    }

    pub(super) fn key_line(&self, key: &str) -> Option<usize> {
        let found = self.0.get(key).copied();
        found.or_else(|| self.key_line(key.get(..key.rfind(['.', '['])?)?))
    }

    fn add_table(&mut self, table: &DeTable<'_>, section: &str, breaks: &[usize]) {
        for (name, value) in table {
            let key = join_key(section, name.get_ref());
            self.put_key(&key, name.span().start, breaks);
            match value.get_ref() {
                DeValue::Table(inner) => self.add_table(inner, &key, breaks),
                DeValue::Array(elements) => {
                    for (at, element) in elements.iter().enumerate() {
                        let key = format!("{key}[{at}]");
                        self.put_key(&key, element.span().start, breaks);
                        if let DeValue::Table(inner) = element.get_ref() {
                            self.add_table(inner, &key, breaks);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn put_key(&mut self, key: &str, offset: usize, breaks: &[usize]) {
        self.0.insert(key.to_owned(), line_at(breaks, offset));
    }
}

pub(super) fn join_key(section: &str, name: &str) -> String {
    if section.is_empty() {
        name.to_owned()
    } else {
        format!("{section}.{name}")
    }
}

fn line_at(breaks: &[usize], offset: usize) -> usize {
    breaks.partition_point(|at| *at < offset).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_the_line_in_which_it_stands() {
        let text = "top = 1\n[redis]\n# a comment\nurl = \"\"\n\n[[assets]]\nid = 1\n[[assets]]\nid = 2\nname = \"X\"\n";
        let places = Places::from_text(text);
        for (key, line) in [
            ("top", 1),
            ("redis.url", 4),
            ("assets[0].id", 7),
            ("assets[1].id", 9),
            ("assets[1].name", 10),
            ("assets[1].decimals", 8),
        ] {
            assert_eq!(places.key_line(key), Some(line), "{key}");
        }
        assert_eq!(places.key_line("memory.ttl_ms"), None);
    }
}
