-- What people on call did.

-- name: record_act
insert into act (act_id, at, who, what, about, why, detail)
values ($1, now(), $2, $3, $4, $5, $6::jsonb)

-- The newest first, of all kinds or of one.
-- name: list_acts
select act_id, at, who, what, about, why, detail::text as detail
from act
where $2::text is null or what = $2
order by at desc, act_id
limit $1
