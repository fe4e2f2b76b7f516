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

/// Reads an entry of the feed. One that is not ours still is a link of the chain, if it says which it follows.
pub(super) fn post((id, fields): RawEntry) -> Option<Post> {
    let field = |name: &[u8]| {
        let found = fields.iter().find(|(field, _)| field == name);
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    };
    let id = StreamId::parse(&id)?;
    let before = field(b"p").and_then(StreamId::parse).unwrap_or_default();
    let news = || -> Option<News> {
        let user: UserId = field(b"u")?.parse().ok()?;
        match field(b"k") {
            Some("drop") => {
                return Some(News::Dropped {
                    user,
                    floors: false,
                });
            }
            Some("forget") => return Some(News::Dropped { user, floors: true }),
            Some(_) | None => {}
        }
        let asset = field(b"a")?;
        match (asset, field(b"s")?) {
            ("*", _) => Some(News::Reread { user, asset: None }),
            (asset, "") => Some(News::Reread {
                user,
                asset: Some(asset.parse().ok()?),
            }),
            (asset, seq) => {
                let rest = field(b"r").unwrap_or_default();
                let balance = if rest.is_empty() {
                    None
                } else {
                    Some(entry::balance(asset, &format!("{seq} {rest}")).ok()?)
                };
                Some(News::Changed {
                    user,
                    asset: asset.parse().ok()?,
                    seq: entry::seq_of(seq).ok()?,
                    balance,
                })
            }
        }
    };
    Some(Post {
        id,
        before,
        news: news(),
    })
}
