-- A seq for each balance. A constant default rewrites no row; the trigger numbers every change from here on. The numbers come from one
-- sequence, so that a row that is deleted and made again does not begin anew; each is taken while the row is locked, so it rises.
BEGIN;
CREATE SEQUENCE wallets_version AS bigint START 2;
ALTER TABLE wallets ADD COLUMN version bigint NOT NULL DEFAULT 1;
CREATE FUNCTION wallets_number() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := nextval('wallets_version');
    NEW.changed_at := clock_timestamp();
    RETURN NEW;
END
$$;
CREATE TRIGGER wallets_number BEFORE INSERT OR UPDATE ON wallets
    FOR EACH ROW EXECUTE FUNCTION wallets_number();
COMMIT;
