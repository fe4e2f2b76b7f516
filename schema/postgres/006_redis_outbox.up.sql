-- Balances that stand and that Redis may not know: written with the ledger row, removed after Redis took that seq. Small and busy.
CREATE TABLE trading.redis_outbox (
    user_id    bigint      NOT NULL,
    asset_id   integer     NOT NULL,
    seq        bigint      NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, asset_id)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
