//! Text in the character sets of PS3.5 6.1.2, code extensions of ISO 2022 included.

use dicom::core::VR;
use dicom::encoding::text::{SpecificCharacterSet, TextCodec};

const ESCAPE: u8 = 0x1B;

/// The values of Specific Character Set (0008,0005) in force.
#[derive(Debug, Clone, Default)]
pub(super) struct CharacterSets {
    initial: SpecificCharacterSet,
    uses_extensions: bool,
    /// Whether a byte 5C may be the second half of a character.
    is_multi_byte: bool,
}

impl CharacterSets {
    /// The character sets that the values of the attribute name; unknown ones read as the default repertoire.
    pub(super) fn from_codes(codes: &[String]) -> Self {
        let first = codes.first().map(|code| code.trim()).unwrap_or_default();
        let initial = SpecificCharacterSet::from_code(first).unwrap_or_default();
        let is_multi_byte = matches!(first, "GB18030" | "GBK");
        let uses_extensions = codes.iter().any(|code| code.trim().starts_with("ISO 2022"));
        // JIS X 0208 as the initial set would make plain ASCII unreadable: it is only ever reached by escape.
        let initial = match first {
            "ISO 2022 IR 87" | "ISO 2022 IR 159" | "ISO 2022 IR 149" | "ISO 2022 IR 58" => {
                SpecificCharacterSet::default()
            }
            _ => initial,
        };
        Self { initial, uses_extensions, is_multi_byte }
    }

    /// Decodes the values that a backslash separates.
    pub(super) fn decode_values(&self, bytes: &[u8], vr: VR) -> Vec<String> {
        if self.is_multi_byte {
            let text = self.decode(bytes, vr);
            return text.split('\\').map(str::to_owned).collect();
        }
        let mut values = Vec::new();
        let mut start = 0;
        let mut in_two_byte_set = false;
        let mut index = 0;
        while index < bytes.len() {
            let byte = bytes[index];
            if byte == ESCAPE && self.uses_extensions {
                in_two_byte_set = bytes.get(index + 1) == Some(&b'$')
                    && bytes.get(index + 2).is_some_and(|&next| next != b')');
                index += escape_length(&bytes[index..]);
                continue;
            }
            if byte == b'\\' && !in_two_byte_set {
                values.push(self.decode(&bytes[start..index], vr));
                start = index + 1;
            }
            index += if in_two_byte_set { 2 } else { 1 };
        }
        values.push(self.decode(bytes.get(start..).unwrap_or_default(), vr));
        values
    }

    /// Decodes one value; what no character set explains comes out as replacement characters, never as an error.
    pub(super) fn decode(&self, bytes: &[u8], vr: VR) -> String {
        if !self.uses_extensions || !bytes.contains(&ESCAPE) {
            return decode_run(&self.initial, bytes);
        }
        let mut text = String::new();
        let mut active = Active::Initial;
        let mut run_start = 0;
        let mut index = 0;
        while index < bytes.len() {
            let byte = bytes[index];
            if byte == ESCAPE {
                self.push_run(&mut text, active, &bytes[run_start..index]);
                let length = escape_length(&bytes[index..]);
                active = Active::from_escape(&bytes[index..bytes.len().min(index + length)]);
                index += length;
                run_start = index;
                continue;
            }
            // PS3.5 6.1.2.5.3: the sets fall back at line ends and between the parts of a name.
            let is_reset = matches!(byte, b'\r' | b'\n' | 0x0C | b'\t')
                || (vr == VR::PN && matches!(byte, b'^' | b'='));
            if is_reset && !active.is_seven_bit_pair() {
                self.push_run(&mut text, active, &bytes[run_start..index]);
                active = Active::Initial;
                run_start = index;
            }
            index += if active.is_seven_bit_pair() { 2 } else { 1 };
        }
        self.push_run(&mut text, active, bytes.get(run_start..).unwrap_or_default());
        text
    }

    fn push_run(&self, text: &mut String, active: Active, run: &[u8]) {
        if run.is_empty() {
            return;
        }
        match active {
            Active::Initial => text.push_str(&decode_run(&self.initial, run)),
            Active::Code(code) => {
                let set = SpecificCharacterSet::from_code(code).unwrap_or_default();
                text.push_str(&decode_run(&set, run));
            }
            Active::Jis0208 => {
                let mut escaped = vec![ESCAPE, b'$', b'B'];
                escaped.extend_from_slice(run);
                let set = SpecificCharacterSet::from_code("ISO 2022 IR 87").unwrap_or_default();
                text.push_str(&decode_run(&set, &escaped));
            }
            Active::Jis0212 => {
                let mut escaped = vec![ESCAPE, b'$', b'(', b'D'];
                escaped.extend_from_slice(run);
                let set = SpecificCharacterSet::from_code("ISO 2022 IR 87").unwrap_or_default();
                text.push_str(&decode_run(&set, &escaped));
            }
            Active::Unknown => text.push_str(&String::from_utf8_lossy(run)),
        }
    }
}

/// The set that the last escape sequence selected (PS3.3 tables C.12-3 and C.12-4).
#[derive(Debug, Clone, Copy)]
enum Active {
    Initial,
    Code(&'static str),
    Jis0208,
    Jis0212,
    Unknown,
}

impl Active {
    fn from_escape(sequence: &[u8]) -> Self {
        match sequence.get(1..).unwrap_or_default() {
            b"(B" => Self::Code("ISO_IR 6"),
            b"(J" | b")I" => Self::Code("ISO_IR 13"),
            b"-A" => Self::Code("ISO_IR 100"),
            b"-B" => Self::Code("ISO_IR 101"),
            b"-C" => Self::Code("ISO_IR 109"),
            b"-D" => Self::Code("ISO_IR 110"),
            b"-F" => Self::Code("ISO_IR 126"),
            b"-G" => Self::Code("ISO_IR 127"),
            b"-H" => Self::Code("ISO_IR 138"),
            b"-L" => Self::Code("ISO_IR 144"),
            b"-T" => Self::Code("ISO_IR 166"),
            b"$)C" => Self::Code("ISO_IR 149"),
            b"$)A" => Self::Code("GBK"),
            b"$B" => Self::Jis0208,
            b"$(D" => Self::Jis0212,
            _ => Self::Unknown,
        }
    }

    /// Whether characters are pairs of bytes that look like ASCII.
    fn is_seven_bit_pair(self) -> bool {
        matches!(self, Self::Jis0208 | Self::Jis0212)
    }
}

fn escape_length(bytes: &[u8]) -> usize {
    let is_long = bytes.get(1) == Some(&b'$') && matches!(bytes.get(2), Some(b'(' | b')'));
    if is_long { 4 } else { 3 }
}

fn decode_run(set: &SpecificCharacterSet, bytes: &[u8]) -> String {
    set.decode(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned())
}
