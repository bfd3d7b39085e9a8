-- Until when each rule suspects a customer: `flagged_until` is the last of these. What is in force was said by a rule
-- that is not known any more, and ends by its time.
alter table customer add column flags jsonb not null default '{}';

update customer
set flags = jsonb_build_object('', flagged_until)
where flagged_until > now();
