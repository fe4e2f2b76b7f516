-- A customer who is deleted takes the number along by which the service knows the user, so the outbox has to have it before. The
-- function runs with the rights of its owner: those who delete need none on the outbox.
CREATE FUNCTION customers_removed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO balance_outbox (kind, event)
    SELECT 'removed', json_build_object('user_id', customer_no)::text FROM old_rows;
    PERFORM pg_notify('balance_outbox', '');
    RETURN NULL;
END
$$;
CREATE TRIGGER customers_removed AFTER DELETE ON customers REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION customers_removed();
