-- Erasing somebody takes all that they need not pay, also what is used up, without looking through everybody's.

drop index fee_waiver_of_customer;
create index fee_waiver_of_customer on fee_waiver (customer_id);
