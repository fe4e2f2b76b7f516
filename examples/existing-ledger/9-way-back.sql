-- Takes back 2-version.sql and 4-deleted-customers.sql. `schema rollback --outbox --yes` takes back the outbox after it;
-- nothing else was changed.
BEGIN;
DROP TRIGGER IF EXISTS customers_removed ON customers;
DROP FUNCTION IF EXISTS customers_removed();
DROP TRIGGER wallets_number ON wallets;
DROP FUNCTION wallets_number();
ALTER TABLE wallets DROP COLUMN version;
DROP SEQUENCE wallets_version;
COMMIT;
