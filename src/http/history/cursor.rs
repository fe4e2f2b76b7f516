//! Cursors: the place behind a page, for the next one.
//!
//! **Invariants.** A cursor is a function of the question and the place, and of nothing else: every instance makes and takes the same, after
//! a restart too. It carries a digest over both: a cursor of another question, or one that was changed, is refused.
//!
//! **Limits.** [`TEXT_MAX`] characters of `A-Za-z0-9_-`.
//!
//! **Deliberately absent**: a secret. A cursor says nothing that its reader may not ask for, and gives no right.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::domain::{
    Order, Seq, StatementQuestion, TradeId, TradePlace, TradeSideRole, TradesQuestion, UnixMillis,
};

/// Characters of a cursor at most.
pub const TEXT_MAX: usize = 200;
/// The first byte: another layout is refused.
const LAYOUT: u8 = 1;
const DIGEST_BYTES: usize = 16;

/// A question that is answered by pages.
pub trait Paged {
    type Place;

    /// The parameters that a cursor is bound to: all that decide the rows and their order, without the limit.
    fn binding_text(&self) -> String;
    /// The place as bytes.
    fn to_bytes(place: &Self::Place) -> Vec<u8>;
    /// The place in these bytes; none where they hold none.
    fn from_bytes(bytes: &[u8]) -> Option<Self::Place>;
}

impl Paged for TradesQuestion {
    type Place = TradePlace;

    fn binding_text(&self) -> String {
        let Self {
            user,
            symbol_id,
            from,
            to,
            order,
            limit: _,
            after: _,
        } = self;
        let (from, to) = (time_text(*from), time_text(*to));
        format!(
            "trades {user} {symbol_id} {from} {to} {}",
            order_word(*order)
        )
    }

    fn to_bytes(place: &TradePlace) -> Vec<u8> {
        let mut bytes = place.settled_at.0.to_be_bytes().to_vec();
        bytes.extend(place.trade_id.get().to_be_bytes());
        bytes.push(place.role.key_number());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<TradePlace> {
        let (settled_at, rest) = bytes.split_first_chunk()?;
        let (trade_id, rest) = rest.split_first_chunk()?;
        let [role] = rest else {
            return None;
        };
        Some(TradePlace {
            settled_at: UnixMillis(i64::from_be_bytes(*settled_at)),
            trade_id: TradeId::new(i64::from_be_bytes(*trade_id)).ok()?,
            role: TradeSideRole::from_number(*role)?,
        })
    }
}

impl Paged for StatementQuestion {
    type Place = Seq;

    fn binding_text(&self) -> String {
        let Self {
            user,
            asset,
            at,
            order,
            limit: _,
            after: _,
        } = self;
        format!(
            "statement {user} {asset} {} {}",
            time_text(*at),
            order_word(*order)
        )
    }

    fn to_bytes(place: &Seq) -> Vec<u8> {
        place.get().to_be_bytes().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Seq> {
        Seq::new(i64::from_be_bytes(bytes.try_into().ok()?)).ok()
    }
}

fn time_text(time: Option<UnixMillis>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| time.0.to_string())
}

const fn order_word(order: Order) -> &'static str {
    match order {
        Order::NewestFirst => "desc",
        Order::OldestFirst => "asc",
    }
}

fn cursor_digest(question: &str, place: &[u8]) -> Vec<u8> {
    let mut hash = Sha256::new_with_prefix([LAYOUT]);
    hash.update(question);
    hash.update([0]);
    hash.update(place);
    let mut digest = hash.finalize().to_vec();
    digest.truncate(DIGEST_BYTES);
    digest
}

