-- The first schema. Nothing to lock, nothing to backfill.
-- Times are set by the database; digests are SHA-256; the sizes are bytes.

create table study (
    study_instance_uid text primary key check (length(study_instance_uid) between 1 and 64),
    first_received_at timestamptz not null,
    last_received_at timestamptz not null
);
create index study_by_arrival on study (first_received_at, study_instance_uid);

create table series (
    series_instance_uid text primary key check (length(series_instance_uid) between 1 and 64),
    study_instance_uid text not null references study,
    modality text check (length(modality) between 1 and 16),
    first_received_at timestamptz not null,
    last_received_at timestamptz not null,
    instance_count bigint not null default 0 check (instance_count >= 0),
    revision bigint not null default 0,
    settled_revision bigint not null default 0,
    settled_at timestamptz,
    check (settled_revision between 0 and revision),
    check ((settled_revision = 0) = (settled_at is null))
);
create index series_by_study on series (study_instance_uid);
create index series_unsettled on series (last_received_at) where revision > settled_revision;

-- Restricted: readable by writer and auditor alone. Nothing else holds these two identifiers.
create table patient_identity (
    study_instance_uid text not null references study,
    patient_id text not null,
    accession_number text not null,
    recorded_at timestamptz not null,
    primary key (study_instance_uid, patient_id, accession_number)
);
create index patient_identity_by_patient on patient_identity (patient_id);
create index patient_identity_by_accession on patient_identity (accession_number);

-- Restricted: what routing rules and their replay need to know of a series, never a name or an identifier.
create table header_fact (
    series_instance_uid text primary key references series,
    facts jsonb not null,
    recorded_at timestamptz not null
);

create table association (
    association_id uuid primary key,
    listener text not null,
    calling_ae_title text not null,
    called_ae_title text not null,
    peer_address text not null,
    started_at timestamptz not null,
    ended_at timestamptz,
    outcome text not null check (outcome in ('open', 'released', 'aborted', 'lost', 'rejected')),
    reason_code text,
    instance_count bigint not null default 0,
    refused_count bigint not null default 0,
    received_bytes bigint not null default 0,
    check ((outcome = 'open') = (ended_at is null))
);
create index association_by_start on association (started_at);
create index association_open on association (listener) where ended_at is null;

create table instance (
    sop_instance_uid text primary key check (length(sop_instance_uid) between 1 and 64),
    series_instance_uid text not null references series,
    sop_class_uid text not null,
    transfer_syntax_uid text not null,
    instance_number bigint,
    sha256 bytea not null check (length(sha256) = 32),
    size_bytes bigint not null check (size_bytes >= 0),
    spool_key text not null unique,
    received_at timestamptz not null,
    association_id uuid references association,
    purged_at timestamptz
);
create index instance_by_series on instance (series_instance_uid);

-- The same SOP Instance UID once more: the same bytes, other bytes, or a result of ours that came back.
create table instance_copy (
    instance_copy_id bigint generated always as identity primary key,
    sop_instance_uid text not null,
    study_instance_uid text not null,
    series_instance_uid text not null,
    kind text not null check (kind in ('duplicate', 'conflict', 'own_result')),
    reason_code text not null,
    transfer_syntax_uid text not null,
    sha256 bytea not null check (length(sha256) = 32),
    size_bytes bigint not null,
    spool_key text,
    received_at timestamptz not null,
    association_id uuid references association,
    check ((kind = 'conflict') = (spool_key is not null))
);
create index instance_copy_by_instance on instance_copy (sop_instance_uid);
create index instance_copy_by_series on instance_copy (series_instance_uid);
create index instance_copy_by_spool_key on instance_copy (spool_key) where spool_key is not null;

-- One row each time that a series was found complete, with the evidence for it.
create table settlement (
    series_instance_uid text not null references series,
    revision bigint not null,
    instance_count bigint not null,
    instances_sha256 bytea not null check (length(instances_sha256) = 32),
    evidence jsonb not null,
    settled_at timestamptz not null,
    primary key (series_instance_uid, revision)
);

create table protocol_revision (
    protocol_revision_sha256 bytea primary key check (length(protocol_revision_sha256) = 32),
    protocol_name text not null,
    definition text not null,
    first_seen_at timestamptz not null
);

create table decision (
    decision_id bigint generated always as identity primary key,
    series_instance_uid text not null,
    revision bigint not null,
    protocol_name text,
    outcome text not null check (outcome in ('matched', 'not_matched', 'refused')),
    reason_code text not null,
    reason text not null,
    decided_at timestamptz not null,
    foreign key (series_instance_uid, revision) references settlement
);
create index decision_by_series on decision (series_instance_uid, revision);

