-- What people on call did.

-- name: record_act
insert into act (act_id, at, who, what, about, why, detail)
values ($1, now(), $2, $3, $4, $5, $6::jsonb)

-- The newest first.
-- name: list_acts
select act_id, at, who, what, about, why, detail::text as detail
from act
order by at desc, act_id
limit $1
