-- Storage commitment. The new check is validated while `delivery` is locked: well below a second for a million rows.
-- Nothing is backfilled.

alter table delivery drop constraint delivery_state_check;
alter table delivery add constraint delivery_state_check
    check (state in ('pending', 'sending', 'sent', 'delivered', 'failed', 'cancelled'));
alter table delivery add column sent_at timestamptz;
alter table delivery add column transaction_uid text check (length(transaction_uid) between 1 and 64);
alter table delivery add check (state <> 'sent' or sent_at is not null);
create index delivery_sent on delivery (destination, next_attempt_at) where state = 'sent';
create index delivery_by_transaction on delivery (transaction_uid) where transaction_uid is not null;
comment on column audit_deliveries.state is 'pending, sending, sent (storage commitment is awaited), delivered, failed or cancelled.';

-- Requests of senders that want to be sure of what they sent, and our reports.
create table commitment (
    transaction_uid text not null check (length(transaction_uid) between 1 and 64),
    calling_ae_title text not null,
    called_ae_title text not null,
    report text not null,
    state text not null check (state in ('pending', 'reported', 'failed')),
    attempt bigint not null default 0,
    requested_at timestamptz not null,
    next_attempt_at timestamptz not null,
    reported_at timestamptz,
    primary key (calling_ae_title, transaction_uid),
    check ((state = 'reported') = (reported_at is not null))
);
create index commitment_pending on commitment (next_attempt_at) where state = 'pending';
