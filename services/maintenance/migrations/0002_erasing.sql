-- Customers are forgotten: what stays of them is counted, and carries no customer.

alter table survey_answer drop constraint survey_answer_is_one_a_customer;
alter table survey_answer alter column customer_id drop not null;
alter table survey_answer
    add constraint survey_answer_is_one_a_customer unique (window_id, customer_id);
create index survey_answer_of_customer on survey_answer (customer_id);

alter table affected_customer drop constraint customer_is_compensated_once_a_window;
alter table affected_customer alter column customer_id drop not null;
alter table affected_customer
    add constraint customer_is_compensated_once_a_window unique (window_id, customer_id),
    add constraint only_what_was_granted_is_kept_of_nobody check (customer_id is not null or granted_at is not null);
create index affected_customer_by_customer on affected_customer (customer_id);

-- Who was erased, as long as news of their transfers may still come.
create table erased_customer (
    customer_id text collate "C" primary key,
    erased_at   timestamptz not null
);
