//! The table of findings. `{at}` stands for the address, file or key, `{}` for the detail of the finding.

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $cause:literal, $remedy:literal;)*) => {
        /// A kind of finding.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            pub const fn label_value(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            pub(super) const fn cause_template(self) -> &'static str {
                match self { $(Self::$name => $cause,)* }
            }

            pub(super) const fn remedy_template(self) -> &'static str {
                match self { $(Self::$name => $remedy,)* }
            }
        }
    };
}

impl Code {
    /// A right, a command or a type keeps a command from working, whatever its arguments are.
    pub const fn is_forbidden(self) -> bool {
        matches!(
            self,
            Self::RedisForbidden
                | Self::RedisKeyForbidden
                | Self::RedisUnknownCommand
                | Self::RedisWrongType
        )
    }

    /// Redis answered and refused a command: another connection would be refused too.
    pub const fn is_refusal(self) -> bool {
        let is_state = matches!(
            self,
            Self::RedisReadOnly
                | Self::RedisMasterDown
                | Self::RedisNoReplicas
                | Self::RedisDisk
                | Self::RedisFull
                | Self::RedisLoading
                | Self::RedisBusy
                | Self::RedisIsCluster
                | Self::RedisMoved
                | Self::RedisMigrating
                | Self::RedisClusterDown
                | Self::RedisAuthMissing
                | Self::RedisAuthWrong
                | Self::RedisUnexpected
        );
        is_state || self.is_forbidden()
    }
}

