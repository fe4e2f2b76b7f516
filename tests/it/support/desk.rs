//! One user's entry in a real Redis, and the Lua scripts that work on it.

use std::collections::HashMap;

use balance_cache::cache::redis::entry::VERSION;
use redis::{Connection, FromRedisValue, RedisResult, Script};

use super::redis::Redis;

pub const KEY: &str = "balance:user:7";
pub const FEED: &str = "balance:invalidations";
pub const MINUTE: i64 = 60_000;

/// Whether a script was refused for a right, in the words of Redis or of Valkey.
pub fn is_refused_right(words: &str) -> bool {
    words.contains("can't run this command") || words.contains("has no permissions to run")
}

/// Texts of a hash.
pub type Fields = HashMap<String, String>;

/// A file of the scripts.
macro_rules! script_file {
    ($name:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/src/cache/redis/scripts/",
            $name,
            ".lua"
        ))
    };
}

/// The code of a script.
macro_rules! script {
    ($name:literal) => {
        concat!(
            $crate::support::desk::script_file!("entry"),
            $crate::support::desk::script_file!("append"),
            $crate::support::desk::script_file!($name)
        )
    };
}

pub(crate) use {script, script_file};

/// A Redis with one user's entry.
pub struct Desk {
    pub redis: Redis,
    connection: Connection,
}

pub fn seq(number: i64) -> String {
    number.to_string()
}

impl Desk {
    pub fn new() -> Self {
        let redis = Redis::start();
        let connection = redis.connection();
        Self { redis, connection }
    }

    pub fn try_run<T: FromRedisValue>(
        &mut self,
        code: &str,
        keys: &[&str],
        args: &[&str],
    ) -> RedisResult<T> {
        let script = Script::new(code);
        let mut call = script.prepare_invoke();
        call.key(keys);
        call.arg(args);
        call.invoke(&mut self.connection)
    }

    #[track_caller]
    pub fn run<T: FromRedisValue>(&mut self, code: &str, keys: &[&str], args: &[&str]) -> T {
        self.try_run(code, keys, args).unwrap()
    }

    pub fn lease_of(&mut self, epoch: &str, token: &str, ms: i64, force: &str) -> (String, Fields) {
        let args = [VERSION, epoch, token, &ms.to_string(), force];
        let (what, now, fields): (String, i64, Fields) = self.run(script!("lease"), &[KEY], &args);
        assert!(now > 1_700_000_000_000, "ms of Redis' clock: {now}");
        (what, fields)
    }

    pub fn lease(&mut self, token: &str) -> String {
        self.lease_of("e1", token, MINUTE, "0").0
    }

