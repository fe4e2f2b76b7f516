//! The names of our keys in Redis.

use crate::domain::UserId;

/// The keys of one deployment.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: String,
    of_users: String,
}

impl Keys {
    /// Makes the key names with `redis.namespace` as their prefix.
    #[must_use]
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

    /// A user's entry.
    #[must_use]
    pub fn user_key(&self, user: UserId) -> String {
        let mut digits = itoa::Buffer::new();
        [&self.of_users, digits.format(user.get())].concat()
    }

    /// An entry that no user has: ids begin at 1.
    #[must_use]
    pub fn nobody_key(&self) -> String {
        format!("{}0", self.of_users)
    }

    /// The prefix of every user's key.
    #[must_use]
    pub fn user_prefix(&self) -> &str {
        &self.of_users
    }

    /// The feed of what changed.
    #[must_use]
    pub fn feed_key(&self) -> String {
        format!("{}balance:invalidations", self.prefix)
    }

    /// Reads by user in one hour: the hours since 1970.
    #[must_use]
    pub fn most_read(&self, hour: i64) -> String {
        format!("{}balance:most_read:{hour}", self.prefix)
    }

    /// The epoch.
    #[must_use]
    pub fn epoch_key(&self) -> String {
        format!("{}balance:epoch", self.prefix)
    }

    /// The total of an asset: its name in the catalogue, or its number.
    #[must_use]
    pub fn total_key(&self, asset: &str) -> String {
        format!("{}balance:total:{asset}", self.prefix)
    }

    /// The scan under way, and the totals that are published.
    #[must_use]
    pub fn totals_key(&self) -> String {
        format!("{}balance:totals", self.prefix)
    }

    /// The rates in a quote.
    #[must_use]
    pub fn rates_key(&self, quote: &str) -> String {
        format!("{}balance:rates:{quote}", self.prefix)
    }

    /// Whose balances these are.
    #[must_use]
    pub fn source_key(&self) -> String {
        format!("{}balance:source", self.prefix)
    }

    /// Entries of this settlement stream that could not be read.
    #[must_use]
    pub fn dead_key(&self, stream: &str) -> String {
        format!("{}{stream}:dead", self.prefix)
    }

    /// The consumer group of all instances of this deployment: deployments that share a stream each get all of it.
    #[must_use]
    pub fn group_name(&self) -> String {
        format!("{}balance-cache", self.prefix)
    }
}
