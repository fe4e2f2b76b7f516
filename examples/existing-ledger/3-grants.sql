-- The least that the service needs: it reads the tables of its statements, and takes rows out of the outbox.
GRANT USAGE ON SCHEMA public TO balance_cache;
GRANT SELECT ON customers, wallets TO balance_cache;
GRANT SELECT, DELETE ON balance_outbox TO balance_cache;
GRANT SELECT, INSERT ON balance_outbox_dead TO balance_cache;
