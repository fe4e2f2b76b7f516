//! A server's own description: the lines of `INFO` that matter here, and whether its data went on since another look.

/// The replication id of a server that never was a replica.
const NEVER: &str = "0000000000000000000000000000000000000000";

/// A Redis, or what speaks like one.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a line of INFO, and none excludes another"
)]
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Server {
    /// `redis_version`: the Redis that it is compatible with.
    pub version: String,
    /// Its own version: `valkey_version` of a Valkey, else `redis_version`.
    pub own_version: String,
    /// `valkey`, `redis` or whatever it calls itself.
    pub product: String,
    /// `run_id`: one life of the process.
    pub run_id: String,
    /// `maxmemory-policy`
    pub policy: String,
    /// `maxmemory` in bytes; 0: no limit.
    pub maxmemory: u64,
    /// Bytes in use.
    pub used: u64,
    /// Every write goes to a file.
    pub appendonly: bool,
    /// It says that it is the master of its data.
    pub master: bool,
    /// It says whether it is a master or a replica.
    role_is_told: bool,
    /// The link of a replica to its master: `up` or `down`; empty for a master.
    pub link: String,
    /// Replicas that are connected.
    pub replicas: u64,
    /// `min-replicas-to-write` and `min-replicas-max-lag` are set.
    pub fenced: bool,
    /// `master_replid`: the history of its data.
    pub history: String,
    /// It was a replica before: its history began with another master's data.
    pub was_replica: bool,
    /// How long it has been up, in seconds.
    pub uptime: u64,
    /// Its clock in ms since 1970; none where it does not say (before 6.2).
    pub clock_ms: Option<i64>,
}

impl Server {
    /// Reads the text of `INFO`, or of a section of it.
    pub(super) fn parse_info(info: &str) -> Self {
        let field = |name: &str| {
            let mut lines = info.lines();
            let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            found.map(str::trim)
        };
        let text = |name: &str| field(name).unwrap_or_default().to_owned();
        let number = |name: &str| text(name).parse().unwrap_or(0);
        let micros = field("server_time_usec").and_then(|text| text.parse::<i64>().ok());
        Self {
            version: text("redis_version"),
            own_version: field("valkey_version")
                .unwrap_or_else(|| field("redis_version").unwrap_or_default())
                .to_owned(),
            product: field("server_name").unwrap_or("redis").to_owned(),
            run_id: text("run_id"),
            policy: text("maxmemory_policy"),
            maxmemory: number("maxmemory"),
            used: number("used_memory"),
            appendonly: field("aof_enabled") == Some("1"),
            master: field("role") == Some("master"),
            role_is_told: field("role").is_some(),
            link: text("master_link_status"),
            replicas: number("connected_slaves"),
            fenced: field("min_slaves_good_slaves").is_some(),
            history: text("master_replid"),
            was_replica: field("master_replid2").is_some_and(|id| id != NEVER),
            uptime: number("uptime_in_seconds"),
            clock_ms: micros.and_then(|micros| micros.checked_div(1000)),
        }
    }

    /// Major and minor number of the version; 0 where they cannot be read.
    pub fn release_numbers(&self) -> (u32, u32) {
        let mut numbers = self
            .version
            .split('.')
            .map(|part| part.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }

    /// The line of `INFO` that is missing and without which nothing can be proven of it.
    pub fn missing_line(&self) -> Option<&'static str> {
        if self.run_id.is_empty() {
            Some("run_id")
        } else if !self.role_is_told {
            Some("role")
        } else if self.history.is_empty() {
            Some("master_replid")
        } else {
            None
        }
    }

    /// Memory in use, in thousandths of the limit; 0 without a limit.
    pub fn memory_permille(&self) -> u64 {
        let part = self.used.saturating_mul(1_000);
        part.checked_div(self.maxmemory).unwrap_or(0)
    }

    /// It may drop keys that have not ended.
    pub fn may_evict(&self) -> bool {
        self.policy != "noeviction"
    }

    /// Its data went on from the history of this id, and it is the master of them.
    ///
    /// A master takes a new id too when its first replica comes, or its last one has been gone for long. Only a server that was
    /// a replica in between has taken over another's data, and then says so (`master_replid2`).
    pub(super) fn continues_history(&self, history: &str) -> bool {
        self.master && (self.history == history || !self.was_replica)
    }
}

