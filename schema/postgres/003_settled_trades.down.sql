DROP TABLE trading.settled_trades;
