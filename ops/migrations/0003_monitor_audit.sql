-- What the audit found that the monitor runs by itself: the newest alone, and no act, because nobody acts.

create table monitor_audit (
    is_newest   boolean primary key default true constraint there_is_one_newest_audit check (is_newest),
    ended_at    timestamptz not null,
    took_s      double precision not null,
    broken      jsonb not null,
    counts      jsonb not null
);
