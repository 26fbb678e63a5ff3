//! The words of a job: states, priorities, forms of result.

use crate::words::words;

words! {
    /// Where a job stands.
    JobState, ParseJobStateError;
    /// Waits for a person to release it.
    Held = "held",
    /// Waits for a worker, at once or from some time on.
    Queued = "queued",
    /// A worker has it on lease.
    Running = "running",
    /// Has results.
    Done = "done",
    /// Ended without a voxel in any target.
    Empty = "empty",
    /// Cannot be done, for a reason that is not the input's: a refused model, say.
    Failed = "failed",
    /// Its input cannot be processed.
    Rejected = "rejected",
    /// Used up its attempts; a person may release it.
    Quarantined = "quarantined",
    /// A newer job of the same protocol on the same series took its place.
    Superseded = "superseded",
    /// A person cancelled it.
    Cancelled = "cancelled",
}

impl JobState {
    /// Whether nothing more happens to the job by itself.
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Held | Self::Queued | Self::Running)
    }
}

words! {
    /// How soon a job is wanted; the first is the most urgent.
    Priority, ParsePriorityError;
    /// Someone is waiting.
    Stat = "stat",
    /// Before routine work.
    Urgent = "urgent",
    /// The day's work.
    Routine = "routine",
    /// Old studies, when nothing else is waiting.
    Backfill = "backfill",
}

impl Priority {
    /// 0 for the most urgent to 3.
    pub const fn rank(self) -> u8 {
        match self {
            Self::Stat => 0,
            Self::Urgent => 1,
            Self::Routine => 2,
            Self::Backfill => 3,
        }
    }

    pub(crate) fn from_rank(rank: i64) -> Option<Self> {
        Self::ALL.iter().copied().find(|priority| i64::from(priority.rank()) == rank)
    }
}

words! {
    /// Which jobs a job competes with, and whether its results leave the house.
    Lane, ParseLaneError;
    /// What the hospital waits for.
    Production = "production",
    /// A candidate's job beside one of production: it runs when nothing else waits, and its results go nowhere.
    Shadow = "shadow",
}

words! {
    /// The form of a result.
    ResultForm, ParseResultFormError;
    /// DICOM Segmentation, BINARY.
    Seg = "seg",
    /// DICOM Segmentation, LABELMAP.
    Labelmap = "labelmap",
    /// DICOM Structured Report with measurements.
    Sr = "sr",
    /// Secondary Capture pictures.
    Picture = "picture",
    /// RT Structure Set.
    Rtstruct = "rtstruct",
    /// DICOM Key Object Selection that retracts other results.
    RejectionNote = "rejection_note",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_follow_the_order_of_urgency() {
        let ranks: Vec<u8> = Priority::ALL.iter().map(|priority| priority.rank()).collect();

        assert_eq!(ranks, [0, 1, 2, 3]);
        assert_eq!(Priority::from_rank(3), Some(Priority::Backfill));
        assert_eq!(Priority::from_rank(4), None);
    }
}
