//! Whether the PACS has more of a series than came.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use dicom_io::scu::{self, ScuConfig, count_instances};
use dicom_types::SeriesInstanceUid;
use prosector_storage::SettleCandidate;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::Mutex;

use crate::config::{Config, DestinationKind};
use crate::deliver;
use crate::self_test;

/// Time between two questions about a series that is not whole, and after a PACS that did not answer.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A PACS that is asked (C-FIND) how many instances a series has.
#[derive(Debug)]
pub(crate) struct PacsQuery {
    name: String,
    peer: scu::Destination,
    config: ScuConfig,
    /// Silence of a series after which its answer does not matter any more.
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Series that are not whole: at which revision, and when to ask again.
    waiting: HashMap<SeriesInstanceUid, (u64, Instant)>,
    /// When to ask again after no answer, so that a PACS that is away holds nothing up.
    away_until: Option<Instant>,
}

/// What the answer means for a series.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Completeness {
    /// It counts as complete; the evidence.
    Complete(Value),
    /// More is expected.
    Waits,
}

impl PacsQuery {
    /// The PACS that the configuration names, if it names one.
    pub(crate) fn of(config: &Config) -> Option<Self> {
        let name = config.completeness.query.as_ref()?;
        let destination = config.destinations.iter().find(|known| known.name == *name)?;
        let DestinationKind::Dimse(peer) = &destination.kind else { return None };
        Some(Self {
            name: name.clone(),
            peer: deliver::peer(peer),
            config: deliver::patience(peer),
            patience: config.completeness.query_patience,
            state: Mutex::default(),
        })
    }

    /// Asks about a series that has been quiet for long enough.
    pub(super) async fn completeness(&self, candidate: &SettleCandidate) -> Completeness {
        let SettleCandidate { study_instance_uid: study, series_instance_uid: series, .. } =
            candidate;
        if self_test::is_phantom(study, series) {
            return Completeness::Complete(Value::Null);
        }
        let mut state = self.state.lock().await;
        let now = Instant::now();
        if let Some((revision, next)) = state.waiting.get(series)
            && *revision == candidate.revision
            && now < *next
        {
            return Completeness::Waits;
        }
        if state.away_until.is_some_and(|until| now < until) {
            return Completeness::Complete(json!({ "source": self.name, "answered": false }));
        }
        let pause = (self.patience / 10).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        let counted = match count_instances(&self.peer, study, series, &self.config).await {
            Ok(counted) => counted,
            Err(error) => {
                tracing::warn!(
                    error = format!("{:#}", anyhow::Error::new(error)),
                    destination = self.name,
                    series.uid = %series,
                    "the PACS does not say how many instances the series has"
                );
                state.away_until = Some(Instant::now() + LONGEST_PAUSE);
                return Completeness::Complete(json!({ "source": self.name, "answered": false }));
            }
        };
        let missing = counted.unwrap_or_default().saturating_sub(candidate.instance_count);
        let silence = OffsetDateTime::now_utc() - candidate.last_received_at;
        if missing > 0 && silence < self.patience {
            tracing::info!(series.uid = %series, missing, "the PACS has more of the series");
            state.waiting.insert(series.clone(), (candidate.revision, Instant::now() + pause));
            return Completeness::Waits;
        }
        state.waiting.remove(series);
        Completeness::Complete(json!({
            "source": self.name, "answered": true, "instances": counted, "missing": missing,
        }))
    }
}
