-- The one table of insight. While there is a row, its workers take nothing: a person has paused them.
create table pause (
    is_on   boolean primary key default true constraint there_is_one_pause check (is_on),
    who     text not null constraint pause_names_somebody check (who <> ''),
    why     text not null constraint pause_has_a_reason check (why <> ''),
    since   timestamptz not null default now()
);
