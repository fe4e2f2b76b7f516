//! A user's balances as a running service shows them, and its `Cache-Status` in words.

use balance_cache::domain::UserId;
use serde::{Deserialize, Serialize};

use super::client::{ClientResponse, ServiceClient, Unanswered};

/// A balance as clients get it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShownBalance {
    pub(crate) asset: String,
    pub(crate) avail: String,
    pub(crate) frozen: String,
    pub(crate) seq: i64,
    pub(crate) updated_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<String>,
}

/// The envelope of every answer.
#[derive(Debug, Deserialize)]
pub(crate) struct ServiceEnvelope<T> {
    pub(crate) status: i64,
    pub(crate) msg: String,
    pub(crate) data: Option<T>,
}

impl<T: for<'a> Deserialize<'a>> ServiceEnvelope<T> {
    /// Parses an answer; a body that is no envelope becomes one with the HTTP code.
    pub(crate) fn from_answer(answer: &ClientResponse) -> Self {
        serde_json::from_slice(&answer.body).unwrap_or_else(|_| Self {
            status: i64::from(answer.status),
            msg: "it is not a balance-cache that answers".to_owned(),
            data: None,
        })
    }
}

#[derive(Debug, Clone)]
pub(crate) struct ServiceAnswer {
    /// The balances, or why there are none: HTTP code, status, message.
    pub(crate) balances: Result<Vec<ShownBalance>, String>,
    /// `Cache-Status`, as it was sent.
    pub(crate) way: String,
    /// `Age`: whole seconds since the source or a notification told the balances.
    pub(crate) age: Option<u64>,
}

pub(crate) async fn ask_balances(
    client: &ServiceClient,
    user: UserId,
    asset: Option<&str>,
) -> Result<ServiceAnswer, Unanswered> {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("user_id", &user.to_string());
    if let Some(asset) = asset {
        query.append_pair("asset", asset);
    }
    let answer = client
        .get(&format!("/api/v1/user/balance?{}", query.finish()))
        .await?;
    let envelope: ServiceEnvelope<Vec<ShownBalance>> = ServiceEnvelope::from_answer(&answer);
    let balances = match envelope.data {
        Some(balances) if answer.status == 200 => Ok(balances),
        Some(_) | None => Err(format!(
            "HTTP {}, status {}: {}",
            answer.status, envelope.status, envelope.msg
        )),
    };
    Ok(ServiceAnswer {
        balances,
        way: answer.header_text("cache-status").to_owned(),
        age: answer.header_text("age").parse().ok(),
    })
}

/// A `Cache-Status` in a sentence.
pub(crate) fn in_words(way: &str) -> String {
    let mut said = Vec::new();
    for (at, member) in way.split(", ").enumerate() {
        let mut parts = member.split("; ");
        let name = match parts.next().unwrap_or_default() {
            "memory" => "memory",
            "redis" => "Redis",
            "source" => "the source",
            _ => return "it does not say who answered".to_owned(),
        };
        let mut text = name.to_owned();
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            text.push_str(&explain_parameter(name, at == 0, key, value));
        }
        said.push(text);
    }
    said.join("; ")
}

/// One parameter of a member.
fn explain_parameter(name: &str, first: bool, key: &str, value: &str) -> String {
    let said = match (key, value) {
        ("hit", _) if first => " answered",
        ("ttl", seconds) => return format!(" and may go on to for {seconds} s"),
        ("detail", "behind") => {
            ", below a seq that was notified and that nobody has yet (detail=behind)"
        }
        ("detail", "stale") => " with what was known last, for want of the source (detail=stale)",
        ("fwd", "miss") => " held nothing that lasts",
        ("fwd", "stale") if name == "the source" => " failed",
        ("fwd", "stale") => {
            " held something that it may not show (not proven fresh, or below a floor)"
        }
        ("fwd", "request") => " was passed over, as asked",
        ("fwd", "bypass") => " could not be asked",
        ("collapsed", _) => "; the load was another reader's",
        (other, _) => return format!(" ({other})"),
    };
    said.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_told_in_words() {
        let table = [
            (
                "memory; hit; ttl=9",
                "memory answered and may go on to for 9 s",
            ),
            (
                "source; hit, redis; fwd=bypass, memory; fwd=stale",
                "the source answered; Redis could not be asked; memory held something that it may not show \
                 (not proven fresh, or below a floor)",
            ),
            ("", "it does not say who answered"),
        ];
        for (way, words) in table {
            assert_eq!(in_words(way), words);
        }
    }
}
