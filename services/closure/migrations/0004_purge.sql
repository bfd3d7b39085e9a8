-- What is removed when it has been kept long enough, and by which order it is found.

-- Of a closed case that is kept for its ID number's hash, so many steps and events are removed.
alter table closing_case
add column purged_steps integer not null default 0,
add column purged_revision integer not null default 0,
add constraint case_steps_are_purged_up_to_the_last
check (purged_steps between 0 and step_count and purged_revision between 0 and revision);

-- Cases that have ended, of which nothing is waited for any more: not the erasure of a customer, not a residue, not a
-- clearance's statement. `kept_from` is since when one has been of use to nobody: its end, its customer's erasure, or the
-- latest application to come back. One `is_over` unless it is the closing that somebody may come back from: what was
-- rejected, cancelled or expired, and a closing that was undone, of a loan only when that is closed again.
create view ended_case as
select
    closing_case.case_id,
    closing_case.customer_id,
    closing_case.subject,
    closing_case.ended_at,
    greatest(
        closing_case.ended_at,
        customer.erased_at,
        (
            select max(case when reopening.status in ('assessing', 'reopening') then 'infinity' else occurred_at end)
            from reopening
            where reopening.case_id = closing_case.case_id
        )
    ) as kept_from,
    closing_case.status <> 'closed' or (
        exists (select from reopening where reopening.case_id = closing_case.case_id and status = 'reopened')
        and (
            closing_case.subject not like 'loan:%'
            or exists (
                select from closing_case as later
                where
                    later.subject = closing_case.subject
                    and later.status = 'closed'
                    and later.ended_at > closing_case.ended_at
            )
        )
    ) as is_over
from closing_case
left join customer using (customer_id)
where
    closing_case.ended_at is not null
    and purged_steps = 0
    and (closing_case.status <> 'closed' or (erasure = 'done' and refusal = 'looked'))
    and not exists (
        select from clearance
        join clearance_wallet using (clearance_id)
        where clearance.status <> 'finished' and clearance_wallet.account_id = closing_case.subject
    );

create index ended_case_oldest on closing_case (ended_at) where ended_at is not null and purged_steps = 0;
create index reopening_of_case on reopening (case_id);
create index refused_reopening_oldest on reopening (occurred_at) where status = 'refused';
create index answer_oldest on answer (occurred_at);
