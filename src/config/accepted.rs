//! The accepted form of a value: its kind, its text in a variable, and how a refusal tells the accepted form.

use toml::Value;

use super::suggest;

pub(super) fn same_kind(known: &Value, value: &Value) -> bool {
    match (known, value) {
        (Value::Array(_), Value::Array(list)) => list.iter().all(Value::is_str),
        (known, value) => known.same_type(value),
    }
}

pub(super) fn kind_of(known: &Value) -> &'static str {
    match known {
        Value::String(_) => "a text in quotes",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list of texts",
        Value::Table(_) => "a table",
    }
}

/// The text of a variable as the kind that its key has.
pub(super) fn parse_variable(known: &Value, text: &str) -> Option<Value> {
    match known {
        Value::String(_) => Some(Value::String(text.to_owned())),
        Value::Integer(_) => text.trim().parse().ok().map(Value::Integer),
        Value::Float(_) => text.trim().parse().ok().map(Value::Float),
        Value::Boolean(_) => text.trim().parse().ok().map(Value::Boolean),
        Value::Datetime(_) => text.trim().parse().ok().map(Value::Datetime),
        Value::Array(_) if text.trim().is_empty() => Some(Value::Array(Vec::new())),
        Value::Array(_) => Some(Value::Array(
            text.split(',')
                .map(|part| Value::String(part.trim().to_owned()))
                .collect(),
        )),
        Value::Table(_) => None,
    }
}

/// serde's complaint about a value, in the words of a file.
pub(super) fn explain_refusal(message: &str, accepted: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let choices = message.starts_with("unknown variant");
    if let (true, Some(given)) = (choices, quoted.next()) {
        let choices: Vec<_> = quoted.collect();
        let meant = suggest::nearest_word(given, choices.iter().copied());
        let meant = meant.map_or_else(String::new, |choice| format!("; did you mean {choice:?}?"));
        return format!("{given:?} is none of {}{meant}", choices.join(", "));
    }
    let range = match message
        .rsplit_once("expected ")
        .map(|(_, kind)| kind.trim())
    {
        Some("u8") => " from 0 to 255",
        Some("u32") => " from 0 to 4294967295",
        Some("i32") => " from -2147483648 to 2147483647",
        Some("u64" | "usize") => " from 0 on",
        Some(_) | None => "",
    };
    if message.contains("socket address") {
        let example = accepted.split_once(", ").map_or("", |(_, example)| example);
        return format!("must be an IP address and a port, {example}");
    }
    if range.is_empty() {
        return format!("{}: must be {accepted}", one_line(message));
    }
    let (kind, example) = accepted.split_once(", ").unwrap_or((accepted, ""));
    format!("must be {kind}{range}, {example}")
}

pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
