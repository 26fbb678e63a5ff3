-- Storage commitment. The check of `delivery.state` is widened in the schema's own text, as SQLite's documentation has
-- it for changes that touch no row (lang_altertable, section 7): nothing is copied, nothing is backfilled. The program
-- that still runs writes no state that the new check refuses.

pragma writable_schema = on;
update sqlite_master
   set sql = replace(sql, '''sending'', ''delivered''', '''sending'', ''sent'', ''delivered''')
 where type = 'table' and name = 'delivery';
pragma writable_schema = reset;

alter table delivery add column sent_at text check (state <> 'sent' or sent_at is not null);
alter table delivery add column transaction_uid text check (length(transaction_uid) between 1 and 64);
create index delivery_sent on delivery (destination, next_attempt_at) where state = 'sent';
create index delivery_by_transaction on delivery (transaction_uid) where transaction_uid is not null;

-- Requests of senders that want to be sure of what they sent, and our reports.
create table commitment (
    transaction_uid text not null check (length(transaction_uid) between 1 and 64),
    calling_ae_title text not null,
    called_ae_title text not null,
    report text not null,
    state text not null check (state in ('pending', 'reported', 'failed')),
    attempt integer not null default 0,
    requested_at text not null,
    next_attempt_at text not null,
    reported_at text,
    primary key (calling_ae_title, transaction_uid),
    check ((state = 'reported') = (reported_at is not null))
) strict;
create index commitment_pending on commitment (next_attempt_at) where state = 'pending';
