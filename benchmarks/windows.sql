-- What the benchmark of windows waits for.

-- name: count_windows
select count(*)
from closed_window
where not is_over

-- name: count_held
select count(*)
from held_transfer

-- name: refresh_statistics
analyze closed_window
