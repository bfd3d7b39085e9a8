create table entry (
    id text not null,
    topic text not null,
    partition integer not null,
    record_offset bigint not null,
    amount bigint not null,
    -- No unique constraint: an effect that happens twice must be seen.
    number bigint generated always as identity
);

create table uniquely (id text constraint id_is_unique primary key);

create table firing (
    kind text not null,
    subject text not null,
    due_at timestamptz not null,
    fired_at timestamptz not null,
    number bigint generated always as identity
);
