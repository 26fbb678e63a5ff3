-- Questions about kinds of events, and a ledger that only grows. Building the index reads the ledger once and locks
-- out appends meanwhile: some seconds for ten million entries.

create index event_by_kind on event (kind, seq);

-- Lists by time of arrival and by sender: reads the instances once, a minute for a hundred million.
create index instance_by_arrival on instance (received_at, sop_instance_uid);
create index instance_by_association on instance (association_id) where association_id is not null;
create index association_by_caller on association (calling_ae_title, started_at);

create trigger ledger_head_only_advances before update on ledger_head
when new.head_id <> old.head_id or new.seq <= old.seq
begin
    select raise(abort, 'the ledger is append-only');
end;
