-- What the doctor asks the database; nothing here changes anything.

-- name: about_server
select
    current_setting('server_version_num')::integer as version,
    current_setting('server_version') as version_text,
    clock_timestamp() as now,
    current_setting('wal_recycle')::boolean as recycles_log,
    current_setting('fsync')::boolean as syncs,
    current_setting('transaction_read_only')::boolean as is_read_only,
    has_function_privilege('pg_switch_wal()', 'execute') as may_switch_log,
    pg_has_role('pg_read_all_stats', 'usage') as may_see_others,
    pg_database_size(current_database()) as bytes

-- What we may not do with the tables of the schema.
-- name: missing_rights
select relname as name, wanted.right_name
from pg_class
cross join unnest(array['select', 'insert', 'update', 'delete', 'maintain']) as wanted (right_name)
where
    relkind in ('r', 'p')
    and relnamespace = current_schema()::regnamespace
    and not has_table_privilege(pg_class.oid, wanted.right_name)
order by relname, wanted.right_name

-- Some of the customers' keys, as they were wrapped.
-- name: some_keys
select customer_id, wrapped_key from customer_key limit 20
