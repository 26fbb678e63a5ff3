-- A result knows which one it speaks of, so that a report goes out behind its segmentation and gives way to another
-- report where a destination takes another segmentation. One column without default: the catalogue alone changes, nothing
-- is backfilled, and results that are there go out as before.

-- SOP Instance UID of the result of the same job that this one refers to.
alter table result add column refers_to text;
