//! How a transfer syntax encodes pixel data.

use dicom::dictionary_std::uids;

use crate::series::file::EXPLICIT_VR_BIG_ENDIAN;

/// Encoding of the pixel data of a transfer syntax that has a decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::series) enum Encoding {
    NativeLittle,
    NativeBig,
    /// Native pixels in a data set that is deflated as a whole.
    DeflatedDataset,
    /// Native pixels, one fragment a frame.
    EncapsulatedNative,
    /// Native pixels, each frame deflated.
    DeflatedFrames,
    Rle,
    JpegLossy,
    JpegLossless,
    JpegLs,
    Jpeg2000,
}

impl Encoding {
    /// `None` for a syntax without a decoder.
    pub(in crate::series) fn of(transfer_syntax_uid: &str) -> Option<Self> {
        match transfer_syntax_uid {
            uids::IMPLICIT_VR_LITTLE_ENDIAN | uids::EXPLICIT_VR_LITTLE_ENDIAN => {
                Some(Self::NativeLittle)
            }
            EXPLICIT_VR_BIG_ENDIAN => Some(Self::NativeBig),
            uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN => Some(Self::DeflatedDataset),
            uids::ENCAPSULATED_UNCOMPRESSED_EXPLICIT_VR_LITTLE_ENDIAN => {
                Some(Self::EncapsulatedNative)
            }
            uids::DEFLATED_IMAGE_FRAME_COMPRESSION => Some(Self::DeflatedFrames),
            uids::RLE_LOSSLESS => Some(Self::Rle),
            uids::JPEG_BASELINE8_BIT | uids::JPEG_EXTENDED12_BIT => Some(Self::JpegLossy),
            uids::JPEG_LOSSLESS | uids::JPEG_LOSSLESS_SV1 => Some(Self::JpegLossless),
            uids::JPEGLS_LOSSLESS | uids::JPEGLS_NEAR_LOSSLESS => Some(Self::JpegLs),
            uids::JPEG2000_LOSSLESS
            | uids::JPEG2000
            | uids::HTJ2K_LOSSLESS
            | uids::HTJ2K_LOSSLESS_RPCL
            | uids::HTJ2K => Some(Self::Jpeg2000),
            _ => None,
        }
    }

    /// Whether the pixel data is a sequence of fragments (PS3.5 A.4).
    pub(in crate::series) fn is_encapsulated(self) -> bool {
        !matches!(self, Self::NativeLittle | Self::NativeBig | Self::DeflatedDataset)
    }

    /// Whether no encoder of the syntax keeps every value.
    pub(in crate::series) fn is_always_lossy(self) -> bool {
        self == Self::JpegLossy
    }

    /// What errors call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NativeLittle | Self::NativeBig | Self::EncapsulatedNative => "native",
            Self::DeflatedDataset | Self::DeflatedFrames => "deflate",
            Self::Rle => "RLE",
            Self::JpegLossy | Self::JpegLossless => "JPEG",
            Self::JpegLs => "JPEG-LS",
            Self::Jpeg2000 => "JPEG 2000",
        }
    }
}

/// Whether all pixel data in this transfer syntax can be decoded.
///
/// What a storage SCP should accept: a syntax outside this set is refused when an association is negotiated. JPEG
/// Extended is outside: files with 8 bits in it are read, but those with 12, which scanners send, are not.
pub fn can_decode(transfer_syntax_uid: &str) -> bool {
    transfer_syntax_uid != uids::JPEG_EXTENDED12_BIT && Encoding::of(transfer_syntax_uid).is_some()
}
