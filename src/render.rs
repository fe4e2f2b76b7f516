//! A snapshot as the bytes that clients get: rendered once, when it is filled, and shared by every hit.
//!
//! **Invariants.** Equal balances give equal bytes and equal tags on every instance: nothing of the time of the load
//! goes in. An asset that the catalogue does not know is shown raw, never dropped.

mod response;
mod shared_bytes;

use sha2::{Digest, Sha256};

pub use response::RenderedSnapshot;

use crate::domain::{Balance, CatalogueTable, Snapshot};

const HEAD: &str = r#"{"status":0,"msg":"ok","data":"#;
const TAIL: &str = "}";
/// About what one balance takes, with what is noted of it.
const BALANCE_BYTES: usize = 104;
/// A tag with its quotes: 96 bits, six a letter.
const TAG_BYTES: usize = 18;
/// The letters of a tag.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The whole body of a single read: envelope and balances.
fn body_text(catalogue: &CatalogueTable, snapshot: &Snapshot) -> String {
    let balances = snapshot.balances();
    let mut text = String::with_capacity(
        balances
            .len()
            .saturating_mul(BALANCE_BYTES)
            .saturating_add(HEAD.len())
            .saturating_add(64),
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
    text
}

fn push_balance(text: &mut String, catalogue: &CatalogueTable, balance: &Balance) {
    let known = catalogue.get_asset(balance.asset);
    let decimals = known.map_or(0, |(_, decimals)| decimals);
    let mut digits = itoa::Buffer::new();
    text.push_str(r#"{"asset":""#);
    text.push_str(match known {
        Some((name, _)) => name,
        None => digits.format(balance.asset.get()),
    });
    // A String takes whatever is written to it.
    text.push_str(r#"","avail":""#);
    let _ = balance.avail.to_decimal(decimals).write_to(text);
    text.push_str(r#"","frozen":""#);
    let _ = balance.frozen.to_decimal(decimals).write_to(text);
    text.push_str(r#"","seq":"#);
    text.push_str(digits.format(balance.seq.get()));
    text.push_str(r#","updated_at":"#);
    text.push_str(match balance.updated_at {
        Some(at) => digits.format(at.0),
        None => "null",
    });
    text.push_str(if known.is_some() {
        "}"
    } else {
        r#","unit":"raw"}"#
    });
}

/// The strong tag of a body, quoted: 96 bits of its SHA-256.
pub fn entity_tag(body: &[u8]) -> [u8; TAG_BYTES] {
    let digest = Sha256::digest(body);
    let mut bits = digest
        .first_chunk()
        .map_or(0, |first| u128::from_be_bytes(*first));
    let mut tag = [b'"'; TAG_BYTES];
    let [_, letters @ .., _] = &mut tag;
    for place in letters {
        let letter = usize::try_from(bits & 0x3f)
            .ok()
            .and_then(|at| LETTERS.get(at));
        *place = *letter.unwrap_or(&b'-');
        bits = bits.wrapping_shr(6);
    }
    tag
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Asset, Catalogue, UnixMillis};

    fn test_balance(asset: i32, avail: i64, said_at: i64) -> Balance {
        Balance {
            updated_at: (asset == 1).then_some(UnixMillis(1_765_352_441_955)),
            said_at: UnixMillis(said_at),
            ..Balance::sample_of(asset, 17, avail)
        }
    }

    fn render_held(balances: Vec<Balance>) -> RenderedSnapshot {
        let asset = Asset::new(1, "BTC", 8);
        let catalogue = Catalogue::new(&[asset], &[]).unwrap();
        RenderedSnapshot::new(&catalogue, &Snapshot::new(balances), UnixMillis(0))
    }

    #[test]
    fn seed_fault_10_an_asset_outside_the_catalogue_is_shown_raw() {
        let held = render_held(vec![
            test_balance(1, 910_000_000_000, 1),
            test_balance(4, -5, 1),
        ]);
        let balances = concat!(
            r#"[{"asset":"BTC","avail":"9100","frozen":"0","seq":17,"updated_at":1765352441955},"#,
            r#"{"asset":"4","avail":"-5","frozen":"0","seq":17,"updated_at":null,"unit":"raw"}]"#
        );
        assert_eq!(held.balances_array(), balances.as_bytes());
        assert_eq!(
            held.body_bytes(),
            format!(r#"{{"status":0,"msg":"ok","data":{balances}}}"#).as_bytes()
        );
    }

    #[test]
    fn equal_balances_have_equal_tags_whenever_they_were_loaded() {
        let tag = |said_at, avail| {
            render_held(vec![test_balance(1, avail, said_at)])
                .entity_tag()
                .to_vec()
        };
        assert_eq!(tag(1, 5), tag(2, 5));
        assert_ne!(tag(1, 5), tag(1, 6));
        assert_eq!(tag(1, 5).len(), TAG_BYTES);
    }

    #[test]
    fn a_user_with_nothing_has_an_empty_array() {
        assert_eq!(
            render_held(Vec::new()).body_bytes(),
            br#"{"status":0,"msg":"ok","data":[]}"#
        );
    }
}
