-- Keys that were destroyed, so that the tables that held them are rewritten: a deleted row's bytes stay in the file.

-- One row a destroyed key, or a statement that destroyed keys, until `table_name` was rewritten. Triggers write it.
create table destroyed_key (
    number     bigint generated always as identity,
    table_name text collate "C" not null,
    constraint destroyed_key_is_noted_once primary key (number)
);

create function note_destroyed_key() returns trigger
language plpgsql
set search_path from current
as $$
begin
    insert into destroyed_key (table_name) values (tg_table_name);
    return null;
end
$$;

-- What people are called may be on its way to a bank: no samples of it for the planner.
alter table outbox
    alter column payload type bytea,
    alter column payload set statistics 0;
