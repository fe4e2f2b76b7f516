//! Entries of streams, from the replies to our types.

use redis::{FromRedisValue, RedisResult, Value};

use super::{FeedEntry, FeedNews, StreamId};
use crate::{
    cache::redis::entry,
    domain::{BalanceChange, UserId},
};

/// An entry with its place, its fields and their values.
pub(super) type RawEntry = (String, Vec<(Vec<u8>, Vec<u8>)>);

/// The entries of the one stream that was read.
pub(super) fn reply_entries(reply: Value) -> RedisResult<Vec<RawEntry>> {
    let streams = match reply {
        Value::Array(mut streams) if !streams.is_empty() => streams.swap_remove(0),
        Value::Map(mut streams) if !streams.is_empty() => {
            return stream_entries(streams.swap_remove(0).1);
        }
        _ => return Ok(Vec::new()),
    };
    match streams {
        Value::Array(parts) => stream_entries(parts.into_iter().nth(1).unwrap_or(Value::Nil)),
        _ => Ok(Vec::new()),
    }
}

pub(super) fn stream_entries(value: Value) -> RedisResult<Vec<RawEntry>> {
    let Value::Array(entries) = value else {
        return Ok(Vec::new());
    };
    let mut read = Vec::with_capacity(entries.len());
    for entry in entries {
        let Value::Array(parts) = entry else { continue };
        let mut parts = parts.into_iter();
        let id = parts.next().map(String::from_redis_value).transpose()?;
        let fields: Vec<Vec<u8>> = match parts.next() {
            Some(fields @ Value::Array(_)) => Vec::from_redis_value(fields)?,
            // It was deleted after a consumer had taken it.
            Some(_) | None => Vec::new(),
        };
        let mut pairs = Vec::with_capacity(fields.len());
        let mut fields = fields.into_iter();
        while let (Some(field), Some(value)) = (fields.next(), fields.next()) {
            pairs.push((field, value));
        }
        if let Some(id) = id {
            read.push((id, pairs));
        }
    }
    Ok(read)
}

/// The last entry that there ever was, from `XINFO STREAM`.
pub(super) fn last_id(info: &Value) -> StreamId {
    let mut pairs = info.as_map_iter().into_iter().flatten();
    let found = pairs
        .find(|(name, _)| matches!(name, Value::BulkString(name) if name == b"last-generated-id"));
    match found {
        Some((_, Value::BulkString(id))) => std::str::from_utf8(id)
            .ok()
            .and_then(StreamId::parse_id)
            .unwrap_or_default(),
        Some(_) | None => StreamId::default(),
    }
}

/// Reads an entry of the feed: `p`, the entry before it, then what it tells, piece by piece. One that says nothing that we know
/// is a link of the chain still, if it names the entry before it; one that says what we cannot read is not.
pub(super) fn parse_post((id, fields): RawEntry) -> Option<FeedEntry> {
    let id = StreamId::parse_id(&id)?;
    let (mut before, mut readable) = (None, true);
    let mut news = Vec::with_capacity(fields.len().saturating_sub(1));
    for (field, value) in &fields {
        let value = std::str::from_utf8(value).ok();
        let mut told = |read: Option<()>| readable &= read.is_some();
        match field.as_slice() {
            b"p" => before = value.and_then(StreamId::parse_id),
            b"c" => told(value.and_then(|text| parse_changed(text, &mut news))),
            b"d" => told(value.and_then(|user| parse_dropped(user, false, &mut news))),
            b"x" => told(value.and_then(|user| parse_dropped(user, true, &mut news))),
            _ => {}
        }
    }
    if !readable {
        (before, news) = (None, Vec::new());
    }
    Some(FeedEntry { id, before, news })
}

/// A user, then changes with a comma between, as `apply.lua` tells them. All changes of one user become one piece of news.
fn parse_changed(text: &str, news: &mut Vec<FeedNews>) -> Option<()> {
    let (user, text) = text.split_once(' ')?;
    let user: UserId = user.parse().ok()?;
    let read: Option<Vec<_>> = text.split(',').map(parse_change).collect();
    let read = read?;
    let same = news.iter_mut().rev().find_map(|piece| match piece {
        FeedNews::Changed { user: of, changes } if *of == user => Some(changes),
        FeedNews::Changed { .. } | FeedNews::Dropped { .. } => None,
    });
    match same {
        Some(changes) => changes.extend(read),
        None => news.push(FeedNews::Changed {
            user,
            changes: read,
        }),
    }
    Some(())
}

/// Asset or `*`, seq or nothing, rest of the balance or nothing.
fn parse_change(text: &str) -> Option<BalanceChange> {
    let (asset, text) = text.split_once(' ')?;
    let (seq, rest) = text.split_once(' ')?;
    if asset == "*" {
        return Some(BalanceChange::Unknown { asset: None });
    }
    let named = asset.parse().ok()?;
    if seq.is_empty() {
        return Some(BalanceChange::Unknown { asset: Some(named) });
    }
    Some(BalanceChange::Moved {
        asset: named,
        seq: entry::seq_of(seq.as_bytes()).ok()?,
        balance: if rest.is_empty() {
            None
        } else {
            Some(entry::parse_balance(asset.as_bytes(), text.as_bytes()).ok()?)
        },
    })
}

fn parse_dropped(user: &str, floors: bool, news: &mut Vec<FeedNews>) -> Option<()> {
    let user = user.parse().ok()?;
    news.push(FeedNews::Dropped { user, floors });
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post_of(fields: &[(&str, &str)]) -> FeedEntry {
        let fields = fields
            .iter()
            .map(|(field, value)| (field.as_bytes().to_vec(), value.as_bytes().to_vec()));
        parse_post(("5-1".to_owned(), fields.collect())).unwrap()
    }

    #[test]
    fn the_changes_of_one_user_are_one_piece_of_news() {
        let apart = post_of(&[
            ("p", "5-0"),
            ("c", "7 1 6 60 0 - 5"),
            ("c", "8 1 2 "),
            ("c", "7 2 9 "),
            ("c", "7 *  "),
        ]);
        let joined = post_of(&[
            ("p", "5-0"),
            ("c", "7 1 6 60 0 - 5,2 9 ,*  "),
            ("c", "8 1 2 "),
        ]);
        assert_eq!(apart, joined);
        let sizes: Vec<_> = apart
            .news
            .iter()
            .map(|piece| match piece {
                FeedNews::Changed { user, changes } => (user.get(), changes.len()),
                FeedNews::Dropped { user, .. } => (user.get(), 0),
            })
            .collect();
        assert_eq!(sizes, [(7, 3), (8, 1)]);
    }

    #[test]
    fn an_entry_of_which_a_part_cannot_be_read_is_a_break_of_the_chain() {
        for bad in ["7 1 6 60 0 - 5,", "7 1 6 60 0 - 5,x 1 ", "7", "0 1 1 "] {
            let read = post_of(&[("p", "5-0"), ("c", "7 2 9 "), ("c", bad)]);
            assert_eq!((read.before, read.news), (None, Vec::new()), "{bad}");
        }
    }
}
