-- Indexes for the page and for metrics, so that they answer in the same time whatever the history holds.
-- Locks `delivery` against writing while it is built: seconds on ten million studies. Nothing to backfill.

create index delivery_by_state on delivery (state, created_at);
