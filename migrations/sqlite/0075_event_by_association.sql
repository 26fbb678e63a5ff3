-- `why` asks for the end of an association, and for what was refused on it: entries about no study. Building the index
-- reads the ledger once.

create index event_by_association on event (association_id, seq)
    where association_id is not null and study_instance_uid is null;