create table job (
    job_id uuid primary key,
    series_instance_uid text not null references series,
    protocol_name text not null,
    protocol_revision_sha256 bytea not null references protocol_revision,
    pack_digest bytea not null check (length(pack_digest) = 32),
    priority bigint not null check (priority between 0 and 3),
    state text not null check (state in ('held', 'queued', 'running', 'done', 'empty', 'failed', 'rejected',
                                         'quarantined', 'superseded', 'cancelled')),
    reason_code text,
    reason text,
    attempt bigint not null default 0 check (attempt >= 0),
    lease_number bigint not null default 0,
    lease_owner text,
    lease_expires_at timestamptz,
    next_attempt_at timestamptz not null,
    published_at timestamptz,
    created_at timestamptz not null,
    started_at timestamptz,
    finished_at timestamptz,
    superseded_by uuid references job,
    check ((state = 'running') = (lease_owner is not null)),
    check ((state = 'running') = (lease_expires_at is not null)),
    check ((state in ('held', 'queued', 'running')) = (finished_at is null)),
    check ((state = 'superseded') = (superseded_by is not null))
);
create index job_by_series on job (series_instance_uid, protocol_name);
create index job_by_creation on job (created_at, job_id);
create index job_queued on job (priority, created_at) where state = 'queued';
create index job_running on job (lease_expires_at) where state = 'running';
create index job_by_state on job (state, created_at);

create table job_instance (
    job_id uuid not null references job,
    sop_instance_uid text not null references instance,
    primary key (job_id, sop_instance_uid)
);
create index job_instance_by_instance on job_instance (sop_instance_uid);

create table job_target (
    job_id uuid not null references job,
    target_number bigint not null check (target_number > 0),
    prompt text not null,
    segment_number bigint check (segment_number > 0),
    voxel_count bigint not null check (voxel_count >= 0),
    volume_ml double precision not null check (volume_ml >= 0),
    primary key (job_id, target_number)
);

-- Jobs that the queue has to hear of.
create table outbox (
    job_id uuid primary key references job,
    enqueued_at timestamptz not null,
    not_before timestamptz not null,
    claimed_until timestamptz
);
create index outbox_by_time on outbox (not_before);

create table result (
    sop_instance_uid text primary key,
    series_instance_uid text not null,
    sop_class_uid text not null,
    job_id uuid not null references job,
    form text not null check (form in ('seg', 'labelmap', 'sr', 'picture', 'rtstruct')),
    sha256 bytea not null check (length(sha256) = 32),
    size_bytes bigint not null check (size_bytes >= 0),
    spool_key text not null unique,
    created_at timestamptz not null,
    purged_at timestamptz
);
create index result_by_job on result (job_id);
create index result_by_series on result (series_instance_uid);

create table delivery (
    delivery_id uuid primary key,
    sop_instance_uid text not null references result,
    job_id uuid not null references job,
    destination text not null,
    state text not null check (state in ('pending', 'sending', 'delivered', 'failed', 'cancelled')),
    attempt bigint not null default 0 check (attempt >= 0),
    lease_number bigint not null default 0,
    lease_owner text,
    lease_expires_at timestamptz,
    next_attempt_at timestamptz not null,
    last_status bigint,
    reason_code text,
    created_at timestamptz not null,
    delivered_at timestamptz,
    unique (sop_instance_uid, destination),
    check ((state = 'sending') = (lease_owner is not null)),
    check ((state = 'sending') = (lease_expires_at is not null)),
    check ((state = 'delivered') = (delivered_at is not null))
);
create index delivery_by_job on delivery (job_id);
create index delivery_pending on delivery (destination, next_attempt_at) where state = 'pending';
create index delivery_sending on delivery (lease_expires_at) where state = 'sending';

-- The ledger. `detail` is text, not jsonb: the hash covers its bytes.
create table event (
    seq bigint primary key check (seq > 0),
    recorded_at timestamptz not null,
    kind text not null,
    reason_code text,
    actor text not null,
    study_instance_uid text,
    series_instance_uid text,
    sop_instance_uid text,
    job_id uuid,
    association_id uuid,
    destination text,
    detail text not null,
    previous_hash bytea not null check (length(previous_hash) = 32),
    hash bytea not null unique check (length(hash) = 32)
);
create index event_by_study on event (study_instance_uid, seq) where study_instance_uid is not null;
create index event_by_series on event (series_instance_uid, seq) where series_instance_uid is not null;
create index event_by_instance on event (sop_instance_uid, seq) where sop_instance_uid is not null;
create index event_by_job on event (job_id, seq) where job_id is not null;
create index event_by_time on event (recorded_at, seq);

create table ledger_head (
    head_id bigint primary key check (head_id = 1),
    seq bigint not null,
    hash bytea not null check (length(hash) = 32),
    recorded_at timestamptz not null
);
insert into ledger_head (head_id, seq, hash, recorded_at)
values (1, 0, decode(repeat('00', 32), 'hex'), 'epoch');

create function refuse_ledger_change() returns trigger language plpgsql as $$
begin
    raise exception 'the ledger is append-only' using errcode = 'insufficient_privilege';
end
$$;
create trigger event_is_append_only before update or delete on event
    for each row execute function refuse_ledger_change();
create trigger event_is_never_truncated before truncate on event
    for each statement execute function refuse_ledger_change();
create trigger ledger_head_stays before delete on ledger_head
    for each row execute function refuse_ledger_change();