/// The cursor behind this place.
pub fn encode_cursor<Q: Paged>(question: &Q, place: &Q::Place) -> String {
    let place = Q::to_bytes(place);
    let digest = cursor_digest(&question.binding_text(), &place);
    let bytes = [LAYOUT].into_iter().chain(digest).chain(place);
    bytes.fold(String::new(), |mut text, byte| {
        // A String takes whatever is written to it.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The place that a cursor of this question names.
/// Errors: the cursor belongs to another query; the text is for the client.
pub fn decode_cursor<Q: Paged>(question: &Q, text: &str) -> Result<Q::Place, &'static str> {
    let read = || {
        let bytes = decode_hex(text)?;
        let rest = bytes.strip_prefix(&[LAYOUT])?;
        let (given, place) = rest.split_at_checked(DIGEST_BYTES)?;
        let ours = given == cursor_digest(&question.binding_text(), place);
        ours.then(|| Q::from_bytes(place))?
    };
    read().ok_or(
        "cursor: not one that this query was given; send the same user, asset or symbol, times and order with it, or begin without one",
    )
}

/// The bytes of a text of lower-case hexadecimal digits.
fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if digits.len() > TEXT_MAX || !digits.len().is_multiple_of(2) {
        return None;
    }
    let value = |digit: u8| match digit {
        b'0'..=b'9' | b'a'..=b'f' => char::from(digit).to_digit(16),
        _ => None,
    };
    let byte = |pair: &[u8]| {
        let [high, low] = pair else {
            return None;
        };
        let value = value(*high)?.checked_mul(16)?.checked_add(value(*low)?)?;
        u8::try_from(value).ok()
    };
    digits.chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{AssetId, UserId};

    fn statement_question(user: i64) -> StatementQuestion {
        StatementQuestion {
            user: UserId::new(user).unwrap(),
            asset: AssetId::new(1).unwrap(),
            at: None,
            order: Order::NewestFirst,
            limit: 100,
            after: None,
        }
    }

    fn trades_question() -> TradesQuestion {
        TradesQuestion {
            user: UserId::new(1001).unwrap(),
            symbol_id: 1,
            from: None,
            to: None,
            order: Order::NewestFirst,
            limit: 100,
            after: None,
        }
    }

    proptest! {
        #[test]
        fn a_cursor_names_its_place_and_is_short_and_plain(
            at in any::<i64>(), id in 1..=i64::MAX, seller in any::<bool>(), seq in 1..=i64::MAX,
        ) {
            let place = TradePlace {
                settled_at: UnixMillis(at),
                trade_id: TradeId::new(id).unwrap(),
                role: if seller { TradeSideRole::Seller } else { TradeSideRole::Buyer },
            };
            let text = encode_cursor(&trades_question(), &place);
            prop_assert_eq!(decode_cursor(&trades_question(), &text), Ok(place));
            let seq = Seq::new(seq).unwrap();
            let short = encode_cursor(&statement_question(7), &seq);
            prop_assert_eq!(decode_cursor(&statement_question(7), &short), Ok(seq));
            for text in [text, short] {
                prop_assert!((1..=TEXT_MAX).contains(&text.len()));
                prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'));
            }
        }

        #[test]
        fn no_text_is_taken_that_was_not_given(text in "[0-9a-fA-F_zé-]{0,90}", at in 0_usize..60, digit in "[0-9a-f]") {
            prop_assert!(decode_cursor(&trades_question(), &text).is_err());
            prop_assert!(decode_cursor(&statement_question(1), &text).is_err());
            let mut changed = encode_cursor(&statement_question(1), &Seq::new(5).unwrap());
            let at = at % changed.len();
            if changed[at..=at] != digit {
                changed.replace_range(at..=at, &digit);
                prop_assert!(decode_cursor(&statement_question(1), &changed).is_err());
            }
        }
    }

    #[test]
    fn a_cursor_of_another_question_is_refused_and_the_limit_may_change() {
        let seq = Seq::new(17).unwrap();
        let text = encode_cursor(&statement_question(1), &seq);
        let others = [
            statement_question(2),
            StatementQuestion {
                asset: AssetId::new(2).unwrap(),
                ..statement_question(1)
            },
            StatementQuestion {
                at: Some(UnixMillis(0)),
                ..statement_question(1)
            },
            StatementQuestion {
                order: Order::OldestFirst,
                ..statement_question(1)
            },
        ];
        for other in others {
            assert!(decode_cursor(&other, &text).is_err(), "{other:?}");
        }
        assert!(decode_cursor(&trades_question(), &text).is_err());
        let limited = StatementQuestion {
            limit: 1,
            ..statement_question(1)
        };
        assert_eq!(decode_cursor(&limited, &text), Ok(seq));
        let place = TradePlace {
            settled_at: UnixMillis(1),
            trade_id: TradeId::new(1).unwrap(),
            role: TradeSideRole::Buyer,
        };
        let text = encode_cursor(&trades_question(), &place);
        let others = [
            TradesQuestion {
                symbol_id: 2,
                ..trades_question()
            },
            TradesQuestion {
                from: Some(UnixMillis(0)),
                ..trades_question()
            },
            TradesQuestion {
                to: Some(UnixMillis(0)),
                ..trades_question()
            },
            TradesQuestion {
                order: Order::OldestFirst,
                ..trades_question()
            },
            TradesQuestion {
                user: UserId::MAX,
                ..trades_question()
            },
        ];
        for other in others {
            assert!(decode_cursor(&other, &text).is_err(), "{other:?}");
        }
    }

    /// Clients keep cursors over an update of the service: this text was given by the first version.
    #[test]
    fn cursors_of_earlier_versions_are_taken() {
        let seq = Seq::new(17).unwrap();
        assert_eq!(
            encode_cursor(&statement_question(1001), &seq),
            "015b08d4dd5a14033c5944c775fe276d060000000000000011"
        );
    }
}
