-- What people on call did, and what became of each dead letter. The system's services read none of it.

create table act (
    act_id  uuid primary key,
    at      timestamptz not null,
    who     text not null constraint act_names_somebody check (who <> ''),
    what    text not null,
    about   text not null,
    why     text not null constraint act_has_a_reason check (why <> ''),
    detail  jsonb not null default '{}'
);

create index act_by_time on act (at desc);

-- Acts are only ever added: nobody mends the past.
create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'acts are not changed' using errcode = 'restrict_violation';
end
$$;

create trigger act_stays before update or delete on act for each row execute function refuse_change();

-- A dead letter that somebody did something about; those without a row wait. By the topic's id, because a topic that is
-- made again counts from the start.
create table handled_letter (
    topic_id        text not null,
    partition       integer not null,
    record_offset   bigint not null,
    letter_id       text not null,
    state           text not null constraint handled_letter_state
        check (state in ('replaying', 'replayed', 'discarded')),
    act_id          uuid not null references act,
    -- Where the replay's partition ended before it: behind that the record stands, if it was written.
    target          text,
    target_partition integer,
    target_end      bigint,
    changed_at      timestamptz not null,
    primary key (topic_id, partition, record_offset),
    constraint replay_has_a_target check (
        state = 'discarded' or (target is not null and target_partition is not null and target_end is not null)
    )
);
