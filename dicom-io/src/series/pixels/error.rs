//! Why a frame cannot be decoded.

/// What went wrong in the pixel data of one frame. Nothing of the data is repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeFrameError {
    /// The decoder gave up.
    #[error("{codec} data is damaged: {message}")]
    Damaged {
        /// Name of the encoding.
        codec: &'static str,
        /// What the decoder said.
        message: String,
    },
    /// The decoder panicked.
    #[error("the {codec} decoder broke down")]
    Panicked {
        /// Name of the encoding.
        codec: &'static str,
    },
    /// The compressed image is not the one that the header describes.
    #[error("{codec} data holds an image of {found}, the header says {expected}")]
    Mismatch {
        /// Name of the encoding.
        codec: &'static str,
        /// Columns x rows x samples of the header.
        expected: String,
        /// The same of the compressed image.
        found: String,
    },
    /// A form of the encoding that has no decoder.
    #[error("{codec} data in a form that has no decoder: {what}")]
    Unsupported {
        /// Name of the encoding.
        codec: &'static str,
        /// What is unusual about it.
        what: &'static str,
    },
    /// Items, offset tables and Number of Frames do not fit each other.
    #[error("cannot tell the frames apart: {what}")]
    Fragments {
        /// What does not fit.
        what: &'static str,
    },
}

impl DecodeFrameError {
    pub(super) fn damaged(codec: &'static str, message: impl Into<String>) -> Self {
        Self::Damaged { codec, message: message.into() }
    }
}
