//! Redis, and the names of its keys.

use super::{SettingsCheck, is_named, is_plain_name};
use crate::config::{RedisMode, redis_url};

impl SettingsCheck<'_> {
    pub(super) fn check_redis(&mut self) {
        let redis = &self.settings.redis;
        let nodes: Vec<_> = redis.node_urls().collect();
        let tls = nodes.iter().filter(|node| redis_url::is_tls(node)).count();
        // Before the address is judged: it needs the file, whatever else is wrong with it.
        self.require_that(
            &["redis.ca_file", "redis.url"],
            tls == 0 || is_named(&redis.ca_file),
            "rediss:// needs it: no authorities are built in",
        );
        let keys = ["redis.cert_file", "redis.key_file"];
        self.require_both_files(keys, [&redis.cert_file, &redis.key_file]);
        self.require_that(
            &["redis.cert_file", "redis.url"],
            !is_named(&redis.cert_file) || nodes.is_empty() || tls > 0,
            "a client's certificate needs rediss:// or valkeys://",
        );
        self.check_credentials(&nodes);
        self.check_addresses(&nodes);
        let blank = !redis.url.is_empty() && (nodes.is_empty() || redis.url.trim() != redis.url);
        self.require_that(
            &["redis.url"],
            !blank,
            "must not begin or end with blanks, or be blank",
        );
        self.require_that(
            &["redis.url"],
            tls == 0 || tls == nodes.len(),
            "all nodes need rediss:// or valkeys://, or none",
        );
        self.require_that(
            &["redis.namespace"],
            is_plain_name(&redis.namespace, 0, 64),
            "may have up to 64 ASCII letters, digits, '-', '_' and '.'",
        );
    }

    /// User and password stand in one place, and so does each sentinel's.
    fn check_credentials(&mut self, nodes: &[&str]) {
        let redis = &self.settings.redis;
        self.require_real_password("redis.password", &redis.password);
        self.require_real_password("redis.sentinel_password", &redis.sentinel_password);
        for (key, other, name, password) in [
            (
                "redis.username",
                "redis.password",
                &redis.username,
                &redis.password,
            ),
            (
                "redis.sentinel_username",
                "redis.sentinel_password",
                &redis.sentinel_username,
                &redis.sentinel_password,
            ),
        ] {
            let is_whole = name.is_empty() || !password.is_empty();
            self.require_that(&[key, other], is_whole, "needs a password beside it");
        }
        let in_both =
            !redis.password.is_empty() && nodes.iter().any(|node| redis_url::has_user(node));
        self.require_that(
            &["redis.password", "redis.url"],
            !in_both,
            "user and password stand in redis.url too: leave one of them out",
        );
        let is_named = redis.mode != RedisMode::Sentinel || !redis.sentinel_master.is_empty();
        self.require_that(
            &["redis.sentinel_master", "redis.mode"],
            is_named,
            "must be the master's name, as in SENTINEL MASTERS",
        );
    }

    /// The faults of the addresses one by one, and of the list. Of a mode that is not known: the faults in every one.
    fn check_addresses(&mut self, nodes: &[&str]) {
        let mode = self.settings.redis.mode;
        let fault = |node: &&str| redis_url::find_fault(node, mode);
        let in_both = |node: &&str| {
            let _ = redis_url::find_fault(node, RedisMode::Cluster)?;
            let _ = redis_url::find_fault(node, RedisMode::Sentinel)?;
            redis_url::find_fault(node, RedisMode::Single)
        };
        let mode_is_known = !self.is_bad("redis.mode");
        // One address may have another's fault, and a key is told about once.
        let mut faults: Vec<_> = if mode_is_known {
            nodes.iter().filter_map(fault).collect()
        } else {
            nodes.iter().filter_map(in_both).collect()
        };
        if mode_is_known && mode == RedisMode::Single && nodes.len() > 1 {
            faults.push("a list of nodes needs redis.mode = \"cluster\" or \"sentinel\"");
        }
        // A master that sentinels name is dialled with those of the sentinel that answered.
        if redis_url::are_unlike(nodes) {
            faults.push(
                "user, password, database and protocol must be the same in every address; user and password may stand in \
                 redis.username and redis.password instead",
            );
        }
        faults.sort_unstable();
        faults.dedup();
        self.require_that(&["redis.url"], faults.is_empty(), &faults.join("; "));
    }

    pub(super) fn check_settlement(&mut self) {
        let stream = &self.settings.settlement.stream;
        let readable = (1..=512).contains(&stream.len()) && !stream.contains(char::is_control);
        self.require_that(
            &["settlement.stream"],
            readable,
            "must be the name of a stream: 1 to 512 bytes, no control characters",
        );
        let namespace = &self.settings.redis.namespace;
        let prefix = if namespace.is_empty() {
            String::new()
        } else {
            format!("{namespace}:")
        };
        let own = stream
            .strip_prefix(&prefix)
            .is_some_and(|rest| rest.starts_with("balance:") || rest == "settlement:events:dead");
        self.require_that(
            &["settlement.stream", "redis.namespace"],
            !own,
            "is the name of a key of our own",
        );
        for wrong in self
            .settings
            .settlement
            .fields
            .field_map()
            .err()
            .into_iter()
            .flatten()
        {
            self.add_mistake(
                &[&format!("settlement.fields.{}", wrong.field)],
                wrong.reason,
            );
        }
    }
}
