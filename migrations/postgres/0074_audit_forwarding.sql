-- How far the audit repository has been told of the ledger, which is the outbox of audit messages. One row, made when a
-- repository is first configured. Nothing is locked, nothing is backfilled.

create table audit_forwarding (
    forwarding_id bigint primary key check (forwarding_id = 1),
    forwarded_seq bigint not null check (forwarded_seq >= 0),
    message_count bigint not null check (message_count >= 0),
    until_seq bigint check (until_seq > forwarded_seq),
    claimed_by text,
    claimed_until timestamptz,
    check ((until_seq is null) = (claimed_by is null)),
    check ((until_seq is null) = (claimed_until is null))
);
