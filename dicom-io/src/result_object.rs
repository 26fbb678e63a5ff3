//! An object as a file, whatever its form.

use std::fmt;

use dicom_types::{SeriesInstanceUid, SopClassUid, SopInstanceUid};

use crate::seg::sop::file_meta;
use crate::seg::writer::DataSetWriter;

/// An object of ours, ready to be kept and sent.
#[derive(Clone, PartialEq, Eq)]
pub struct ResultObject {
    /// Part 10 file in Explicit VR Little Endian.
    pub bytes: Vec<u8>,
    /// What it is.
    pub sop_class_uid: SopClassUid,
    /// Its series.
    pub series_instance_uid: SeriesInstanceUid,
    /// Its identity.
    pub sop_instance_uid: SopInstanceUid,
}

impl ResultObject {
    /// The file of a data set. `sop_class_uid` is a constant of the standard.
    pub(crate) fn of_dataset(
        sop_class_uid: &'static str,
        series_instance_uid: SeriesInstanceUid,
        sop_instance_uid: SopInstanceUid,
        dataset: DataSetWriter,
    ) -> Self {
        let sop_class_uid: SopClassUid =
            sop_class_uid.parse().expect("a constant UID is well formed");
        let mut bytes = file_meta(sop_class_uid.clone(), &sop_instance_uid).encode();
        bytes.extend_from_slice(&dataset.into_bytes());
        Self { bytes, sop_class_uid, series_instance_uid, sop_instance_uid }
    }
}

impl fmt::Debug for ResultObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResultObject")
            .field("bytes", &self.bytes.len())
            .field("sop_class_uid", &self.sop_class_uid)
            .field("series_instance_uid", &self.series_instance_uid)
            .field("sop_instance_uid", &self.sop_instance_uid)
            .finish()
    }
}
