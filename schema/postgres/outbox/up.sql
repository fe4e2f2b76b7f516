-- The outbox of balances: each change of the table writes the user's key into it, in the transaction of the change. The service reads
-- it in order, makes the user's balances known, and removes the row. `schema apply --outbox` puts names in for
-- the table, its columns and the schema for what stands in braces; it may be run again.
CREATE TABLE IF NOT EXISTS {s}.balance_outbox (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The user as the table names it. Or none, and `event` has notifications as POST /api/v1/settlements takes them.
    user_key   text,
    -- 'removed': a row went away, so seqs that were shown of this user, or of the users in `event`, may be gone with it.
    kind       text NOT NULL DEFAULT 'changed' CHECK (kind IN ('changed', 'removed')),
    event      text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((user_key IS NULL) <> (event IS NULL))
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- Rows that cannot be read, with the reason. Nothing reads them again.
CREATE TABLE IF NOT EXISTS {s}.balance_outbox_dead (
    id           bigint PRIMARY KEY,
    user_key     text,
    kind         text NOT NULL,
    event        text,
    created_at   timestamptz NOT NULL,
    reason       text NOT NULL,
    put_aside_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row for each user of a statement, however many rows it changes. Runs with the rights of its owner: writers of the table need none
-- on the outbox. The arguments are the columns of the user and of the asset. A third one is a column that is 0 in rows that are no
-- balances: this service locks a balance that does not exist yet by such a row.
CREATE OR REPLACE FUNCTION {s}.balance_outbox_add() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $body$
DECLARE
    added bigint;
    is_balance text := CASE WHEN TG_NARGS > 2 THEN format('%I IS DISTINCT FROM 0', TG_ARGV[2]) ELSE 'true' END;
BEGIN
    CASE TG_OP
    WHEN 'INSERT' THEN
        EXECUTE format('INSERT INTO balance_outbox (user_key) SELECT DISTINCT %1$I::text FROM new_rows WHERE %1$I IS NOT NULL AND %2$s',
            TG_ARGV[0], is_balance);
    WHEN 'UPDATE' THEN
        -- A row that moved to another user or asset is gone from where it was.
        EXECUTE format(
            'INSERT INTO balance_outbox (user_key, kind)
             SELECT user_key, CASE WHEN bool_or(gone) THEN ''removed'' ELSE ''changed'' END FROM (
                 SELECT %1$I::text AS user_key, false AS gone FROM new_rows WHERE %3$s
                 UNION ALL
                 SELECT user_key, true FROM (
                     SELECT %1$I::text AS user_key, %2$I::text FROM old_rows WHERE %3$s EXCEPT SELECT %1$I::text, %2$I::text FROM new_rows
                 ) AS moved
             ) AS touched WHERE user_key IS NOT NULL GROUP BY user_key', TG_ARGV[0], TG_ARGV[1], is_balance);
    WHEN 'DELETE' THEN
        EXECUTE format('INSERT INTO balance_outbox (user_key, kind) SELECT DISTINCT %1$I::text, ''removed'' FROM old_rows WHERE %1$I IS NOT NULL AND %2$s',
            TG_ARGV[0], is_balance);
    ELSE
        EXECUTE format('INSERT INTO balance_outbox (user_key, kind) SELECT DISTINCT %1$I::text, ''removed'' FROM %2$I.%3$I WHERE %1$I IS NOT NULL',
            TG_ARGV[0], TG_TABLE_SCHEMA, TG_TABLE_NAME);
    END CASE;
    GET DIAGNOSTICS added = ROW_COUNT;
    IF added > 0 THEN
        PERFORM pg_notify('balance_outbox', '');
    END IF;
    RETURN NULL;
END
$body$;

DROP TRIGGER IF EXISTS balance_outbox_insert ON {table};
CREATE TRIGGER balance_outbox_insert AFTER INSERT ON {table} REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION {s}.balance_outbox_add({arguments});
DROP TRIGGER IF EXISTS balance_outbox_update ON {table};
CREATE TRIGGER balance_outbox_update AFTER UPDATE ON {table} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION {s}.balance_outbox_add({arguments});
DROP TRIGGER IF EXISTS balance_outbox_delete ON {table};
CREATE TRIGGER balance_outbox_delete AFTER DELETE ON {table} REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION {s}.balance_outbox_add({arguments});
DROP TRIGGER IF EXISTS balance_outbox_truncate ON {table};
CREATE TRIGGER balance_outbox_truncate BEFORE TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION {s}.balance_outbox_add({arguments});
