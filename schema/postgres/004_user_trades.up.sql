-- Both sides of each trade by user and symbol, newest first: role 0 is the buyer, 1 the seller.
CREATE TABLE trading.user_trades (
    user_id    bigint   NOT NULL,
    symbol_id  integer  NOT NULL,
    settled_at bigint   NOT NULL,
    trade_id   bigint   NOT NULL,
    role       smallint NOT NULL,
    price      bigint,
    quantity   bigint,
    cost       bigint,
    order_id   bigint
);
-- A primary key has no orders, and a page needs these.
CREATE UNIQUE INDEX user_trades_key ON trading.user_trades (user_id, symbol_id, settled_at DESC, trade_id DESC, role);
ALTER TABLE trading.user_trades REPLICA IDENTITY USING INDEX user_trades_key;