codes! {
    // === Redis: reaching it ===

    RedisStarting = "redis_starting",
        "{at} was not connected to yet", "wait; the first connection is being made";
    RedisAwaitsSource = "redis_awaits_source",
        "{at} is not used before the source has said who it is", "see the reason of the source";
    RedisRefused = "redis_refused",
        "{at} cannot be reached: the connection is refused", "start it, or correct redis.url";
    /// No connection for another reason.
    RedisUnreachable = "redis_unreachable",
        "{at} cannot be reached: {}", "correct redis.url, or mend the network on the way";
    RedisTls = "redis_tls",
        "the TLS handshake with {at} fails", "compare redis.ca_file and the host of redis.url with Redis' certificate, and see whether Redis wants a client's (redis.cert_file)";
    RedisNoMaster = "redis_no_master",
        "{at} cannot be found: no sentinel knows a master of that name", "correct redis.sentinel_master: SENTINEL MASTERS lists the names";
    RedisClosed = "redis_closed",
        "{at} ended the connection", "see Redis' log, its maxclients and timeout, and the proxies on the way";
    RedisSilent = "redis_silent",
        "{at} does not answer in {}", "see whether Redis is stopped, busy (SLOWLOG GET), or behind a network that drops packets";
    RedisAuthMissing = "redis_auth_missing",
        "{at} wants a user or password and none was given (NOAUTH)", "put it into redis.url (redis://user:password@host) or redis.password; for sentinels into redis.sentinel_password";
    RedisAuthWrong = "redis_auth_wrong",
        "{at} refuses the user or password (WRONGPASS)", "put the right user and password into redis.url (redis://user:password@host) or redis.password; for sentinels into redis.sentinel_password";

    // === Redis: rights and commands ===

    RedisForbidden = "redis_forbidden",
        "{at} forbids this user the command {} (NOPERM)", "ACL SETUSER with +{} for the user of redis.url";
    RedisKeyForbidden = "redis_key_forbidden",
        "{at} forbids this user a key that {} needs (NOPERM)", "ACL SETUSER with the key patterns of redis.namespace and settlement.stream";
    /// A command that was renamed away, or is too new.
    RedisUnknownCommand = "redis_unknown_command",
        "{at} does not know the command {}", "remove its rename-command from redis.conf, or upgrade Redis to 7 or later";
    RedisWrongType = "redis_wrong_type",
        "the key {} at {at} holds another type than it should", "find out what wrote it (TYPE {}), then RENAME or DEL it";

    // === Redis: writes ===

    RedisReadOnly = "redis_read_only",
        "{at} takes no writes: it is a replica (READONLY)", "name the master in redis.url";
    RedisReplica = "redis_replica",
        "{at} is a replica (its link to the master is {}): nothing that it holds is proven fresh", "name the master in redis.url";
    /// `INFO` leaves out by what a server is told from another.
    RedisUntold = "redis_untold",
        "{at} leaves {} out of INFO: whether it is still the same Redis cannot be proven", "let this user call INFO whole; a managed service that hides run_id, role or master_replid cannot be used";
    RedisMasterDown = "redis_master_down",
        "{at} is a replica that lost its master (MASTERDOWN)", "name the master in redis.url";
    RedisNoReplicas = "redis_no_replicas",
        "{at} takes no writes: it has fewer good replicas than min-replicas-to-write (NOREPLICAS)", "bring its replicas back, or CONFIG SET min-replicas-to-write to as many as there are; settlements are answered 503 until then";
    RedisDisk = "redis_disk",
        "{at} takes no writes: it cannot save to its disk (MISCONF)", "free or mend the disk of Redis and see its log; settlements are answered 503 until then";
    RedisFull = "redis_full",
        "{at} is full: maxmemory is used up (OOM), and settlements are answered 503", "raise maxmemory, or remove what other programs left there";
    RedisLoading = "redis_loading",
        "{at} is loading its data (LOADING)", "wait until it has loaded them";
    RedisBusy = "redis_busy",
        "{at} runs a script that does not end (BUSY)", "SCRIPT KILL, and find out what sent it";

    // === Redis: cluster ===

    /// `CROSSSLOT`, or a cluster's node with `mode = "single"`.
    RedisIsCluster = "redis_is_cluster",
        "{at} is a node of a Redis Cluster and redis.mode is single: no settlement can succeed", "set redis.mode = \"cluster\"";
    RedisMoved = "redis_moved",
        "{at} does not serve the slot of a key (MOVED)", "set redis.mode = \"cluster\", or wait until the cluster agrees on its slots";
    RedisMigrating = "redis_migrating",
        "a slot of the cluster of {at} is in migration and some of its users cannot be settled ({})", "let the migration end: redis-cli --cluster check, then --cluster fix";
    RedisClusterDown = "redis_cluster_down",
        "the cluster of {at} does not serve every slot (CLUSTERDOWN)", "bring its masters back: redis-cli --cluster check";

    // === the settlement stream ===

    /// Reads got no whole reply in time, several in a row, though Redis answers; the feed is read in the same way.
    StreamSilent = "stream_silent",
        "{at}: several reads in a row got no whole reply in time", "wait: the next ask for fewer entries, down to one. If it goes on, see the size of its entries (XINFO STREAM) and the network to Redis";
    StreamNotTaken = "stream_not_taken",
        "{at}: its notifications do not take effect ({})", "see the reasons of redis and of settlements; they are tried again until they do";

    // === Kafka ===

    KafkaStarting = "kafka_starting",
        "{at} was not reached yet", "wait; the first connection is being made";
    KafkaUnreachable = "kafka_unreachable",
        "no broker of {at} can be reached", "start them, correct settlement.kafka.brokers, or mend the network on the way";
    KafkaResolve = "kafka_resolve",
        "a broker's name of {at} cannot be resolved", "correct settlement.kafka.brokers, or the advertised.listeners of the brokers";
    KafkaTls = "kafka_tls",
        "the TLS handshake with {at} fails", "compare settlement.kafka.tls_ca_file and the brokers' names with their certificates; a broker without TLS needs it empty";
    KafkaAuth = "kafka_auth",
        "{at} refuses the user or password, or the mechanism", "correct settlement.kafka.sasl, username and password";
    KafkaSilent = "kafka_silent",
        "{at} does not answer in {}", "see the brokers' logs and the network on the way; where the brokers want TLS, settlement.kafka.tls_ca_file switches it on";
    KafkaNoTopic = "kafka_no_topic",
        "{at} has no topic {}", "create it, or correct settlement.kafka.topic; it is followed as soon as it is there";
    KafkaNoLeader = "kafka_no_leader",
        "a partition at {at} has no leader", "bring its brokers back";
    KafkaForbidden = "kafka_forbidden",
        "{at} forbids this user {}", "allow READ and DESCRIBE on the topic, READ on the group, and WRITE on the dead topic";
    KafkaNotPutAside = "kafka_not_put_aside",
        "records that cannot be read cannot be written to {at} ({})", "create that topic and allow this user to write to it; until then their partitions are not committed behind them";
    KafkaNotTaken = "kafka_not_taken",
        "{at}: its notifications do not take effect ({})", "see the reasons of redis and of settlements; they are tried again until they do";
    /// Anything else; the detail is Kafka's error code.
    KafkaUnexpected = "kafka_unexpected",
        "{at} refuses a request ({})", "see the brokers' logs; doctor tries each request by itself";

    // === the outbox of a PostgreSQL ledger ===

    OutboxUnreachable = "outbox_unreachable",
        "{at} cannot be followed: {}", "see the reason of the source; balance-cache schema apply --outbox makes the table and its triggers, and this user needs SELECT and DELETE on it";
    OutboxNotTaken = "outbox_not_taken",
        "{at}: its changes do not take effect ({})", "see the reasons of redis and of settlements; they are tried again until they do";

    // === Redis: identity ===

    RedisOtherSource = "redis_other_source",
        "this Redis ({at}) and namespace hold the balances of another source", "give this deployment a redis.namespace of its own";
    RedisDisagree = "redis_disagree",
        "connections to {at} lead to different servers", "wait until the failover is over, or name one server in redis.url";
    RedisForgets = "redis_forgets",
        "what is written to {at} is gone at once", "give Redis memory, and maxmemory-policy noeviction";
    RedisChanged = "redis_changed",
        "{at} is another Redis than before, or its data are", "wait; it is opened again. If it goes on, find out what restarts, flushes or fails it over";
    RedisClock = "redis_clock",
        "the clock of {at} was set by {}: everything held there counts for nothing", "let that machine keep time without steps (chrony with makestep only at start)";
    RedisPolicyChanged = "redis_policy_changed",
        "maxmemory-policy of {at} was changed", "wait; it is opened again";
    /// Anything else; the detail is the error code.
    RedisUnexpected = "redis_unexpected",
        "{at} refuses a command ({})", "see Redis' log; doctor tries each command by itself";

    // === Redis: advice ===

    RedisEvicts = "redis_evicts",
        "maxmemory-policy is {} at {at}: it may drop floors and snapshots before their time, and every absent key is read from the ledger", "CONFIG SET maxmemory-policy noeviction (and in redis.conf), with enough maxmemory";
    RedisLimited = "redis_limited",
        "maxmemory is {} bytes with noeviction at {at}: when it is full, settlements are answered 503", "watch used_memory, and raise maxmemory in time";
    RedisForgetful = "redis_forgetful",
        "appendonly is no at {at}: a restart of Redis forgets notifications that ran ahead of their ledger rows", "CONFIG SET appendonly yes and appendfsync always (and in redis.conf)";
    RedisUnsynced = "redis_unsynced",
        "appendfsync is no at {at}: a crash of Redis' machine forgets notifications that ran ahead of their ledger rows", "CONFIG SET appendfsync everysec or always (and in redis.conf)";
    RedisUnfenced = "redis_unfenced",
        "{at} has {} replicas and no min-replicas-to-write: cut off from them it goes on taking settlements that a failover loses, and instances that reach only it show old balances", "CONFIG SET min-replicas-to-write 1 and min-replicas-max-lag 10 (and in redis.conf, on replicas too)";

    // === the feed ===

    FeedUnproven = "feed_unproven",
        "freshness is not proven: memory answers only what was just read from the ledger", "see the reason of redis; without one, whether this process or Redis is overloaded";
    FeedStarting = "feed_starting",
        "starting: the feed is read back", "wait";

    // === the source ===

    SourceRefused = "source_refused",
        "{at} cannot be reached: the connection is refused", "start it, or correct scylla.nodes";
    /// No node can be reached for another reason.
    SourceUnreachable = "source_unreachable",
        "{at} cannot be reached", "correct scylla.nodes, or mend the network on the way";
    SourceSilent = "source_silent",
        "{at} does not answer in source.timeout_ms", "see the database's own monitoring, or raise source.timeout_ms";
    SourceAuth = "source_auth",
        "{at} refuses the user or password", "correct scylla.username and scylla.password";
    SourceForbidden = "source_forbidden",
        "{at} refuses this user the right {}", "GRANT that right to the user of scylla.username";
    SourceQuorum = "source_quorum",
        "too few nodes of {at} are up for the consistency that is asked for ({})", "bring its nodes back: nodetool status";
    SourceOverloaded = "source_overloaded",
        "{at} refuses statements: it is overloaded or starting", "see the database's own monitoring";
    SourceSchema = "source_schema",
        "keyspace or table is missing at {at}, or not as it should be", "balance-cache schema status says which; balance-cache schema apply makes what is missing";
    /// Anything else of the driver or the database.
    SourceUnexpected = "source_unexpected",
        "{at} refuses a statement ({})", "see the database's log; balance-cache doctor looks at each part by itself";

    // === PostgreSQL ===

    PostgresRefused = "postgres_refused",
        "{at} cannot be reached: the connection is refused", "start it, or correct postgres.url";
    /// No server can be reached for another reason.
    PostgresUnreachable = "postgres_unreachable",
        "{at} cannot be reached", "correct postgres.url, or mend the network on the way";
    PostgresSilent = "postgres_silent",
        "{at} does not answer in source.timeout_ms", "see the database's own monitoring (pg_stat_activity, pg_locks), or raise source.timeout_ms";
    PostgresAuth = "postgres_auth",
        "{at} refuses the user or password", "correct postgres.username and postgres.password, or those in postgres.url, and see pg_hba.conf";
    PostgresDatabase = "postgres_database",
        "there is no such database at {at}", "create it (createdb), or correct the end of postgres.url";
    PostgresTls = "postgres_tls",
        "the TLS handshake with {at} fails", "compare postgres.tls_ca_file and the host of postgres.url with the server's certificate; a server without TLS needs postgres.sslmode = \"disable\"";
    PostgresForbidden = "postgres_forbidden",
        "{at} refuses this user {}", "GRANT USAGE on the schema and SELECT (and, to write, INSERT and UPDATE) on its tables to the user of postgres.url";
    /// Balances can be read; the detail is what is missing to write.
    PostgresUnwritable = "postgres_unwritable",
        "{at} lets this user read, and not write ledger entries: it lacks {}", "GRANT that to the user of postgres.url; it is seen by itself";
    PostgresIncomplete = "postgres_incomplete",
        "{at} cannot take all ledger entries, transactions and trades: {}", "balance-cache schema status shows all tables";
    PostgresReadOnly = "postgres_read_only",
        "no server of {at} takes writes: each is a standby or read-only", "promote one of them, or name the primary in postgres.url";
    PostgresReplaced = "postgres_replaced",
        "{at} takes writes, but another server was promoted after it", "stop it, or make it a standby of the new primary (pg_rewind, or a new base backup); where it was put back on purpose, restart this service";
    PostgresFull = "postgres_full",
        "{at} has no connection left", "lower postgres.connections, or raise max_connections of the server";
    /// A pooler on the way does not give a session to each connection.
    PostgresPooled = "postgres_pooled",
        "a pooler before {at} gives connections no session of their own ({})", "name the server itself in postgres.url, or set PgBouncer as docs/EXISTING_LEDGER.md says";
    PostgresStarting = "postgres_starting",
        "{at} is starting or shutting down", "wait, and see the server's log";
    PostgresSchema = "postgres_schema",
        "schema or table is missing at {at}, or not as it should be", "balance-cache schema status says which; balance-cache schema apply makes what is missing";
    /// Anything else of the driver or the database.
    PostgresUnexpected = "postgres_unexpected",
        "{at} refuses a statement ({})", "see the database's log; balance-cache doctor looks at each part by itself";

    // === the embedded ledger ===

    LedgerFull = "ledger_full",
        "the ledger {at} cannot be written: {}", "free space there (df -h); writes go on by themselves within 10 s of it";
    LedgerSizeLimit = "ledger_size_limit",
        "the ledger {at} cannot be written: {}", "raise the limit of the size of files (prlimit --fsize, ulimit -f, LimitFSIZE= in a systemd unit); writes go on by themselves";
    LedgerReadOnly = "ledger_read_only",
        "the ledger {at} cannot be written: {}", "mount it writable (mount -o remount,rw; dmesg says why the system made it read-only); writes go on by themselves";
    LedgerPermission = "ledger_permission",
        "the ledger {at} cannot be written: {}", "give the user of the service read and write access to the file and its folder (chown, chmod)";
    LedgerDamaged = "ledger_damaged",
        "the ledger {at} cannot be written: {}", "stop the service, look for faults of the disk (dmesg, smartctl), keep the file aside and put the newest backup in its place (balance-cache ledger restore)";
    LedgerReplaced = "ledger_replaced",
        "the ledger {at} cannot be written: {}", "put the file back where it was, or restart the service to use the one that is there now";
    LedgerFailing = "ledger_failing",
        "the ledger {at} cannot be written: {}", "look for faults of the disk (dmesg, smartctl); the service goes on by itself when it answers again";
}
