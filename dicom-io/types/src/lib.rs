#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod ae_title;
mod geometry;
mod mask;
mod modality;
mod phi;
mod uid;
mod volume;

pub use ae_title::{AeTitle, ParseAeTitleError};
pub use geometry::{GeometryError, GridGeometry};
pub use mask::{Mask, MaskBox, MaskError};
pub use modality::{Modality, ParseModalityError};
pub use phi::Phi;
pub use uid::{
    FrameOfReferenceUid, ParseUidError, SeriesInstanceUid, SopClassUid, SopInstanceUid,
    StudyInstanceUid, TransactionUid, TransferSyntaxUid,
};
pub use volume::{Volume, VolumeError};
