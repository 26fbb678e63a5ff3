//! `multipart/related` (RFC 2046, RFC 2387), taken apart as it arrives.

use std::ops::Range;

/// Longest boundary that is taken, bytes. RFC 2046 5.1.1 allows 70; Orthanc joins two UUIDs, which are 73.
const MAX_BOUNDARY_BYTES: usize = 200;
/// Longest header of a part.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Why bytes are no multipart body. What they hold is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum MultipartError {
    #[error("header of a part exceeds {MAX_HEAD_BYTES} bytes")]
    LongHead,
    #[error("boundary is not followed by the end of its line")]
    Boundary,
}

/// What comes next in the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// A part begins; its media type, without parameters and in lower case.
    Part { media_type: String },
    /// Bytes of the part, see [`Multipart::bytes`].
    Data(Range<usize>),
    /// The part ends.
    PartEnd,
    /// The last boundary was read; what follows does not matter.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In front of the first boundary.
    Preamble,
    /// Behind a boundary.
    Boundary,
    Head,
    Body,
    /// Behind the body of a part, at its boundary.
    BodyEnd,
    Epilogue,
}

/// The parser: bytes in by [`Multipart::push`], events out by [`Multipart::next`].
#[derive(Debug)]
pub(super) struct Multipart {
    /// The line break in front of a boundary belongs to it.
    delimiter: Vec<u8>,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are done with.
    consumed: usize,
    state: State,
}

impl Multipart {
    /// A parser for the boundary that the Content-Type named.
    pub(super) fn new(boundary: &str) -> Self {
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        // The first boundary may stand at the very beginning, without a line break of its own.
        Self { delimiter, buffer: b"\r\n".to_vec(), consumed: 0, state: State::Preamble }
    }

    /// Adds bytes; call [`Multipart::next`] until it has nothing more before adding others.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.consumed);
        self.consumed = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The bytes of a [`Event::Data`] that was returned last.
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    /// The next event; nothing where more bytes are needed.
    pub(super) fn next(&mut self) -> Result<Option<Event>, MultipartError> {
        loop {
            let rest = &self.buffer[self.consumed..];
            match self.state {
                State::Preamble => match find(rest, &self.delimiter) {
                    Found::At(place) => {
                        self.consumed += place + self.delimiter.len();
                        self.state = State::Boundary;
                    }
                    Found::NotBefore(place) => {
                        self.consumed += place;
                        return Ok(None);
                    }
                },
                State::Boundary => match rest {
                    [b'-', b'-', ..] => {
                        self.state = State::Epilogue;
                        return Ok(Some(Event::End));
                    }
                    [b' ' | b'\t', ..] => self.consumed += 1,
                    [b'\r', b'\n', ..] => self.state = State::Head,
                    [] | [b'-' | b'\r'] => return Ok(None),
                    _ => return Err(MultipartError::Boundary),
                },
                // The line break behind the boundary is kept, so that a part without header looks like any other.
                State::Head => match find(rest, b"\r\n\r\n") {
                    Found::At(place) => {
                        let media_type = media_type(&rest[..place]);
                        self.consumed += place + 4;
                        self.state = State::Body;
                        return Ok(Some(Event::Part { media_type }));
                    }
                    Found::NotBefore(_) if rest.len() > MAX_HEAD_BYTES => {
                        return Err(MultipartError::LongHead);
                    }
                    Found::NotBefore(_) => return Ok(None),
                },
                State::Body => {
                    let (length, is_end) = match find(rest, &self.delimiter) {
                        Found::At(place) => (place, true),
                        Found::NotBefore(place) => (place, false),
                    };
                    let start = self.consumed;
                    self.consumed += length;
                    if is_end {
                        self.state = State::BodyEnd;
                    }
                    match (length, is_end) {
                        (0, true) => {}
                        (0, false) => return Ok(None),
                        _ => return Ok(Some(Event::Data(start..start + length))),
                    }
                }
                State::BodyEnd => {
                    self.consumed += self.delimiter.len();
                    self.state = State::Boundary;
                    return Ok(Some(Event::PartEnd));
                }
                State::Epilogue => {
                    self.consumed = self.buffer.len();
                    return Ok(None);
                }
            }
        }
    }
}

enum Found {
    At(usize),
    /// It is not there; it may begin at this place, once more bytes have come.
    NotBefore(usize),
}

fn find(bytes: &[u8], wanted: &[u8]) -> Found {
    let first = wanted.first().copied();
    let mut start = 0;
    while let Some(skipped) = bytes[start..].iter().position(|byte| Some(*byte) == first) {
        start += skipped;
        let rest = &bytes[start..];
        if rest.starts_with(wanted) {
            return Found::At(start);
        }
        if wanted.starts_with(rest) {
            return Found::NotBefore(start);
        }
        start += 1;
    }
    Found::NotBefore(bytes.len())
}

