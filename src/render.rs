//! A snapshot as the bytes that clients get: rendered once, when it is filled, and shared by every hit.
//!
//! **Invariants.** Equal balances give equal bytes and equal tags on every instance: nothing of the time of the load
//! goes in. An asset that the catalogue does not know is shown raw, never dropped.

use std::fmt::Write;

use bytes::Bytes;
use http::HeaderValue;
use sha2::{Digest, Sha256};

use crate::domain::{Balance, Catalogue, Snapshot, UnixMillis};

const HEAD: &str = r#"{"status":0,"msg":"ok","data":"#;
const TAIL: &str = "}";
/// About what one balance takes.
const BALANCE_BYTES: usize = 96;

/// The body of a single read, with its strong entity tag.
#[derive(Debug, Clone)]
pub struct Rendered {
    /// The whole body: envelope and balances.
    pub body: Bytes,
    /// Quoted, from a hash of the body.
    pub etag: HeaderValue,
}

/// A snapshot and everything that is prepared for showing it.
#[derive(Debug)]
pub struct Held {
    /// All balances of the user.
    pub snapshot: Snapshot,
    /// The whole body of a single read, with its tag.
    pub rendered: Rendered,
    /// When the source said so, where no balance says when it was said: of a user, or an asset, with nothing.
    pub heard_at: UnixMillis,
}

impl Held {
    /// The snapshot with its body.
    #[must_use]
    pub fn new(catalogue: &Catalogue, snapshot: Snapshot, heard_at: UnixMillis) -> Self {
        Self {
            rendered: Rendered::new(catalogue, &snapshot),
            snapshot,
            heard_at,
        }
    }
}

impl Rendered {
    /// The snapshot in the words of the catalogue.
    #[must_use]
    pub fn new(catalogue: &Catalogue, snapshot: &Snapshot) -> Self {
        let balances = snapshot.balances();
        let mut text = String::with_capacity(
            balances
                .len()
                .saturating_mul(BALANCE_BYTES)
                .saturating_add(HEAD.len())
                .saturating_add(8),
        );
        text.push_str(HEAD);
        text.push('[');
        for (at, balance) in balances.iter().enumerate() {
            if at > 0 {
                text.push(',');
            }
            push_balance(&mut text, catalogue, balance);
        }
        text.push(']');
        text.push_str(TAIL);
        Self {
            etag: entity_tag(text.as_bytes()),
            body: Bytes::from(text),
        }
    }

    /// The array of balances alone, as it stands in the body.
    #[must_use]
    pub fn balances(&self) -> Bytes {
        let end = self.body.len().saturating_sub(TAIL.len());
        self.body.slice(HEAD.len().min(end)..end)
    }
}

fn push_balance(text: &mut String, catalogue: &Catalogue, balance: &Balance) {
    let known = catalogue.get(balance.asset);
    let decimals = known.map_or(0, |(_, decimals)| decimals);
    // A String takes whatever is written to it.
    let _ = match known {
        Some((name, _)) => write!(text, r#"{{"asset":"{name}""#),
        None => write!(text, r#"{{"asset":"{}""#, balance.asset),
    };
    let (avail, frozen) = (
        balance.avail.decimal(decimals),
        balance.frozen.decimal(decimals),
    );
    let _ = write!(
        text,
        r#","avail":"{avail}","frozen":"{frozen}","seq":{},"updated_at":"#,
        balance.seq
    );
    let _ = match balance.updated_at {
        Some(at) => write!(text, "{}", at.0),
        None => write!(text, "null"),
    };
    text.push_str(if known.is_some() {
        "}"
    } else {
        r#","unit":"raw"}"#
    });
}

fn entity_tag(body: &[u8]) -> HeaderValue {
    let digest = Sha256::digest(body);
    let mut tag = String::with_capacity(34);
    tag.push('"');
    for byte in digest.iter().take(16) {
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    HeaderValue::try_from(tag).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Amount, Asset, AssetId, Seq, UnixMillis};

    fn balance(asset: i32, avail: i64, said_at: i64) -> Balance {
        Balance {
            asset: AssetId::new(asset).unwrap(),
            seq: Seq::new(17).unwrap(),
            avail: Amount::from_raw(avail),
            frozen: Amount::from_raw(0),
            updated_at: (asset == 1).then_some(UnixMillis(1_765_352_441_955)),
            said_at: UnixMillis(said_at),
        }
    }

    fn catalogue() -> Catalogue {
        Catalogue::new(
            &[Asset {
                id: 1,
                name: "BTC".to_owned(),
                decimals: 8,
            }],
            &[],
        )
        .unwrap()
    }

    #[test]
    fn seed_fault_10_an_asset_outside_the_catalogue_is_shown_raw() {
        let rendered = Rendered::new(
            &catalogue(),
            &Snapshot::new(vec![balance(1, 910_000_000_000, 1), balance(4, -5, 1)]),
        );
        let balances = concat!(
            r#"[{"asset":"BTC","avail":"9100","frozen":"0","seq":17,"updated_at":1765352441955},"#,
            r#"{"asset":"4","avail":"-5","frozen":"0","seq":17,"updated_at":null,"unit":"raw"}]"#
        );
        assert_eq!(rendered.balances(), balances);
        assert_eq!(
            rendered.body,
            format!(r#"{{"status":0,"msg":"ok","data":{balances}}}"#)
        );
    }

    #[test]
    fn equal_balances_have_equal_tags_whenever_they_were_loaded() {
        let tag = |said_at, avail| {
            Rendered::new(
                &catalogue(),
                &Snapshot::new(vec![balance(1, avail, said_at)]),
            )
            .etag
        };
        assert_eq!(tag(1, 5), tag(2, 5));
        assert_ne!(tag(1, 5), tag(1, 6));
    }

    #[test]
    fn a_user_with_nothing_has_an_empty_array() {
        assert_eq!(
            Rendered::new(&catalogue(), &Snapshot::default()).body,
            r#"{"status":0,"msg":"ok","data":[]}"#
        );
    }
}
