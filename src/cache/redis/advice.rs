//! Findings against a Redis that works and could hurt: logged when a session opens or they change, and shown by `doctor`.

use super::server::Server;
use crate::diagnosis::{Code, Finding, FindingPart};

/// The findings of `INFO` of the masters and of `CONFIG GET appendfsync`. Where the last is refused, nothing is said of it.
pub(super) fn findings_of(servers: &[Server], appendfsync: Option<&str>, at: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    let any = |bad: fn(&Server) -> bool| servers.iter().find(|server| bad(server));
    let finding = |code| Finding::new(FindingPart::Redis, code, at);
    if let Some(server) = any(Server::may_evict) {
        found.push(finding(Code::RedisEvicts).with_detail(server.policy.as_str()));
    } else if let Some(server) = any(|server| server.maxmemory > 0) {
        found.push(finding(Code::RedisLimited).with_detail(server.maxmemory.to_string()));
    }
    if any(|server| !server.appendonly).is_some() {
        found.push(finding(Code::RedisForgetful));
    } else if appendfsync == Some("no") {
        found.push(finding(Code::RedisUnsynced));
    }
    if let Some(server) = any(|server| server.replicas > 0 && !server.fenced) {
        found.push(finding(Code::RedisUnfenced).with_detail(server.replicas.to_string()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice_codes(
        policy: &str,
        maxmemory: &str,
        aof: &str,
        replicas: &str,
        appendfsync: Option<&str>,
    ) -> Vec<Code> {
        let server = |policy: &str| {
            Server::parse_info(&format!(
                "# Memory\r\nmaxmemory:{maxmemory}\r\nmaxmemory_policy:{policy}\r\n# Persistence\r\naof_enabled:{aof}\r\n{replicas}"
            ))
        };
        let servers = [server("noeviction"), server(policy)];
        let found = findings_of(&servers, appendfsync, "h:1");
        found.iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn a_redis_that_keeps_everything_needs_no_advice() {
        assert_eq!(
            advice_codes("noeviction", "0", "1", "", Some("everysec")),
            []
        );
        assert_eq!(advice_codes("noeviction", "0", "1", "", None), []);
        let fenced = "connected_slaves:1\r\nmin_slaves_good_slaves:1\r\n";
        assert_eq!(advice_codes("noeviction", "0", "1", fenced, None), []);
    }

    #[test]
    fn each_way_to_lose_something_is_told() {
        for policy in ["allkeys-lru", "volatile-ttl"] {
            assert_eq!(
                advice_codes(policy, "9", "1", "", None),
                [Code::RedisEvicts]
            );
        }
        assert_eq!(
            advice_codes("noeviction", "9", "1", "", None),
            [Code::RedisLimited]
        );
        assert_eq!(
            advice_codes("noeviction", "0", "0", "", Some("no")),
            [Code::RedisForgetful]
        );
        assert_eq!(
            advice_codes("noeviction", "0", "1", "", Some("no")),
            [Code::RedisUnsynced]
        );
        let replicas = "connected_slaves:1\r\n";
        assert_eq!(
            advice_codes("noeviction", "0", "1", replicas, None),
            [Code::RedisUnfenced]
        );
    }
}