/// Run and replication ids of these servers, as `balance:epoch` holds them.
pub(super) fn fingerprint_of(servers: &[Server]) -> String {
    let ids = servers
        .iter()
        .map(|server| format!("{}/{}", server.run_id, server.history));
    let mut ids: Vec<_> = ids.collect();
    ids.sort();
    ids.join(" ")
}

/// Whether these servers are those of the fingerprint, with the same data.
pub(super) fn same_servers(fingerprint: &str, servers: &[Server]) -> bool {
    let known: Vec<_> = fingerprint
        .split(' ')
        .filter_map(|id| id.split_once('/'))
        .collect();
    let is_known = |server: &Server| {
        let mut known = known.iter();
        known.any(|(run, history)| *run == server.run_id && server.continues_history(history))
    };
    known.len() == servers.len() && servers.iter().all(is_known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_that_matter_are_read() {
        let info = "# Server\r\nredis_version:7.0.15\r\nuptime_in_seconds:5\r\nused_memory:1000\r\nused_memory_rss:9\r\n\
                    maxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\naof_enabled:1\r\nrole:master\r\nserver_time_usec:1795907189085599\r\n\
                    connected_slaves:2\r\nmin_slaves_good_slaves:2\r\n";
        let server = Server::parse_info(info);
        assert_eq!(server.release_numbers(), (7, 0));
        assert!(server.may_evict() && server.appendonly && server.master && server.fenced);
        assert_eq!(
            (server.used, server.uptime, server.product.as_str()),
            (1000, 5, "redis")
        );
        assert_eq!(
            (server.clock_ms, server.replicas),
            (Some(1_795_907_189_085), 2)
        );
    }

    #[test]
    fn a_server_that_does_not_say_who_it_is_is_told_by_the_missing_line() {
        let lines = ["run_id:a\r\n", "role:master\r\n", "master_replid:b\r\n"];
        assert_eq!(Server::parse_info(&lines.concat()).missing_line(), None);
        for (left_out, name) in ["run_id", "role", "master_replid"].into_iter().enumerate() {
            let mut some = lines.to_vec();
            some.remove(left_out);
            let server = Server::parse_info(&some.concat());
            assert_eq!(server.missing_line(), Some(name));
        }
    }

    fn test_server(run: &str, role: &str, id: &str, id2: &str) -> Server {
        Server::parse_info(&format!(
            "run_id:{run}\r\nrole:{role}\r\nmaster_replid:{id}\r\nmaster_replid2:{id2}\r\n"
        ))
    }

    #[test]
    fn a_first_replica_changes_nothing_and_a_change_of_history_does() {
        let known = fingerprint_of(&[test_server("r", "master", "a", NEVER)]);
        let goes_on = |run: &str, role: &str, id: &str, id2: &str| {
            same_servers(&known, &[test_server(run, role, id, id2)])
        };
        assert!(goes_on("r", "master", "a", NEVER));
        assert!(
            goes_on("r", "master", "b", NEVER),
            "the first replica or redis-cli --rdb came"
        );
        assert!(goes_on("r", "master", "a", "x"), "promoted long ago");
        assert!(!goes_on("r", "master", "b", "a"), "it was a replica since");
        assert!(!goes_on("r", "slave", "a", NEVER), "it is a replica");
        assert!(!goes_on("s", "master", "a", NEVER), "another process");
        assert!(!same_servers(&known, &[]));
    }

    #[test]
    fn each_master_of_a_cluster_has_to_go_on() {
        let (one, two) = (
            test_server("1", "master", "a", NEVER),
            test_server("2", "master", "b", NEVER),
        );
        let known = fingerprint_of(&[two.clone(), one.clone()]);
        assert_eq!(known, "1/a 2/b");
        assert!(same_servers(&known, &[one.clone(), two.clone()]));
        assert!(!same_servers(&known, std::slice::from_ref(&one)));
        let demoted = test_server("2", "slave", "a", NEVER);
        assert!(!same_servers(&known, &[one, demoted]));
    }
}
