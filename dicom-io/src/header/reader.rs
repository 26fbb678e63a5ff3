//! Reading a header piece by piece, as P-DATA brings it.

use dicom::core::Tag;
use dicom::dictionary_std::{tags, uids};
use dicom::object::InMemDicomObject;
use dicom_types::{ParseUidError, TransferSyntaxUid};
use flate2::{Decompress, FlushDecompress, Status};

use super::element::Layout;
use super::scanner::Scanner;
use super::{HeaderLimits, InstanceHeader, ReadHeaderError, RequiredUid, dataset};

/// Most bytes that a header may inflate to: a kilobyte on the wire can become a megabyte of work.
const MAX_INFLATED_BYTES: u64 = 64 << 20;

/// Takes the bytes of a data set in a known transfer syntax until Pixel Data is reached.
///
/// Bytes that arrive after that are ignored, so that a caller may go on feeding a whole data set.
#[derive(Debug)]
pub struct HeaderReader {
    transfer_syntax_uid: TransferSyntaxUid,
    limits: HeaderLimits,
    scanner: Scanner,
    inflater: Option<Inflater>,
}

impl HeaderReader {
    /// Starts a header in `transfer_syntax_uid`.
    ///
    /// # Errors
    /// [`ReadHeaderError::TransferSyntax`] when the layout of data sets in it is unknown.
    pub fn new(
        transfer_syntax_uid: TransferSyntaxUid,
        limits: HeaderLimits,
    ) -> Result<Self, ReadHeaderError> {
        let Some(layout) = layout_of(transfer_syntax_uid.as_str()) else {
            return Err(ReadHeaderError::TransferSyntax(transfer_syntax_uid));
        };
        let inflater = is_deflated(transfer_syntax_uid.as_str()).then(Inflater::new);
        let mut limits = limits;
        if inflater.is_some() {
            limits.max_bytes = limits.max_bytes.min(MAX_INFLATED_BYTES);
        }
        Ok(Self { transfer_syntax_uid, limits, scanner: Scanner::new(layout, limits), inflater })
    }

    /// Takes the next bytes of the data set.
    ///
    /// # Errors
    /// [`ReadHeaderError`] as soon as a limit is passed or the encoding is broken; the reader is of no use then.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), ReadHeaderError> {
        if self.scanner.is_complete() {
            return Ok(());
        }
        match &mut self.inflater {
            None => self.scanner.feed(bytes),
            Some(inflater) => inflater.inflate(bytes, &mut self.scanner),
        }
    }

    /// Whether Pixel Data was reached, so that [`HeaderReader::finish`] may be called before the data set ends.
    pub fn is_complete(&self) -> bool {
        self.scanner.is_complete()
    }

    fn build(&mut self) -> Result<InMemDicomObject, ReadHeaderError> {
        self.scanner.finish()?;
        dataset::build(self.scanner.kept(), self.scanner.layout(), self.limits.max_depth + 1)
    }

    /// Ends the header, at Pixel Data or at the end of the data set.
    ///
    /// # Errors
    /// [`ReadHeaderError::Truncated`] when the data set ends inside an element, [`ReadHeaderError::MissingUid`] or
    /// [`ReadHeaderError::InvalidUid`] when a unique identifier that names the instance is no good.
    pub fn finish(mut self) -> Result<InstanceHeader, ReadHeaderError> {
        let has_pixel_data = self.scanner.is_complete();
        let dataset = self.build()?;
        Ok(InstanceHeader {
            sop_class_uid: uid(&dataset, tags::SOP_CLASS_UID, RequiredUid::SopClass)?,
            sop_instance_uid: uid(&dataset, tags::SOP_INSTANCE_UID, RequiredUid::SopInstance)?,
            study_instance_uid: uid(
                &dataset,
                tags::STUDY_INSTANCE_UID,
                RequiredUid::StudyInstance,
            )?,
            series_instance_uid: uid(
                &dataset,
                tags::SERIES_INSTANCE_UID,
                RequiredUid::SeriesInstance,
            )?,
            transfer_syntax_uid: self.transfer_syntax_uid,
            modality: text(&dataset, tags::MODALITY),
            dataset,
            dataset_offset: 0,
            pixel_data_offset: has_pixel_data.then(|| self.scanner.offset()),
        })
    }
}

