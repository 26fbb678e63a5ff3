-- Results that were recalled, and the rejection notes that retract them. SQLite has no way to change a check but to
-- write the table's text anew, which its documentation allows for checks; no row is touched.

pragma writable_schema = on;
update sqlite_schema
   set sql = replace(sql, '''picture'', ''rtstruct'')', '''picture'', ''rtstruct'', ''rejection_note'')')
 where type = 'table' and name = 'result';
pragma writable_schema = reset;

create table recall (
    recall_id text primary key,
    subject text not null,
    since text,
    reason_code text not null,
    ordered_by text not null,
    ordered_at text not null
) strict;

create table recalled_result (
    sop_instance_uid text primary key references result,
    recall_id text not null references recall,
    note_sop_instance_uid text references result,
    recalled_at text not null
) strict;
create index recalled_result_by_recall on recalled_result (recall_id);

create index job_by_pack on job (pack_digest);
create index job_by_protocol on job (protocol_name);

create view audit_recalls as
select recalled_result.sop_instance_uid,
       job.job_id,
       series.study_instance_uid,
       job.series_instance_uid as source_series_instance_uid,
       job.protocol_name,
       lower(hex(job.pack_digest)) as pack_digest,
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