/// The media type of a part's header; empty where it names none.
fn media_type(head: &[u8]) -> String {
    let head = String::from_utf8_lossy(head);
    let value = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-type").then_some(value)
    });
    let value = value.unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The boundary that a Content-Type of `multipart/related` with parts of `application/dicom` names; nothing where it is
/// another one.
pub(super) fn boundary_of(content_type: &str) -> Option<String> {
    let mut parameters = split_outside_quotes(content_type).into_iter();
    if !parameters.next()?.trim().eq_ignore_ascii_case("multipart/related") {
        return None;
    }
    let (mut boundary, mut kind) = (None, None);
    for parameter in parameters {
        let Some((name, value)) = parameter.split_once('=') else { continue };
        let value = value.trim().trim_matches('"').to_owned();
        match name.trim().to_ascii_lowercase().as_str() {
            "boundary" => boundary = Some(value),
            "type" => kind = Some(value),
            _ => {}
        }
    }
    let is_dicom = kind.is_none_or(|kind| kind.eq_ignore_ascii_case("application/dicom"));
    boundary.filter(|text| is_dicom && (1..=MAX_BOUNDARY_BYTES).contains(&text.len()))
}

fn split_outside_quotes(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut is_quoted) = (Vec::new(), 0, false);
    for (place, byte) in text.bytes().enumerate() {
        match byte {
            b'"' => is_quoted = !is_quoted,
            b';' if !is_quoted => {
                parts.push(&text[start..place]);
                start = place + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BODY: &[u8] = b"preamble\r\n--b\r\nContent-Type: application/dicom; transfer-syntax=*\r\nX: y\r\n\r\none\r\n-\r\n--b \t\r\n\r\n\r\n--b\r\ncontent-type:text/plain\r\n\r\n\r\n--bye\r\n--b--\r\nepilogue --b";

    type Parts = Vec<(String, Vec<u8>)>;

    /// Media types and contents of the parts, and whether the last boundary came.
    fn parts(body: &[u8], piece: usize) -> Result<(Parts, bool), MultipartError> {
        let mut parser = Multipart::new("b");
        let (mut parts, mut is_whole, mut is_open) = (Vec::new(), false, false);
        for piece in body.chunks(piece) {
            parser.push(piece);
            while let Some(event) = parser.next()? {
                match event {
                    Event::Part { media_type } => {
                        assert!(!is_open);
                        is_open = true;
                        parts.push((media_type, Vec::new()));
                    }
                    Event::Data(range) => {
                        let bytes = parser.bytes(range).to_vec();
                        parts.last_mut().unwrap().1.extend(bytes);
                    }
                    Event::PartEnd => is_open = false,
                    Event::End => is_whole = true,
                }
            }
        }
        Ok((parts, is_whole))
    }

    #[test]
    fn parts_come_out_as_they_are_however_the_body_is_cut() {
        let body = &BODY[..BODY.len()];
        let body = String::from_utf8(body.to_vec()).unwrap().replace("\r\n--bye", "\r\n-- bye");
        for piece in 1..body.len() {
            let (parts, is_whole) = parts(body.as_bytes(), piece).unwrap();

            let expected = [
                ("application/dicom".to_owned(), b"one\r\n-".to_vec()),
                (String::new(), Vec::new()),
                ("text/plain".to_owned(), b"\r\n-- bye".to_vec()),
            ];
            assert_eq!(parts, expected, "pieces of {piece}");
            assert!(is_whole);
        }
    }

    #[test]
    fn a_boundary_with_something_behind_it_and_a_header_without_end_are_refused() {
        assert_eq!(parts(BODY, 1000), Err(MultipartError::Boundary));
        let endless = [b"--b\r\nX: ".to_vec(), vec![b'y'; 20_000]].concat();
        assert_eq!(parts(&endless, 1000), Err(MultipartError::LongHead));
    }

    #[test]
    fn a_content_type_names_its_boundary_or_is_another() {
        for (text, boundary) in [
            ("multipart/related; type=\"application/dicom\"; boundary=b", Some("b")),
            ("Multipart/Related;boundary=\"a;b\";Type=application/dicom", Some("a;b")),
            ("multipart/related; boundary=b", Some("b")),
            ("multipart/related; type=\"application/dicom+json\"; boundary=b", None),
            ("multipart/related; type=\"application/dicom\"", None),
            ("multipart/related; boundary=", None),
            ("multipart/form-data; boundary=b", None),
            ("application/dicom", None),
        ] {
            assert_eq!(boundary_of(text).as_deref(), boundary, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_damage_gives_the_same_parts_or_error_however_the_body_is_cut(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            piece in 1_usize..40,
        ) {
            let mut bytes = BODY.to_vec();
            for (index, value) in damage {
                let index = index.index(bytes.len());
                bytes[index] = value;
            }
            prop_assert_eq!(parts(&bytes, piece), parts(&bytes, bytes.len()));
        }
    }
}
