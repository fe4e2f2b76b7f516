DROP TABLE trading.redis_outbox;
