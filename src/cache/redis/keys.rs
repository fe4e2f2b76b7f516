//! The names of our keys in Redis.

use crate::domain::UserId;

#[derive(Debug, Clone)]
pub struct Keys {
    prefix: String,
    of_users: String,
}

impl Keys {
    /// Makes the key names with `redis.namespace` as their prefix.
    pub fn new(namespace: &str) -> Self {
        let prefix = if namespace.is_empty() {
            String::new()
        } else {
            format!("{namespace}:")
        };
        Self {
            of_users: format!("{prefix}balance:user:"),
            prefix,
        }
    }

    pub fn user_key(&self, user: UserId) -> String {
        let mut digits = itoa::Buffer::new();
        [&self.of_users, digits.format(user.get())].concat()
    }

    /// An entry that no user has: ids begin at 1.
    pub fn nobody_key(&self) -> String {
        format!("{}0", self.of_users)
    }

    pub fn user_prefix(&self) -> &str {
        &self.of_users
    }

    pub fn feed_key(&self) -> String {
        format!("{}balance:invalidations", self.prefix)
    }

    /// Reads by user in one hour: the hours since 1970.
    pub fn most_read(&self, hour: i64) -> String {
        format!("{}balance:most_read:{hour}", self.prefix)
    }

    pub fn epoch_key(&self) -> String {
        format!("{}balance:epoch", self.prefix)
    }

    /// The total of an asset: its name in the catalogue, or its number.
    pub fn total_key(&self, asset: &str) -> String {
        format!("{}balance:total:{asset}", self.prefix)
    }

    /// The scan under way, and the totals that are published.
    pub fn totals_key(&self) -> String {
        format!("{}balance:totals", self.prefix)
    }

    pub fn backfill_key(&self, table: &str) -> String {
        format!("{}balance:backfill:{table}", self.prefix)
    }

    pub fn rates_key(&self, quote: &str) -> String {
        format!("{}balance:rates:{quote}", self.prefix)
    }

    /// Whose balances these are.
    pub fn source_key(&self) -> String {
        format!("{}balance:source", self.prefix)
    }

    /// Entries of this settlement stream that could not be read.
    pub fn dead_key(&self, stream: &str) -> String {
        format!("{}{stream}:dead", self.prefix)
    }

    /// The consumer group of all instances of this deployment: deployments that share a stream each get all of it.
    pub fn group_name(&self) -> String {
        format!("{}balance-cache", self.prefix)
    }
}
