-- Trades by id: content and balances, by which a repetition is told from a conflict.
CREATE TABLE trading.settled_trades (
    trade_id        bigint NOT NULL,
    symbol_id       integer,
    price           bigint,
    quantity        bigint,
    cost            bigint,
    settled_at      bigint,
    buyer_user_id   bigint,
    seller_user_id  bigint,
    buyer_order_id  bigint,
    seller_order_id bigint,
    content         text,
    balances        text,
    PRIMARY KEY (trade_id)
);
