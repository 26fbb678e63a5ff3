-- The first schema. Nothing to lock, nothing to backfill.
-- Times are UTC in ISO 8601 with six decimals, so that text order is time order; identifiers of ours are UUIDs as
-- text; digests are SHA-256; sizes are bytes.

create table study (
    study_instance_uid text primary key check (length(study_instance_uid) between 1 and 64),
    first_received_at text not null,
    last_received_at text not null
) strict;
create index study_by_arrival on study (first_received_at, study_instance_uid);

create table series (
    series_instance_uid text primary key check (length(series_instance_uid) between 1 and 64),
    study_instance_uid text not null references study (study_instance_uid),
    modality text check (length(modality) between 1 and 16),
    first_received_at text not null,
    last_received_at text not null,
    instance_count integer not null default 0 check (instance_count >= 0),
    revision integer not null default 0,
    settled_revision integer not null default 0,
    settled_at text,
    check (settled_revision between 0 and revision),
    check ((settled_revision = 0) = (settled_at is null))
) strict;
create index series_by_study on series (study_instance_uid);
create index series_unsettled on series (last_received_at) where revision > settled_revision;

-- Restricted: readable by writer and auditor alone. Nothing else holds these two identifiers.
create table patient_identity (
    study_instance_uid text not null references study (study_instance_uid),
    patient_id text not null,
    accession_number text not null,
    recorded_at text not null,
    primary key (study_instance_uid, patient_id, accession_number)
) strict;
create index patient_identity_by_patient on patient_identity (patient_id);
create index patient_identity_by_accession on patient_identity (accession_number);

-- Restricted: what routing rules and their replay need to know of a series, never a name or an identifier.
create table header_fact (
    series_instance_uid text primary key references series (series_instance_uid),
    facts text not null,
    recorded_at text not null
) strict;

create table association (
    association_id text primary key,
    listener text not null,
    calling_ae_title text not null,
    called_ae_title text not null,
    peer_address text not null,
    started_at text not null,
    ended_at text,
    outcome text not null check (outcome in ('open', 'released', 'aborted', 'lost', 'rejected')),
    reason_code text,
    instance_count integer not null default 0,
    refused_count integer not null default 0,
    received_bytes integer not null default 0,
    check ((outcome = 'open') = (ended_at is null))
) strict;
create index association_by_start on association (started_at);
create index association_open on association (listener) where ended_at is null;

create table instance (
    sop_instance_uid text primary key check (length(sop_instance_uid) between 1 and 64),
    series_instance_uid text not null references series (series_instance_uid),
    sop_class_uid text not null,
    transfer_syntax_uid text not null,
    instance_number integer,
    sha256 blob not null check (length(sha256) = 32),
    size_bytes integer not null check (size_bytes >= 0),
    spool_key text not null unique,
    received_at text not null,
    association_id text references association (association_id),
    purged_at text
) strict;
create index instance_by_series on instance (series_instance_uid);

-- The same SOP Instance UID once more: the same bytes, other bytes, or a result of ours that came back.
create table instance_copy (
    instance_copy_id integer primary key,
    sop_instance_uid text not null,
    study_instance_uid text not null,
    series_instance_uid text not null,
    kind text not null check (kind in ('duplicate', 'conflict', 'own_result')),
    reason_code text not null,
    transfer_syntax_uid text not null,
    sha256 blob not null check (length(sha256) = 32),
    size_bytes integer not null,
    spool_key text,
    received_at text not null,
    association_id text references association (association_id),
    check ((kind = 'conflict') = (spool_key is not null))
) strict;
create index instance_copy_by_instance on instance_copy (sop_instance_uid);
create index instance_copy_by_series on instance_copy (series_instance_uid);
create index instance_copy_by_spool_key on instance_copy (spool_key) where spool_key is not null;

-- One row each time that a series was found complete, with the evidence for it.
create table settlement (
    series_instance_uid text not null references series (series_instance_uid),
    revision integer not null,
    instance_count integer not null,
    instances_sha256 blob not null check (length(instances_sha256) = 32),
    evidence text not null,
    settled_at text not null,
    primary key (series_instance_uid, revision)
) strict;

create table protocol_revision (
    protocol_revision_sha256 blob primary key check (length(protocol_revision_sha256) = 32),
    protocol_name text not null,
    definition text not null,
    first_seen_at text not null
) strict;

create table decision (
    decision_id integer primary key,
    series_instance_uid text not null,
    revision integer not null,
    protocol_name text,
    outcome text not null check (outcome in ('matched', 'not_matched', 'refused')),
    reason_code text not null,
    reason text not null,
    decided_at text not null,
    foreign key (series_instance_uid, revision) references settlement (series_instance_uid, revision)
) strict;
create index decision_by_series on decision (series_instance_uid, revision);

