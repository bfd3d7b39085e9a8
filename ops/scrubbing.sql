-- What clears the database's files of deleted rows.

-- The next transaction.
-- name: read_next
select (pg_snapshot_xmax(pg_current_snapshot())::xid)::text

-- How many others see rows as they were before a transaction.
-- name: count_older
select count(*)
from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and age(backend_xmin) > age($1::text::xid)

-- The tables that hold customers' keys, under which all else that is personal is encrypted, or messages on their way;
-- last the planner's samples of columns, after those that the others' new ones have replaced.
-- name: list_tables
select name, format('vacuum (full%s) %s', more, name) as statement
from (
    values
        (1, 'transfer.customer_key', ', analyze'),
        (2, 'transfer.outbox', ', analyze'),
        (3, 'maintenance.outbox', ', analyze'),
        (4, 'notify.customer', ', analyze'),
        (5, 'notify.outbox', ', analyze'),
        (6, 'closure.customer', ', analyze'),
        (7, 'closure.closing_case', ', analyze'),
        (8, 'closure.outbox', ', analyze'),
        (9, 'pg_catalog.pg_statistic', '')
) as scrubbed (number, name, more)
order by number

-- name: measure_table
select pg_total_relation_size($1::text::regclass)

-- name: limit_waiting
set lock_timeout = '60s'

-- How many segments of the log lie ahead, renamed for use again.
-- name: count_ahead
select count(*)
from pg_ls_waldir()
where name ~ '^[0-9A-F]{24}$' and name > pg_walfile_name(pg_current_wal_insert_lsn())

-- name: stop_recycling
alter system set wal_recycle = off

-- name: go_on_recycling
alter system reset wal_recycle

-- name: take_settings
select pg_reload_conf()

-- Something, so that there is a segment to leave.
-- name: write_something
select pg_logical_emit_message(false, 'sluice', 'scrub')

-- Leave a segment; the rest of it is filled with zeros.
-- name: leave_segment
select pg_switch_wal()

-- name: make_checkpoint
checkpoint
