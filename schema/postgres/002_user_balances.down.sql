DROP TABLE trading.user_balances;
