DROP TABLE trading.ledger_identity;
DROP TABLE trading.balance_ledger;
