//! The query string of a balance read.
//!
//! **Invariants.** A parameter that we do not know, or that comes twice, is an error and not ignored: a misspelled
//! `min_seq` would silently lose its promise. Nothing here panics on any text.
//!
//! **Limits.** [`MIN_SEQ_MAX`] pairs; the length of the whole is the listener's business.

use std::borrow::Cow;

use crate::domain::{AssetId, Catalogue, Floors, MalformedId, Seq, UserId};

/// Pairs in one `min_seq`.
pub const MIN_SEQ_MAX: usize = 1_000;

/// The question of one balance read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Whose balances.
    pub user: UserId,
    /// That asset only.
    pub asset: Option<AssetId>,
    /// Not older than that, whatever is shown.
    pub min_seq: Floors,
}

impl Question {
    /// The question in a query string that names a user and nothing else, which most do; none says nothing.
    pub fn of_user(query: &str) -> Option<Self> {
        let user = query.strip_prefix("user_id=")?.parse().ok()?;
        Some(Self {
            user,
            asset: None,
            min_seq: Floors::NONE,
        })
    }

    /// The question in a query string.
    /// Errors: the mistake, for the caller to read.
    pub fn parse_query(query: Option<&str>, catalogue: &Catalogue) -> Result<Self, String> {
        let (mut user, mut asset, mut min_seq) = (None, None, None);
        for (name, value) in split_pairs(query) {
            let name = percent_decode(name)?;
            let value = percent_decode(value).map_err(|wrong| format!("{name}: {wrong}"))?;
            let repeated = match name.as_ref() {
                "user_id" => {
                    let id = value
                        .parse::<UserId>()
                        .map_err(|malformed| malformed.to_string())?;
                    user.replace(id).is_some()
                }
                "asset" => {
                    let id = resolve_asset(&value, catalogue)
                        .map_err(|wrong| format!("asset: {wrong}"))?;
                    asset.replace(id).is_some()
                }
                "min_seq" => min_seq.replace(parse_min_seq(&value, catalogue)?).is_some(),
                _ => {
                    return Err(format!(
                        "unknown parameter: {name}; there are user_id, asset and min_seq"
                    ));
                }
            };
            if repeated {
                return Err(format!("repeated parameter: {name}"));
            }
        }
        Ok(Self {
            user: user.ok_or("user_id is missing")?,
            asset,
            min_seq: min_seq.unwrap_or(Floors::NONE),
        })
    }
}

/// Refuses every parameter, for routes without any.
/// Errors: the first parameter of the query.
pub fn refuse_parameters(query: Option<&str>) -> Result<(), String> {
    match split_pairs(query).next() {
        None => Ok(()),
        Some((name, _)) => Err(format!("unknown parameter: {name}; this route takes none")),
    }
}

/// The parameters of a query string, each of them known and there once.
pub(super) struct Parameters<'q>(Vec<(&'static str, Cow<'q, str>)>);

impl<'q> Parameters<'q> {
    pub(super) fn parse_query(
        query: Option<&'q str>,
        known: &[&'static str],
    ) -> Result<Self, String> {
        let mut found: Vec<(&'static str, Cow<'q, str>)> = Vec::new();
        for (name, value) in split_pairs(query) {
            let name = percent_decode(name)?;
            let Some(name) = known.iter().find(|known| **known == name) else {
                let known = known.join(", ");
                return Err(format!("unknown parameter: {name}; there are {known}"));
            };
            let value = percent_decode(value).map_err(|wrong| format!("{name}: {wrong}"))?;
            if found.iter().any(|(other, _)| other == name) {
                return Err(format!("repeated parameter: {name}"));
            }
            found.push((name, value));
        }
        Ok(Self(found))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_ref())
    }

    pub(super) fn parse_user(&self) -> Result<UserId, String> {
        let text = self.get("user_id").ok_or("user_id is missing")?;
        text.parse()
            .map_err(|malformed: MalformedId| malformed.to_string())
    }
}

/// Splits a query into undecoded names and values; empty pairs are skipped.
fn split_pairs(query: Option<&str>) -> impl Iterator<Item = (&str, &str)> {
    query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// `BTC:17,USDT:9`; of an asset named twice the higher seq counts.
pub(super) fn parse_min_seq(text: &str, catalogue: &Catalogue) -> Result<Floors, String> {
    let mut floors = Floors::NONE;
    for (at, pair) in text.split(',').enumerate() {
        if at >= MIN_SEQ_MAX {
            return Err(format!("min_seq has more than {MIN_SEQ_MAX} elements"));
        }
        let (asset, seq) = pair
            .split_once(':')
            .ok_or_else(|| format!("min_seq[{at}] must be asset:seq, separated by commas"))?;
        let wrong = |what: String| format!("min_seq[{at}]: {what}");
        let seq = seq
            .parse::<Seq>()
            .map_err(|malformed| wrong(malformed.to_string()))?;
        floors.raise_floor(resolve_asset(asset, catalogue).map_err(wrong)?, seq);
    }
    Ok(floors)
}

fn resolve_asset(text: &str, catalogue: &Catalogue) -> Result<AssetId, String> {
    catalogue.resolve_asset(text).ok_or_else(|| {
        format!("unknown asset: {text}: neither a name nor the number of an unnamed asset")
    })
}

/// `+` is a space, `%41` an `A`; what is not UTF-8 afterwards is an error.
fn percent_decode(text: &str) -> Result<Cow<'_, str>, String> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Ok(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = (rest.next(), rest.next());
                escaped_byte(digits).ok_or("a % is not followed by two hexadecimal digits")?
            }
            plain => plain,
        });
    }
    String::from_utf8(bytes)
        .map(Cow::Owned)
        .map_err(|_| "the query string is not UTF-8".to_owned())
}

fn escaped_byte(digits: (Option<u8>, Option<u8>)) -> Option<u8> {
    let value = |digit: Option<u8>| char::from(digit?).to_digit(16);
    let both = value(digits.0)?
        .checked_mul(16)?
        .checked_add(value(digits.1)?)?;
    u8::try_from(both).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_for_a_user_and_nothing_else_is_read_as_any_other() {
        let catalogue = Catalogue::default();
        for query in ["user_id=1001", "user_id=9223372036854775807"] {
            let parsed = Question::parse_query(Some(query), &catalogue).unwrap();
            assert_eq!(Question::of_user(query), Some(parsed));
        }
        for query in [
            "",
            "user_id=",
            "user_id=0",
            "user_id=01",
            "user_id=+1",
            "user_id=%31",
            "user_id=1&",
            "user_id=1&asset=BTC",
            "asset=BTC&user_id=1",
            "user_id=9223372036854775808",
            "User_id=1",
        ] {
            assert_eq!(Question::of_user(query), None, "{query}");
        }
    }

    #[test]
    fn percent_and_plus_are_decoded_and_nothing_else() {
        assert_eq!(percent_decode("a%42+%2b%C3%A4").unwrap(), "aB +ä");
        for bad in ["%", "%4", "%4g", "%+1", "%ff", "%C3", "%%41"] {
            assert!(percent_decode(bad).is_err(), "{bad}");
        }
    }
}
