-- A ledger of another shape: customers with uuids, currencies by code, amounts as decimals, and no seq.
CREATE TABLE customers (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    customer_no bigint NOT NULL UNIQUE,
    email       text NOT NULL
);
CREATE TABLE wallets (
    customer   uuid NOT NULL REFERENCES customers,
    currency   text NOT NULL,
    available  numeric(28, 8) NOT NULL DEFAULT 0,
    on_hold    numeric(28, 8) NOT NULL DEFAULT 0,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (customer, currency)
);

INSERT INTO customers (customer_no, email)
SELECT number, 'customer' || number || '@example.com' FROM generate_series(1, 10000) AS number;
INSERT INTO wallets (customer, currency, available)
SELECT id, code, customer_no * 1.25 FROM customers CROSS JOIN (VALUES ('BTC'), ('USDT'), ('ETH')) AS currencies (code);
ANALYZE customers, wallets;
