//! What a server says of itself: the lines of `INFO` that matter here.

/// A Redis, or what speaks like one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Server {
    /// `redis_version`: what it is compatible with.
    pub version: String,
    /// `valkey`, `redis` or whatever it calls itself.
    pub product: String,
    /// `maxmemory-policy`
    pub policy: String,
    /// `maxmemory` in bytes; 0: no limit.
    pub maxmemory: u64,
    /// Bytes in use.
    pub used: u64,
    /// Every write goes to a file.
    pub appendonly: bool,
    /// It is the master of its data.
    pub master: bool,
    /// How long it has been up, in seconds.
    pub uptime: u64,
}

impl Server {
    /// Reads the text of `INFO`.
    pub(super) fn read(info: &str) -> Self {
        let field = |name: &str| {
            let mut lines = info.lines();
            let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            found.unwrap_or_default().trim().to_owned()
        };
        let number = |name: &str| field(name).parse().unwrap_or(0);
        let product = field("server_name");
        Self {
            version: field("redis_version"),
            product: if product.is_empty() {
                "redis".to_owned()
            } else {
                product
            },
            policy: field("maxmemory_policy"),
            maxmemory: number("maxmemory"),
            used: number("used_memory"),
            appendonly: field("aof_enabled") == "1",
            master: field("role") != "slave",
            uptime: number("uptime_in_seconds"),
        }
    }

    /// Major and minor number of the version; 0 where they cannot be read.
    #[must_use]
    pub fn release(&self) -> (u32, u32) {
        let mut numbers = self
            .version
            .split('.')
            .map(|part| part.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }

    /// It may drop keys that have not ended.
    #[must_use]
    pub fn evicts(&self) -> bool {
        self.policy != "noeviction"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_that_matter_are_read() {
        let info = "# Server\r\nredis_version:7.0.15\r\nuptime_in_seconds:5\r\nused_memory:1000\r\nused_memory_rss:9\r\n\
                    maxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\naof_enabled:1\r\nrole:master\r\n";
        let server = Server::read(info);
        assert_eq!(server.release(), (7, 0));
        assert!(server.evicts() && server.appendonly && server.master);
        assert_eq!(
            (server.used, server.uptime, server.product.as_str()),
            (1000, 5, "redis")
        );
    }
}
