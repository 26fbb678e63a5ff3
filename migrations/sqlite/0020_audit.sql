-- Questions about kinds of events, and a ledger that only grows. Building the index reads the ledger once and locks
-- out appends meanwhile: some seconds for ten million entries.

create index event_by_kind on event (kind, seq);

create trigger ledger_head_only_advances before update on ledger_head
when new.head_id <> old.head_id or new.seq <= old.seq
begin
    select raise(abort, 'the ledger is append-only');
end;