    /// Balances are asset, seq and amount.
    pub fn fill_of(
        &mut self,
        epoch: &str,
        token: &str,
        ttl: i64,
        ledger: &str,
        balances: &[(i32, i64, i64)],
    ) -> String {
        let mut args = vec![
            VERSION.to_owned(),
            epoch.to_owned(),
            token.to_owned(),
            ttl.to_string(),
            ledger.to_owned(),
        ];
        for (asset, number, avail) in balances {
            args.extend([asset.to_string(), seq(*number), format!("{avail} 0 - 5")]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (what, _): (String, i64) = self.run(script!("fill"), &[KEY], &args);
        what
    }

    pub fn fill(&mut self, token: &str, balances: &[(i32, i64, i64)]) -> String {
        self.fill_of("e1", token, MINUTE, "0", balances)
    }

    /// Leased and filled.
    pub fn filled(&mut self, balances: &[(i32, i64, i64)]) {
        self.lease_of("e1", "t", MINUTE, "1");
        assert_eq!(self.fill("t", balances), "ok");
    }

    /// Whether nothing was news, and whether it is still to be told.
    pub fn apply_in(
        &mut self,
        keys: &[&str],
        epoch: &str,
        asset: &str,
        seq: &str,
        rest: &str,
        observed: &str,
    ) -> (i64, i64) {
        let mode = match (observed, keys.len()) {
            ("1", _) => "observed",
            (_, 1) => "apart",
            (_, _) => "feed",
        };
        let args = [VERSION, epoch, "600000", mode, "7", "1", asset, seq, rest];
        let (done,): (i64,) = self.run(script!("apply"), keys, &args);
        (done & 1, done >> 1)
    }

    /// Changes of one user in one script: asset, seq, and an amount where there is one. Returns a number for each.
    pub fn apply_all(&mut self, changes: &[(i32, i64, Option<i64>)]) -> RedisResult<Vec<i64>> {
        let mut args: Vec<String> = [VERSION, "e1", "600000", "feed", "7"]
            .map(str::to_owned)
            .to_vec();
        args.push(changes.len().to_string());
        for (asset, number, avail) in changes {
            let rest = avail.map_or(String::new(), |avail| format!("{avail} 0 - 5"));
            args.extend([asset.to_string(), seq(*number), rest]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.try_run(script!("apply"), &[FEED, KEY], &args)
    }

    /// With values where there is an amount.
    pub fn apply(&mut self, asset: &str, number: i64, avail: Option<i64>) -> (i64, i64) {
        let rest = avail.map_or(String::new(), |avail| format!("{avail} 0 - 5"));
        let number = if number == 0 {
            String::new()
        } else {
            seq(number)
        };
        self.apply_in(&[FEED, KEY], "e1", asset, &number, &rest, "0")
    }

    pub fn fields(&self) -> Fields {
        self.redis.ask(&["HGETALL", KEY])
    }

    /// Epoch, end and whether the balances are all, as the header has them.
    pub fn header(&self) -> Option<(String, i64, bool)> {
        header(&self.fields())
    }

    /// The balances that are held are all there are.
    pub fn whole(&self) -> bool {
        self.header().is_some_and(|(_, _, whole)| whole)
    }

    pub fn has(&self, field: &str) -> bool {
        self.redis.ask(&["HEXISTS", KEY, field])
    }

    pub fn ttl(&self) -> i64 {
        self.redis.ask(&["PTTL", KEY])
    }

    pub fn news(&self) -> u64 {
        self.redis.ask(&["XLEN", FEED])
    }

    /// What other programs may have put there.
    pub fn foreign(&self, kind: usize) {
        let () = self.redis.ask(&["DEL", KEY]);
        let words: &[&str] = match kind {
            0 => &["SET", KEY, "{\"BTC\":\"9\"}"],
            1 => &["RPUSH", KEY, "a", "b"],
            2 => &["HSET", KEY, "BTC", "9", "lease", "t 99999999999999"],
            3 => &["HSET", KEY, "v", "0 e1 99999999999999 1", "b:1", "5"],
            // The layout before this one.
            _ => &[
                "HSET",
                KEY,
                "v",
                "1",
                "epoch",
                "e1",
                "whole",
                "1",
                "until",
                "99999999999999",
                "b:1",
                "5",
            ],
        };
        let _: redis::Value = self.redis.ask(words);
    }
}

pub const FOREIGN: usize = 5;

/// What Redis holds of this user is whole.
pub fn holds_whole(redis: &Redis, user: u64) -> bool {
    let fields = redis.ask(&["HGETALL", &format!("balance:user:{user}")]);
    header(&fields).is_some_and(|(_, _, whole)| whole)
}

/// What Redis holds of this user is not all there is any more.
pub fn make_partial(redis: &Redis, user: u64) {
    let key = format!("balance:user:{user}");
    let (epoch, until, _) = header(&redis.ask(&["HGETALL", &key])).unwrap();
    let of_parts = format!("{VERSION} {epoch} {until} 0");
    redis.ask::<i64>(&["HSET", &key, "v", &of_parts]);
}

/// Epoch, end and whether the balances are all, as a header has them; none where there is none of ours.
pub fn header(fields: &Fields) -> Option<(String, i64, bool)> {
    let words: Vec<_> = fields.get("v")?.split(' ').collect();
    let [VERSION, epoch, until, whole] = words[..] else {
        return None;
    };
    Some((epoch.to_owned(), until.parse().unwrap(), whole == "1"))
}
