-- Transactions by id: content and balances, by which a repetition is told from a conflict.
CREATE TABLE trading.ledger_transactions (
    transaction_id bigint NOT NULL,
    content        text,
    balances       text,
    created_at     bigint,
    PRIMARY KEY (transaction_id)
);