/// Reads a whole data set that is no instance: what comes with a request of another service.
pub(crate) fn read_dataset(
    bytes: &[u8],
    transfer_syntax_uid: &TransferSyntaxUid,
    limits: HeaderLimits,
) -> Result<InMemDicomObject, ReadHeaderError> {
    let mut reader = HeaderReader::new(transfer_syntax_uid.clone(), limits)?;
    reader.feed(bytes)?;
    reader.build()
}

fn uid<T>(
    dataset: &InMemDicomObject,
    tag: Tag,
    attribute: RequiredUid,
) -> Result<T, ReadHeaderError>
where
    T: std::str::FromStr<Err = ParseUidError>,
{
    let text = text(dataset, tag).ok_or(ReadHeaderError::MissingUid { attribute })?;
    text.parse().map_err(|source| ReadHeaderError::InvalidUid { attribute, source })
}

fn text(dataset: &InMemDicomObject, tag: Tag) -> Option<String> {
    let element = dataset.get(tag)?;
    let text = element.to_str().ok()?;
    let text = text.trim_matches([' ', '\0']);
    (!text.is_empty()).then(|| text.to_owned())
}

/// How data sets in a transfer syntax are laid out, by its UID.
fn layout_of(uid: &str) -> Option<Layout> {
    #[expect(deprecated, reason = "explicit big endian is retired, and modalities still send it")]
    let explicit_big = uids::EXPLICIT_VR_BIG_ENDIAN;
    match uid {
        uids::IMPLICIT_VR_LITTLE_ENDIAN => Some(Layout::ImplicitLittle),
        uids::EXPLICIT_VR_LITTLE_ENDIAN => Some(Layout::ExplicitLittle),
        // Every encapsulated syntax is explicit little endian outside Pixel Data (PS3.5 A.4).
        _ if uid == explicit_big => Some(Layout::ExplicitBig),
        _ if uid.starts_with("1.2.840.10008.1.2.") => Some(Layout::ExplicitLittle),
        _ => None,
    }
}

fn is_deflated(uid: &str) -> bool {
    matches!(uid, uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
}

/// Inflates a raw deflate stream (PS3.5 A.5) in steps of a fixed size.
#[derive(Debug)]
struct Inflater {
    state: Decompress,
    output: Vec<u8>,
    has_ended: bool,
}

impl Inflater {
    fn new() -> Self {
        Self { state: Decompress::new(false), output: vec![0; 16 * 1024], has_ended: false }
    }

    fn inflate(&mut self, mut bytes: &[u8], scanner: &mut Scanner) -> Result<(), ReadHeaderError> {
        while !self.has_ended && !scanner.is_complete() {
            let (input_before, output_before) = (self.state.total_in(), self.state.total_out());
            let status = self
                .state
                .decompress(bytes, &mut self.output, FlushDecompress::None)
                .map_err(|_| ReadHeaderError::Inflate)?;
            let consumed = (self.state.total_in() - input_before) as usize;
            let produced = (self.state.total_out() - output_before) as usize;
            bytes = bytes.get(consumed..).unwrap_or_default();
            scanner.feed(&self.output[..produced])?;
            self.has_ended = status == Status::StreamEnd;
            if consumed == 0 && produced == 0 {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::DeflateEncoder;

    use super::*;

    #[test]
    fn a_small_stream_that_inflates_without_end_is_refused() {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        let zeros = vec![0; 1 << 20];
        for _ in 0..100 {
            // A private element of 1 MiB, again and again: each alone is within every limit.
            encoder.write_all(&[9, 0, 0x10, 0x10, b'O', b'B', 0, 0, 0, 0, 0x10, 0]).unwrap();
            encoder.write_all(&zeros).unwrap();
        }
        let bomb = encoder.finish().unwrap();
        let syntax = uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN.parse().unwrap();
        let mut reader = HeaderReader::new(syntax, HeaderLimits::for_receiving()).unwrap();

        let error = reader.feed(&bomb).unwrap_err();

        assert!(bomb.len() < 1 << 20);
        assert!(
            matches!(error, ReadHeaderError::TooLarge { limit: MAX_INFLATED_BYTES }),
            "{error:?}"
        );
    }
}
