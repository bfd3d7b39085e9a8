-- An account of another holder is looked at by a person, whenever it is named: before the confirmation and after it.

insert into case_transition (previous, status)
values
    ('approved', 'review'),
    ('draining', 'payout_review'),
    ('paying_out', 'payout_review'),
    ('payout_stopped', 'payout_review'),
    ('finishing', 'payout_review'),
    ('payout_review', 'paying_out'),
    ('payout_review', 'payout_stopped'),
    ('payout_review', 'reinstating'),
    ('payout_review', 'payout_review');
