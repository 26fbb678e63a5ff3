//! Huffman tables of differences.

use super::bits::extend;

/// Bits of the lookup that resolves short codes, most of them together with their difference.
pub(super) const LOOKUP_BITS: u32 = 11;

/// What the next [`LOOKUP_BITS`] bits stand for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Entry {
    pub(super) difference: i16,
    /// Bits of the code and of the difference; 0 when they do not fit.
    pub(super) total_bits: u8,
}

/// A table as a DHT segment has it.
pub(super) struct HuffmanTable {
    lookup: Box<[Entry; 1 << LOOKUP_BITS]>,
    /// Codes by length, each length's codes in a row: first code left-aligned in 16 bits, length, first symbol.
    lengths: Vec<(u16, u32, usize)>,
    symbols: Vec<u8>,
}

impl HuffmanTable {
    /// `counts` codes of every length from 1 to 16, for `symbols` in that order; `None` when they are no code.
    pub(super) fn new(counts: &[u8], symbols: &[u8]) -> Option<Self> {
        if symbols.is_empty() || symbols.iter().any(|&category| category > 16) {
            return None;
        }
        let mut table = Self {
            lookup: Box::new([Entry::default(); 1 << LOOKUP_BITS]),
            lengths: Vec::new(),
            symbols: symbols.to_vec(),
        };
        let mut code = 0_u32;
        let mut index = 0;
        for (length, &count) in (1_u32..).zip(counts) {
            if count > 0 {
                table.lengths.push(((code << (16 - length)) as u16, length, index));
            }
            for _ in 0..count {
                if code >= 1 << length {
                    return None;
                }
                table.resolve(code, length, symbols.get(index).copied()?);
                code += 1;
                index += 1;
            }
            code <<= 1;
        }
        Some(table)
    }

    /// Fills the entries that begin with `code`, if code and difference are short enough.
    fn resolve(&mut self, code: u32, length: u32, category: u8) {
        let category = u32::from(category);
        let extra_bits = if category == 16 { 0 } else { category };
        let total = length + extra_bits;
        if total > LOOKUP_BITS || category == 16 {
            return;
        }
        let free_bits = LOOKUP_BITS - total;
        for extra in 0..1_u32 << extra_bits {
            let difference = if category == 0 { 0 } else { extend(extra as i32, category) };
            let entry = Entry { difference: difference as i16, total_bits: total as u8 };
            let first = ((code << extra_bits | extra) << free_bits) as usize;
            let range = first..first + (1 << free_bits);
            self.lookup.get_mut(range).unwrap_or_default().fill(entry);
        }
    }

    #[inline]
    pub(super) fn lookup(&self, index: usize) -> Entry {
        self.lookup[index & ((1 << LOOKUP_BITS) - 1)]
    }

    /// Length and category of the code at the front of `bits`. Bits that are no code count as the longest one.
    pub(super) fn long_code(&self, bits: u16) -> (u32, u32) {
        let group = self.lengths.iter().rev().find(|(first, _, _)| *first <= bits);
        let &(first, length, start) = group.unwrap_or(&(0, 16, 0));
        let index = start + usize::from((bits - first) >> (16 - length));
        let category = self.symbols.get(index).or(self.symbols.last());
        (length, category.copied().unwrap_or_default().into())
    }
}
