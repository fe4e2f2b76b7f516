//! Entries of streams, from the replies to our types.

use redis::{FromRedisValue, RedisResult, Value};

use super::{News, Post, StreamId};
use crate::{domain::UserId, tiers::redis::entry};

/// An entry with its place, its fields and their values.
pub(super) type RawEntry = (String, Vec<(Vec<u8>, Vec<u8>)>);

/// The entries of the one stream that was read.
pub(super) fn entries(reply: Value) -> RedisResult<Vec<RawEntry>> {
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
            Some(_) | None => continue,
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
            .and_then(StreamId::parse)
            .unwrap_or_default(),
        Some(_) | None => StreamId::default(),
    }
}

/// Reads an entry of the feed: `p`, the entry before it, then what it tells, piece by piece. One that says nothing that we know
/// is a link of the chain still, if it names the entry before it; one that says what we cannot read is not.
pub(super) fn post((id, fields): RawEntry) -> Option<Post> {
    let id = StreamId::parse(&id)?;
    let mut before = None;
    let mut news = Vec::with_capacity(fields.len().saturating_sub(1));
    for (field, value) in &fields {
        let value = std::str::from_utf8(value).ok();
        match field.as_slice() {
            b"p" => before = value.and_then(StreamId::parse),
            b"c" => news.push(value.and_then(changed)),
            b"d" => news.push(value.and_then(|user| dropped(user, false))),
            b"x" => news.push(value.and_then(|user| dropped(user, true))),
            _ => {}
        }
    }
    let read: Option<Vec<_>> = news.into_iter().collect();
    Some(Post {
        id,
        before: before.filter(|_| read.is_some()),
        news: read.unwrap_or_default(),
    })
}

/// User, asset or `*`, seq or nothing, rest of the balance or nothing: as `apply.lua` tells it.
fn changed(text: &str) -> Option<News> {
    let (user, text) = text.split_once(' ')?;
    let (asset, text) = text.split_once(' ')?;
    let (seq, rest) = text.split_once(' ')?;
    let user: UserId = user.parse().ok()?;
    if asset == "*" {
        return Some(News::Reread { user, asset: None });
    }
    let named = asset.parse().ok()?;
    if seq.is_empty() {
        return Some(News::Reread {
            user,
            asset: Some(named),
        });
    }
    Some(News::Changed {
        user,
        asset: named,
        seq: entry::seq_of(seq.as_bytes()).ok()?,
        balance: if rest.is_empty() {
            None
        } else {
            Some(entry::balance(asset.as_bytes(), text.as_bytes()).ok()?)
        },
    })
}

fn dropped(user: &str, floors: bool) -> Option<News> {
    let user = user.parse().ok()?;
    Some(News::Dropped { user, floors })
}
