//! Tests of dicom-io against files and peers that others wrote.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

mod fuzz;
mod header;
mod hostile;
mod orthanc;
mod peer;
mod phantom;
mod scp;
mod scu;
mod seg;
mod series;
