//! What a Redis does that works and hurts: known when it was asked, told when a session opens.

/// What `INFO` of the masters and `CONFIG GET appendfsync` say against it. The last is refused by many who run Redis for others: then
/// nothing is said of it.
pub(super) fn of(infos: &[String], appendfsync: Option<&str>) -> Vec<String> {
    let mut said = Vec::new();
    let any = |name: &str, bad: fn(&str) -> bool| {
        let mut values = infos.iter().filter_map(|info| field(info, name));
        values.find(|value| bad(value))
    };
    if let Some(policy) = any("maxmemory_policy", |policy| policy != "noeviction") {
        said.push(format!(
            "maxmemory-policy is {policy}: it may drop floors and snapshots before their time, and whoever finds nothing asks the ledger; set noeviction"
        ));
    } else if let Some(bytes) = any("maxmemory", |bytes| bytes != "0") {
        said.push(format!(
            "maxmemory is {bytes} bytes with noeviction: when it is full, settlements are answered 503; watch used_memory"
        ));
    }
    if any("aof_enabled", |on| on == "0").is_some() {
        said.push(
            "appendonly is no: a restart of Redis forgets what was notified ahead of its ledger row; set appendonly yes".to_owned(),
        );
    } else if appendfsync == Some("no") {
        said.push(
            "appendfsync is no: a crash of Redis' machine forgets what was notified ahead of its ledger row; set everysec or always".to_owned(),
        );
    }
    said
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = info.lines();
    lines.find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(policy: &str, maxmemory: &str, aof: &str, appendfsync: Option<&str>) -> Vec<String> {
        let info = |policy: &str| {
            format!(
                "# Memory\r\nmaxmemory:{maxmemory}\r\nmaxmemory_policy:{policy}\r\n# Persistence\r\naof_enabled:{aof}\r\n"
            )
        };
        let infos = [info("noeviction"), info(policy)];
        let said = of(&infos, appendfsync);
        let keys = said.iter().map(|line| line.split(' ').next().unwrap());
        keys.map(str::to_owned).collect()
    }

    #[test]
    fn a_redis_that_keeps_everything_needs_no_advice() {
        assert_eq!(told("noeviction", "0", "1", Some("everysec")), [""; 0]);
        assert_eq!(told("noeviction", "0", "1", None), [""; 0]);
    }

    #[test]
    fn each_way_to_lose_something_is_told() {
        for policy in ["allkeys-lru", "volatile-ttl"] {
            assert_eq!(told(policy, "9", "1", None), ["maxmemory-policy"]);
        }
        assert_eq!(told("noeviction", "9", "1", None), ["maxmemory"]);
        assert_eq!(told("noeviction", "0", "0", Some("no")), ["appendonly"]);
        assert_eq!(told("noeviction", "0", "1", Some("no")), ["appendfsync"]);
    }
}
