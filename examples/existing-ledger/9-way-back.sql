-- Takes back 2-version.sql. `schema rollback --outbox --yes` takes back the outbox; nothing else was changed.
BEGIN;
DROP TRIGGER wallets_number ON wallets;
DROP FUNCTION wallets_number();
ALTER TABLE wallets DROP COLUMN version;
DROP SEQUENCE wallets_version;
COMMIT;
