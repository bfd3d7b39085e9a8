-- What moved between two accounts of the platform or banks belongs to no wallet: it is found by its transfer. There is
-- little of it, and other movements never touch this index.

create index movement_between_books on movement (transfer_id)
where debit_number is null and credit_number is null;
