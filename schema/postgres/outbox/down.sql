-- Takes the outbox away. What is in it is lost: stop the writers, or have the service read again what it holds (cache/invalidate).
DROP TRIGGER IF EXISTS balance_outbox_insert ON {table};
DROP TRIGGER IF EXISTS balance_outbox_update ON {table};
DROP TRIGGER IF EXISTS balance_outbox_delete ON {table};
DROP TRIGGER IF EXISTS balance_outbox_truncate ON {table};
DROP FUNCTION IF EXISTS {s}.balance_outbox_add();
DROP TABLE IF EXISTS {s}.balance_outbox;
DROP TABLE IF EXISTS {s}.balance_outbox_dead;
