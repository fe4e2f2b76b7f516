DROP TABLE trading.ledger_transactions;
