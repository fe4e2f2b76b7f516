-- The current state: one row per user and asset. Room in each page, so that an update stays in it and no index is written.
CREATE TABLE trading.user_balances (
    user_id    bigint  NOT NULL,
    asset_id   integer NOT NULL,
    avail      bigint,
    frozen     bigint,
    version    bigint,
    updated_at bigint,
    PRIMARY KEY (user_id, asset_id)
) WITH (fillfactor = 80);
