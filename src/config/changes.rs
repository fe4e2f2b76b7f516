//! Which keys differ between two settings.

use toml::{Table, Value};

use super::Settings;

/// The keys whose values differ, `redis.url`; a list of tables (`assets`) is one key. Never a value: it may be a secret.
pub fn changes(before: &Settings, after: &Settings) -> Vec<String> {
    let mut keys = Vec::new();
    if let (Ok(before), Ok(after)) = (Table::try_from(before), Table::try_from(after)) {
        compare_tables("", &before, &after, &mut keys);
    }
    keys
}

fn compare_tables(section: &str, before: &Table, after: &Table, keys: &mut Vec<String>) {
    for (name, after) in after {
        let key = super::places::join_key(section, name);
        match (before.get(name), after) {
            (Some(Value::Table(before)), Value::Table(after)) => {
                compare_tables(&key, before, after, keys);
            }
            (before, after) if before == Some(after) => {}
            _ => keys.push(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::default_settings;

    #[test]
    fn keys_that_differ_are_named_and_no_others() {
        let before = default_settings().unwrap();
        assert_eq!(changes(&before, &before), [""; 0]);
        let mut after = before.clone();
        after.assets.pop();
        "debug".clone_into(&mut after.telemetry.log);
        after.limits.body_bytes += 1;
        assert_eq!(
            changes(&before, &after),
            ["assets", "limits.body_bytes", "telemetry.log"]
        );
    }
}
