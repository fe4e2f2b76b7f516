DROP TABLE trading.user_trades;
