//! Entropy-coded data as a stream of bits.

use super::huffman::{HuffmanTable, LOOKUP_BITS};

/// Cuts entropy-coded data at restart markers.
pub(super) struct Segments<'a> {
    rest: &'a [u8],
}

impl<'a> Segments<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    /// Bytes up to the next marker, without the stuffed zeros; the marker is passed over.
    pub(super) fn next_segment(&mut self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.rest.len());
        loop {
            let Some(plain) = self.rest.iter().position(|&byte| byte == 0xFF) else {
                bytes.extend_from_slice(self.rest);
                self.rest = &[];
                return bytes;
            };
            let (before, from) = self.rest.split_at(plain);
            bytes.extend_from_slice(before);
            match from.get(1) {
                Some(0) => {
                    bytes.push(0xFF);
                    self.rest = from.get(2..).unwrap_or_default();
                }
                // Fill bytes may come before a marker.
                Some(0xFF) => self.rest = from.get(1..).unwrap_or_default(),
                _ => {
                    self.rest = from.get(2..).unwrap_or_default();
                    return bytes;
                }
            }
        }
    }
}

/// Reads differences from the bits of one segment, most significant bit first.
///
/// Past the end come zeros; [`Bits::is_exhausted`] tells.
pub(super) struct Bits {
    bytes: Vec<u8>,
    /// Next byte to take.
    position: usize,
    /// Bits taken and not used, in the high end.
    buffer: u64,
    available: u32,
}

impl Bits {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, position: 0, buffer: 0, available: 0 }
    }

    /// Whether more bits were used than there were.
    pub(super) fn is_exhausted(&self) -> bool {
        let taken = self.position as u64 * 8;
        taken - u64::from(self.available) > self.bytes.len() as u64 * 8
    }

    /// Decodes one difference (H.1.2.2).
    #[inline]
    pub(super) fn difference(&mut self, table: &HuffmanTable) -> i32 {
        self.refill();
        let entry = table.lookup((self.buffer >> (64 - LOOKUP_BITS)) as usize);
        if entry.total_bits > 0 {
            self.take(entry.total_bits.into());
            return entry.difference.into();
        }
        self.long_difference(table)
    }

    #[cold]
    fn long_difference(&mut self, table: &HuffmanTable) -> i32 {
        let (length, category) = table.long_code((self.buffer >> 48) as u16);
        self.take(length);
        match category {
            0 => 0,
            16 => 32768,
            bits => {
                let extra = (self.buffer >> (64 - bits)) as i32;
                self.take(bits);
                extend(extra, bits)
            }
        }
    }

    /// Sees to 32 bits at least: the longest code with the longest difference behind it.
    #[inline]
    fn refill(&mut self) {
        if self.available >= 32 {
            return;
        }
        let next = match self.bytes.get(self.position..).and_then(|rest| rest.first_chunk::<4>()) {
            Some(bytes) => u32::from_be_bytes(*bytes),
            None => self.last_bytes(),
        };
        self.buffer |= u64::from(next) << (32 - self.available);
        self.available += 32;
        self.position += 4;
    }

    #[cold]
    fn last_bytes(&self) -> u32 {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let mut bytes = [0; 4];
        bytes.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        u32::from_be_bytes(bytes)
    }

    #[inline]
    fn take(&mut self, bits: u32) {
        self.buffer <<= bits;
        self.available -= bits;
    }
}

/// The signed difference that `bits` additional bits stand for (F.2.2.1).
pub(super) fn extend(extra: i32, bits: u32) -> i32 {
    let is_negative = extra < 1 << (bits - 1);
    if is_negative { extra - (1 << bits) + 1 } else { extra }
}
