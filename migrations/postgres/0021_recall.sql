-- Results that were recalled, and the rejection notes that retract them. The new check reads the results once and
-- locks them meanwhile: a second for ten million.

alter table result drop constraint result_form_check;
alter table result add constraint result_form_check
    check (form in ('seg', 'labelmap', 'sr', 'picture', 'rtstruct', 'rejection_note'));

create table recall (
    recall_id uuid primary key,
    subject text not null,
    since timestamptz,
    reason_code text not null,
    ordered_by text not null,
    ordered_at timestamptz not null
);

create table recalled_result (
    sop_instance_uid text primary key references result,
    recall_id uuid not null references recall,
    note_sop_instance_uid text references result,
    recalled_at timestamptz not null
);
create index recalled_result_by_recall on recalled_result (recall_id);

create index job_by_pack on job (pack_digest);
create index job_by_protocol on job (protocol_name);

create view audit_recalls as
select recalled_result.sop_instance_uid,
       job.job_id,
       series.study_instance_uid,
       job.series_instance_uid as source_series_instance_uid,
       job.protocol_name,
       encode(job.pack_digest, 'hex') as pack_digest,
       recall.subject,
       recall.reason_code,
       recall.ordered_by,
       recall.ordered_at,
       recalled_result.recalled_at,
       recalled_result.note_sop_instance_uid,
       (select count(*) from delivery
         where delivery.sop_instance_uid = recalled_result.note_sop_instance_uid) as note_count,
       (select count(*) from delivery
         where delivery.sop_instance_uid = recalled_result.note_sop_instance_uid
           and delivery.state = 'delivered') as delivered_note_count
  from recalled_result
  join recall on recall.recall_id = recalled_result.recall_id
  join result on result.sop_instance_uid = recalled_result.sop_instance_uid
  join job on job.job_id = result.job_id
  join series on series.series_instance_uid = job.series_instance_uid;
comment on view audit_recalls is 'One row for each result that was recalled.';
comment on column audit_recalls.sop_instance_uid is 'SOP Instance UID of the result.';
comment on column audit_recalls.job_id is 'The job that made it.';
comment on column audit_recalls.study_instance_uid is 'The study that it belongs to.';
comment on column audit_recalls.source_series_instance_uid is 'The series that was segmented.';
comment on column audit_recalls.protocol_name is 'Name of the protocol.';
comment on column audit_recalls.pack_digest is 'Digest of the model pack.';
comment on column audit_recalls.subject is 'What was recalled: a pack or a protocol.';
comment on column audit_recalls.reason_code is 'Why.';
comment on column audit_recalls.ordered_by is 'The process in which a person ordered it.';
comment on column audit_recalls.ordered_at is 'When it was ordered.';
comment on column audit_recalls.recalled_at is 'When this result was recalled.';
comment on column audit_recalls.note_sop_instance_uid is 'SOP Instance UID of the rejection note; none where the result had not been sent.';
comment on column audit_recalls.note_count is 'Destinations that the note goes to.';
comment on column audit_recalls.delivered_note_count is 'Destinations that have accepted it.';
