-- What the notices' benchmark waits for.

-- name: count_known
select count(*)
from customer
where is_known

-- name: is_over
select bool_and(is_over)
from broadcast

-- name: count_urgent
select count(*)
from notice
where not is_broadcast

-- name: count_urgent_pending
select count(*)
from notice
where status = 'pending' and not is_broadcast

-- name: load_counts
select accepted, delivered, sent, failed, suppressed, pending
from broadcast_count
