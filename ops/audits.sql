-- The newest audit of the monitor.

-- name: keep_audit
insert into monitor_audit (ended_at, took_s, broken, counts)
values (now(), $1, $2::jsonb, $3::jsonb)
on conflict (is_newest) do update
set ended_at = excluded.ended_at, took_s = excluded.took_s, broken = excluded.broken, counts = excluded.counts

-- name: load_audit
select ended_at, took_s, broken::text as broken, counts::text as counts
from monitor_audit
