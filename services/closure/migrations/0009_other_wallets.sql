-- What else a customer has, and what was looked at: a wallet of theirs below zero stands against every closing, and a
-- balance that has grown beyond what was approved is looked at once more.

alter table closing_case
add column reported jsonb not null default '{}',
add column reviewed_minor bigint not null default 0;
-- Whatever waits to be drained, or is being paid out, was approved with the balance that it had.
update closing_case
set reviewed_minor = balance_minor + paid_minor + fee_paid_minor
where ended_at is null;

insert into case_transition (previous, status)
values ('obligations', 'review');