create table job (
    job_id text primary key,
    series_instance_uid text not null references series (series_instance_uid),
    protocol_name text not null,
    protocol_revision_sha256 blob not null references protocol_revision (protocol_revision_sha256),
    pack_digest blob not null check (length(pack_digest) = 32),
    priority integer not null check (priority between 0 and 3),
    state text not null check (state in ('held', 'queued', 'running', 'done', 'empty', 'failed', 'rejected',
                                         'quarantined', 'superseded', 'cancelled')),
    reason_code text,
    reason text,
    attempt integer not null default 0 check (attempt >= 0),
    lease_number integer not null default 0,
    lease_owner text,
    lease_expires_at text,
    next_attempt_at text not null,
    published_at text,
    created_at text not null,
    started_at text,
    finished_at text,
    superseded_by text references job (job_id),
    check ((state = 'running') = (lease_owner is not null)),
    check ((state = 'running') = (lease_expires_at is not null)),
    check ((state in ('held', 'queued', 'running')) = (finished_at is null)),
    check ((state = 'superseded') = (superseded_by is not null))
) strict;
create index job_by_series on job (series_instance_uid, protocol_name);
create index job_by_creation on job (created_at, job_id);
create index job_queued on job (priority, created_at) where state = 'queued';
create index job_running on job (lease_expires_at) where state = 'running';
create index job_by_state on job (state, created_at);

create table job_instance (
    job_id text not null references job (job_id),
    sop_instance_uid text not null references instance (sop_instance_uid),
    primary key (job_id, sop_instance_uid)
) strict;
create index job_instance_by_instance on job_instance (sop_instance_uid);

create table job_target (
    job_id text not null references job (job_id),
    target_number integer not null check (target_number > 0),
    prompt text not null,
    segment_number integer check (segment_number > 0),
    voxel_count integer not null check (voxel_count >= 0),
    volume_ml real not null check (volume_ml >= 0),
    primary key (job_id, target_number)
) strict;

-- Jobs that the queue has to hear of.
create table outbox (
    job_id text primary key references job (job_id),
    enqueued_at text not null,
    not_before text not null,
    claimed_until text
) strict;
create index outbox_by_time on outbox (not_before);

create table result (
    sop_instance_uid text primary key,
    series_instance_uid text not null,
    sop_class_uid text not null,
    job_id text not null references job (job_id),
    form text not null check (form in ('seg', 'labelmap', 'sr', 'picture', 'rtstruct')),
    sha256 blob not null check (length(sha256) = 32),
    size_bytes integer not null check (size_bytes >= 0),
    spool_key text not null unique,
    created_at text not null,
    purged_at text
) strict;
create index result_by_job on result (job_id);
create index result_by_series on result (series_instance_uid);

create table delivery (
    delivery_id text primary key,
    sop_instance_uid text not null references result (sop_instance_uid),
    job_id text not null references job (job_id),
    destination text not null,
    state text not null check (state in ('pending', 'sending', 'delivered', 'failed', 'cancelled')),
    attempt integer not null default 0 check (attempt >= 0),
    lease_number integer not null default 0,
    lease_owner text,
    lease_expires_at text,
    next_attempt_at text not null,
    last_status integer,
    reason_code text,
    created_at text not null,
    delivered_at text,
    unique (sop_instance_uid, destination),
    check ((state = 'sending') = (lease_owner is not null)),
    check ((state = 'sending') = (lease_expires_at is not null)),
    check ((state = 'delivered') = (delivered_at is not null))
) strict;
create index delivery_by_job on delivery (job_id);
create index delivery_pending on delivery (destination, next_attempt_at) where state = 'pending';
create index delivery_sending on delivery (lease_expires_at) where state = 'sending';

-- The ledger. `detail` is kept as written: the hash covers its bytes.
create table event (
    seq integer primary key check (seq > 0),
    recorded_at text not null,
    kind text not null,
    reason_code text,
    actor text not null,
    study_instance_uid text,
    series_instance_uid text,
    sop_instance_uid text,
    job_id text,
    association_id text,
    destination text,
    detail text not null,
    previous_hash blob not null check (length(previous_hash) = 32),
    hash blob not null unique check (length(hash) = 32)
) strict;
create index event_by_study on event (study_instance_uid, seq) where study_instance_uid is not null;
create index event_by_series on event (series_instance_uid, seq) where series_instance_uid is not null;
create index event_by_instance on event (sop_instance_uid, seq) where sop_instance_uid is not null;
create index event_by_job on event (job_id, seq) where job_id is not null;
create index event_by_time on event (recorded_at, seq);

create table ledger_head (
    head_id integer primary key check (head_id = 1),
    seq integer not null,
    hash blob not null check (length(hash) = 32),
    recorded_at text not null
) strict;
insert into ledger_head (head_id, seq, hash, recorded_at)
values (1, 0, zeroblob(32), '1970-01-01T00:00:00.000000Z');

create trigger event_is_never_updated before update on event
begin
    select raise(abort, 'the ledger is append-only');
end;
create trigger event_is_never_deleted before delete on event
begin
    select raise(abort, 'the ledger is append-only');
end;
create trigger ledger_head_stays before delete on ledger_head
begin
    select raise(abort, 'the ledger is append-only');
end;
