//! The structural pass over a data set: bytes go in as they arrive, the prefix in front of Pixel Data stays.

use dicom::core::Tag;
use dicom::dictionary_std::tags;

use super::element::{
    Decoded, ElementHeader, ITEM, ITEM_DELIMITATION, Layout, SEQUENCE_DELIMITATION,
    UNDEFINED_LENGTH, decode_header,
};
use super::{HeaderLimits, ReadHeaderError};

/// Walks a data set element by element without looking at values.
///
/// Memory is bounded by the limits, whatever lengths the peer states: elements above `skip_element_bytes` are
/// passed over, everything else counts towards `max_kept_bytes`.
#[derive(Debug)]
pub(super) struct Scanner {
    layout: Layout,
    limits: HeaderLimits,
    /// Kept elements, then bytes not yet walked.
    kept: Vec<u8>,
    /// Everything in front of this index of `kept` has been walked.
    position: usize,
    /// Bytes that were walked and dropped from `kept`.
    dropped: u64,
    /// Where the current top-level element starts in `kept`.
    element_start: usize,
    /// Bytes of the current top-level element that were dropped already.
    element_dropped: u64,
    /// Bytes of the current value still to pass.
    pending: u64,
    frames: Vec<Frame>,
    elements: usize,
    /// Value of `elements` in front of the current top-level element.
    elements_before: usize,
    complete: bool,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    kind: FrameKind,
    layout: Layout,
    /// Offset in the data set one past the last byte; `None` for a delimited one.
    end: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FrameKind {
    Sequence,
    Item,
    Fragments,
}

impl Scanner {
    pub(super) fn new(layout: Layout, limits: HeaderLimits) -> Self {
        Self {
            layout,
            limits,
            kept: Vec::new(),
            position: 0,
            dropped: 0,
            element_start: 0,
            element_dropped: 0,
            pending: 0,
            frames: Vec::new(),
            elements: 0,
            elements_before: 0,
            complete: false,
        }
    }

    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether Pixel Data was reached.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Offset in the data set up to which elements have been walked.
    pub(super) fn offset(&self) -> u64 {
        self.dropped + self.position as u64
    }

    /// The elements kept so far, whole ones only once the scan is over.
    pub(super) fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// Takes the next bytes of the data set; those behind the start of Pixel Data are ignored.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), ReadHeaderError> {
        // Pieces keep the overshoot behind a skipped or last element small.
        for piece in bytes.chunks(16 * 1024) {
            if self.complete {
                return Ok(());
            }
            self.kept.extend_from_slice(piece);
            self.walk()?;
        }
        Ok(())
    }

    /// Ends the data set: what was kept must be whole elements.
    pub(super) fn finish(&mut self) -> Result<(), ReadHeaderError> {
        if self.complete {
            return Ok(());
        }
        let rest = self.kept.get(self.position..).unwrap_or_default();
        let is_padding = rest.len() < 8 && rest.iter().all(|&byte| byte == 0);
        if !self.frames.is_empty() || self.pending > 0 || !is_padding {
            return Err(ReadHeaderError::Truncated { offset: self.offset() });
        }
        self.kept.truncate(self.position);
        self.complete = true;
        Ok(())
    }

    fn walk(&mut self) -> Result<(), ReadHeaderError> {
        loop {
            let available = (self.kept.len() - self.position) as u64;
            let passed = self.pending.min(available);
            self.position += passed as usize;
            self.pending -= passed;
            self.close_frames();
            self.drop_large_element();
            if self.pending > 0 {
                break;
            }
            let layout = self.frames.last().map_or(self.layout, |frame| frame.layout);
            let header = match decode_header(&self.kept[self.position..], layout) {
                Decoded::Header(header) => header,
                Decoded::Incomplete => break,
                Decoded::BadRepresentation(tag) => {
                    // Zeros behind the last element of a file are padding that some writers leave.
                    if self.frames.is_empty() && tag == Tag(0, 0) {
                        self.complete_here();
                        return Ok(());
                    }
                    return Err(ReadHeaderError::Malformed { tag, offset: self.offset() });
                }
            };
            if self.frames.is_empty() && is_pixel_data(header.tag) {
                self.complete_here();
                return Ok(());
            }
            self.enter(header)?;
        }
        let kept_limit = self.limits.max_kept_bytes;
        if self.position > kept_limit {
            return Err(ReadHeaderError::TooLarge { limit: kept_limit as u64 });
        }
        Ok(())
    }

