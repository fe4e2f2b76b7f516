-- The ledger: append-only, one row per event of one user's balance in one asset. The key, read backwards, begins with the newest row.
CREATE TABLE trading.balance_ledger (
    user_id      bigint  NOT NULL,
    asset_id     integer NOT NULL,
    seq          bigint  NOT NULL,
    delta_avail  bigint,
    delta_frozen bigint,
    avail        bigint,
    frozen       bigint,
    event_type   text,
    ref_id       bigint,
    created_at   bigint,
    PRIMARY KEY (user_id, asset_id, seq)
);
-- The identity of this ledger: Redis remembers it, and refuses the balances of another one.
CREATE TABLE trading.ledger_identity (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid()
);
INSERT INTO trading.ledger_identity DEFAULT VALUES;
