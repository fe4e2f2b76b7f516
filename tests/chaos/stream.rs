//! Events by the settlement stream.

use std::{sync::Arc, time::Duration};

use serde_json::Value;

use crate::{
    clients::{LOOK, PATIENCE},
    pace::pace,
    world::World,
};

/// How long an event in the stream may wait before it is sent again.
const RESEND: Duration = Duration::from_secs(3);

/// Until an entry of the stream was delivered and acknowledged; sent again where Redis lost it.
pub async fn by_stream(world: &Arc<World>, body: &Value, as_json: bool) {
    let mut fields = Vec::new();
    if as_json {
        fields.push(("event".to_owned(), body.to_string()));
    } else {
        for (field, value) in body.as_object().unwrap() {
            fields.push((field.clone(), value.to_string()));
        }
    }
    let end = world.now() + PATIENCE;
    loop {
        let (url, entry) = (world.redis_url.clone(), fields.clone());
        let sent = tokio::task::spawn_blocking(move || add(&url, &entry))
            .await
            .unwrap();
        let resend = world.now() + RESEND;
        if let Ok(id) = sent {
            while world.now() < resend {
                let (url, id) = (world.redis_url.clone(), id.clone());
                let looked = tokio::task::spawn_blocking(move || taken(&url, &id))
                    .await
                    .unwrap();
                match looked {
                    Ok(true) => return,
                    Ok(false) => {}
                    Err(_) => world.failed("stream"),
                }
                pace(LOOK).await;
            }
        } else {
            world.failed("stream");
            pace(LOOK).await;
        }
        assert!(world.now() < end, "no event is taken");
    }
}

fn connection(url: &str) -> redis::RedisResult<redis::Connection> {
    let patience = Duration::from_millis(500);
    let connection = redis::Client::open(url)?.get_connection_with_timeout(patience)?;
    connection.set_read_timeout(Some(patience))?;
    Ok(connection)
}

fn add(url: &str, fields: &[(String, String)]) -> redis::RedisResult<String> {
    redis::cmd("XADD")
        .arg("settlement:events")
        .arg("*")
        .arg(fields)
        .query(&mut connection(url)?)
}

/// It is there, was delivered, and is not pending.
const TAKEN: &str = r"
if #redis.call('XRANGE', 'settlement:events', ARGV[1], ARGV[1]) == 0 then return 0 end
local function parts(id) local a, b = string.match(id, '(%d+)-(%d+)'); return tonumber(a), tonumber(b) end
for _, group in ipairs(redis.call('XINFO', 'GROUPS', 'settlement:events')) do
  local ms, n = parts(ARGV[1])
  local last_ms, last_n = parts(group[8])
  if group[2] == 'balance-cache' and (ms < last_ms or (ms == last_ms and n <= last_n)) then
    return #redis.call('XPENDING', 'settlement:events', 'balance-cache', ARGV[1], ARGV[1], 1) == 0 and 1 or 0
  end
end
return 0";

fn taken(url: &str, id: &str) -> redis::RedisResult<bool> {
    let told: i64 = redis::cmd("EVAL")
        .arg(TAKEN)
        .arg(0)
        .arg(id)
        .query(&mut connection(url)?)?;
    Ok(told == 1)
}