    fn complete_here(&mut self) {
        self.kept.truncate(self.position);
        self.complete = true;
    }

    fn enter(&mut self, header: ElementHeader) -> Result<(), ReadHeaderError> {
        let start = self.offset();
        let malformed = ReadHeaderError::Malformed { tag: header.tag, offset: start };
        let frame = self.frames.last().copied();
        let is_top_level = frame.is_none();
        if is_top_level {
            self.element_start = self.position;
            self.element_dropped = 0;
            self.elements_before = self.elements;
        }
        self.elements += 1;
        if self.elements > self.limits.max_elements {
            return Err(ReadHeaderError::TooManyElements { limit: self.limits.max_elements });
        }
        let value_start = start + header.header_length as u64;
        let value_end = (header.length != UNDEFINED_LENGTH)
            .then(|| value_start.saturating_add(u64::from(header.length)));
        if value_end.unwrap_or(value_start) > self.limits.max_bytes {
            return Err(ReadHeaderError::TooLarge { limit: self.limits.max_bytes });
        }
        let enclosing_end = self.frames.iter().rev().find_map(|frame| frame.end);
        if enclosing_end.is_some_and(|enclosing| value_end.unwrap_or(value_start) > enclosing) {
            return Err(malformed);
        }

        self.position += header.header_length;
        match (frame.map(|frame| frame.kind), header.tag) {
            (Some(FrameKind::Sequence), ITEM) => {
                let layout = frame.map_or(self.layout, |frame| frame.layout);
                self.push(Frame { kind: FrameKind::Item, layout, end: value_end })
            }
            (Some(FrameKind::Fragments), ITEM) if header.length != UNDEFINED_LENGTH => {
                self.pending = u64::from(header.length);
                Ok(())
            }
            (Some(FrameKind::Sequence | FrameKind::Fragments), SEQUENCE_DELIMITATION)
            | (Some(FrameKind::Item), ITEM_DELIMITATION) => {
                let closed = self.frames.pop();
                let is_delimited = closed.is_some_and(|frame| frame.end.is_none());
                if is_delimited { Ok(()) } else { Err(malformed) }
            }
            (Some(FrameKind::Sequence | FrameKind::Fragments), _) => Err(malformed),
            (_, tag) if tag.0 == 0xFFFE => Err(malformed),
            (_, _) => {
                let layout = frame.map_or(self.layout, |frame| frame.layout);
                if header.holds_fragments() {
                    self.push(Frame { kind: FrameKind::Fragments, layout, end: None })
                } else if header.holds_items() {
                    let layout = header.layout_of_items(layout);
                    self.push(Frame { kind: FrameKind::Sequence, layout, end: value_end })
                } else {
                    self.pending = u64::from(header.length);
                    Ok(())
                }
            }
        }
    }

    fn push(&mut self, frame: Frame) -> Result<(), ReadHeaderError> {
        // A level of nesting is a sequence and an item in it.
        if self.frames.len() >= 2 * self.limits.max_depth {
            return Err(ReadHeaderError::TooDeep { limit: self.limits.max_depth });
        }
        self.frames.push(frame);
        Ok(())
    }

    /// Leaves every sequence and item of stated length that ends here.
    fn close_frames(&mut self) {
        if self.pending > 0 {
            return;
        }
        let offset = self.offset();
        while let Some(end) = self.frames.last().and_then(|frame| frame.end) {
            if offset < end {
                break;
            }
            debug_assert_eq!(offset, end, "children were checked against their parents");
            self.frames.pop();
        }
    }

    /// Drops what was walked of the current top-level element once that exceeds the limit for one element.
    fn drop_large_element(&mut self) {
        let Some(limit) = self.limits.skip_element_bytes else { return };
        let walked = (self.position - self.element_start) as u64 + self.element_dropped;
        if walked <= limit as u64 {
            return;
        }
        let removed = self.position - self.element_start;
        self.kept.drain(self.element_start..self.position);
        self.position = self.element_start;
        self.element_dropped += removed as u64;
        self.elements = self.elements_before;
        self.dropped += removed as u64;
    }
}

/// Pixel Data, Float Pixel Data or Double Float Pixel Data.
fn is_pixel_data(tag: Tag) -> bool {
    matches!(tag, tags::PIXEL_DATA | tags::FLOAT_PIXEL_DATA | tags::DOUBLE_FLOAT_PIXEL_DATA)
}
