-- Questions about kinds of events, and a ledger that only grows. Building the index reads the ledger once and locks
-- out appends meanwhile: some seconds for ten million entries.

create index event_by_kind on event (kind, seq);

-- Lists by time of arrival and by sender: reads the instances once, a minute for a hundred million.
create index instance_by_arrival on instance (received_at, sop_instance_uid);
create index instance_by_association on instance (association_id) where association_id is not null;
create index association_by_caller on association (calling_ae_title, started_at);

create trigger ledger_head_is_never_truncated before truncate on ledger_head
    for each statement execute function refuse_ledger_change();

create function refuse_ledger_retreat() returns trigger language plpgsql as $$
begin
    if new.head_id <> old.head_id or new.seq <= old.seq then
        raise exception 'the ledger is append-only' using errcode = 'insufficient_privilege';
    end if;
    return new;
end
$$;
create trigger ledger_head_only_advances before update on ledger_head
    for each row execute function refuse_ledger_retreat();
