//! JSON that others send, read into our forms; what is wrong with it is told by the field and the accepted form.

use serde::Deserialize;
use serde_json::error::Category;

/// Characters of a value that are quoted in a message.
const QUOTED_MAX: usize = 40;

/// The value in a JSON text.
/// Errors: the mistake, for the sender: the field first, then what is accepted there.
pub fn parse_json<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(json).map_err(|error| {
        // Read once more, with the path noted: too slow for what is right.
        let mut reader = serde_json::Deserializer::from_slice(json);
        let path = serde_path_to_error::deserialize::<_, T>(&mut reader)
            .err()
            .map(|error| error.path().to_string());
        refusal_text(path.as_deref().unwrap_or("."), &error)
    })
}

/// The message of an error, without the place in a text that its sender may never see as we do.
pub(super) fn error_message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ")
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn refusal_text(path: &str, error: &serde_json::Error) -> String {
    let text = error_message(error);
    let text = text.as_str();
    let at_root = path == ".";
    let (at, inside) = if at_root {
        (String::new(), String::new())
    } else {
        (format!("{path}: "), format!("{path}."))
    };
    let field = text.split('`').nth(1).unwrap_or_default();
    if text.starts_with("missing field") {
        return format!("{inside}{field} is missing");
    }
    if text.starts_with("duplicate field") {
        return format!("{field} stands twice");
    }
    if text.starts_with("unknown field") {
        let known: Vec<_> = text.split('`').skip(3).step_by(2).collect();
        return format!(
            "{} is no field here; there are {}",
            shorten_text(field),
            known.join(", ")
        );
    }
    let wrong = ["invalid type: ", "invalid value: "];
    let wrong = wrong.iter().find_map(|kind| text.strip_prefix(kind));
    if let Some((found, expected)) = wrong.and_then(|wrong| wrong.rsplit_once(", expected ")) {
        let (found, expected) = (name_of(found), form_of(expected));
        return format!("{at}must be {expected}, not {found}");
    }
    match error.classify() {
        Category::Syntax | Category::Eof if at_root => format!("not JSON: {text}"),
        Category::Syntax | Category::Eof | Category::Data | Category::Io => format!("{at}{text}"),
    }
}

fn form_of(expected: &str) -> &str {
    match expected {
        "i64" => "a whole number of 64 bits",
        "u64" => "a whole number from 0 to 18446744073709551615",
        "i32" => "a whole number of 32 bits",
        "u32" => "a whole number from 0 to 4294967295",
        "u8" => "a whole number from 0 to 255",
        "a boolean" => "true or false",
        "a string" | "a borrowed string" => "a text in quotes",
        form if form.starts_with("struct ") => "an object",
        form => form,
    }
}

fn name_of(found: &str) -> String {
    match found {
        "map" => "an object".to_owned(),
        "sequence" => "an array".to_owned(),
        other => shorten_text(other),
    }
}

fn shorten_text(text: &str) -> String {
    let mut kept: String = text.chars().take(QUOTED_MAX).collect();
    if kept.len() < text.len() {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its form is looked at")]
    struct TestForm {
        user_id: i64,
        deep: Option<Vec<Inner>>,
        floors: Option<bool>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only its form is looked at")]
    struct Inner {
        seq: i64,
    }

    /// A text, and what is said of it.
    const REFUSED: &str = r#"
{"user_id":"1"} => user_id: must be a whole number of 64 bits, not string "1"
{"user_id":1.5} => user_id: must be a whole number of 64 bits, not floating point `1.5`
{"user_id":9223372036854775808} => user_id: must be a whole number of 64 bits, not integer `9223372036854775808`
{"user_id":null} => user_id: must be a whole number of 64 bits, not null
{"user_id":{}} => user_id: must be a whole number of 64 bits, not an object
{} => user_id is missing
{"user_id":1,"user_id":2} => user_id stands twice
{"user_id":1,"usr":2} => usr is no field here; there are user_id, deep, floors
{"user_id":1,"floors":"yes"} => floors: must be true or false, not string "yes"
{"user_id":1,"deep":[{"seq":1},{"seq":true}]} => deep[1].seq: must be a whole number of 64 bits, not boolean `true`
{"user_id":1,"deep":[{}]} => deep[0].seq is missing
"#;

    #[test]
    fn what_is_wrong_is_told_by_its_field_and_the_accepted_form() {
        for (json, expected) in REFUSED.lines().filter_map(|line| line.split_once(" => ")) {
            let said = parse_json::<TestForm>(json.as_bytes()).unwrap_err();
            assert_eq!(said, expected, "{json}");
        }
        for json in ["", "{", r#"{"user_id":1,}"#, r#"{"user_id":}"#, "{} x"] {
            let said = parse_json::<TestForm>(json.as_bytes()).unwrap_err();
            assert!(said.len() > 8 && !said.contains("line"), "{json}: {said}");
        }
        let long = format!(r#"{{"user_id":"{}"}}"#, "x".repeat(1000));
        assert!(parse_json::<TestForm>(long.as_bytes()).unwrap_err().len() < 120);
    }
}
