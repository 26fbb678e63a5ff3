use proptest::prelude::*;

use super::*;

/// Category of a difference (table H.2).
fn category(difference: i32) -> u32 {
    32 - difference.unsigned_abs().leading_zeros()
}

/// An encoder to test with: fixed codes of five bits, a code for every category.
struct Encoder {
    bytes: Vec<u8>,
    buffer: u64,
    bits: u32,
}

impl Encoder {
    fn new() -> Self {
        Self { bytes: Vec::new(), buffer: 0, bits: 0 }
    }

    fn put(&mut self, value: u32, bits: u32) {
        for i in (0..bits).rev() {
            self.buffer = self.buffer << 1 | u64::from(value >> i & 1);
            self.bits += 1;
            if self.bits == 8 {
                self.push(self.buffer as u8);
            }
        }
    }

    fn push(&mut self, byte: u8) {
        self.bytes.push(byte);
        if byte == 0xFF {
            self.bytes.push(0);
        }
        self.buffer = 0;
        self.bits = 0;
    }

    fn difference(&mut self, difference: i32) {
        // Differences are modulo 2^16, from -32767 to 32768.
        let difference = (difference + 32767).rem_euclid(65536) - 32767;
        let category = category(difference);
        self.put(category, 5);
        if category < 16 {
            let extra = if difference < 0 { difference - 1 } else { difference };
            self.put(extra as u32 & ((1 << category) - 1), category);
        }
    }

    fn pad(&mut self) {
        while self.bits > 0 {
            self.put(1, 1);
        }
    }
}

struct Settings {
    columns: u16,
    precision: u8,
    predictor: u8,
    point_transform: u8,
    rows_between_restarts: usize,
}

fn segment(marker: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16 + 2).to_be_bytes();
    [&[0xFF, marker], length.as_slice(), body].concat()
}

fn encode(samples: &[u16], settings: &Settings) -> Vec<u8> {
    let columns = usize::from(settings.columns);
    let rows = (samples.len() / columns) as u16;
    let [y1, y0] = rows.to_be_bytes();
    let [x1, x0] = settings.columns.to_be_bytes();
    let mut counts = [0; 16];
    counts[4] = 17;
    let symbols: Vec<u8> = (0..17).collect();
    let interval = (settings.rows_between_restarts * columns) as u16;
    let mut data = [
        vec![0xFF, SOI],
        segment(0xE0, b"some application data"),
        segment(SOF3, &[settings.precision, y1, y0, x1, x0, 1, 1, 0x11, 0]),
        segment(DHT, &[&[0], counts.as_slice(), &symbols].concat()),
        segment(DRI, &interval.to_be_bytes()),
        segment(SOS, &[1, 1, 0, settings.predictor, 0, settings.point_transform]),
    ]
    .concat();
    let start = 1_i32 << (settings.precision - settings.point_transform - 1);
    let at = |x: usize, y: usize| i32::from(samples[y * columns + x] >> settings.point_transform);
    let mut encoder = Encoder::new();
    let mut first_row = 0;
    for y in 0..usize::from(rows) {
        let restarts = settings.rows_between_restarts;
        if y > 0 && restarts > 0 && y % restarts == 0 {
            encoder.pad();
            encoder.bytes.extend([0xFF, 0xD0 + ((y / restarts - 1) % 8) as u8]);
            first_row = y;
        }
        for x in 0..columns {
            let prediction = match (x, y) {
                (0, y) if y == first_row => start,
                (0, y) => at(0, y - 1),
                (x, y) if y == first_row => at(x - 1, y),
                (x, y) => {
                    let (a, b, c) = (at(x - 1, y), at(x, y - 1), at(x - 1, y - 1));
                    match settings.predictor {
                        1 => a,
                        2 => b,
                        3 => c,
                        4 => a + b - c,
                        5 => a + ((b - c) >> 1),
                        6 => b + ((a - c) >> 1),
                        _ => (a + b) >> 1,
                    }
                }
            };
            encoder.difference(at(x, y) - prediction);
        }
    }
    encoder.pad();
    data.extend(encoder.bytes);
    data.extend([0xFF, EOI]);
    data
}

fn format(rows: u16, columns: u16) -> PixelFormat {
    PixelFormat {
        rows,
        columns,
        bits_allocated: 16,
        bits_stored: 16,
        high_bit: 15,
        is_signed: false,
    }
}

proptest! {
    #[test]
    fn decodes_what_was_encoded(
        (columns, samples) in (1_u16..9, 1_usize..7).prop_flat_map(|(columns, rows)| {
            let samples = prop::collection::vec(any::<u16>(), usize::from(columns) * rows);
            (Just(columns), samples)
        }),
        precision in 2_u8..=16,
        predictor in 1_u8..=7,
        point_transform in 0_u8..2,
        rows_between_restarts in 0_usize..4,
    ) {
        let samples: Vec<u16> = samples
            .into_iter()
            .map(|sample| sample >> (16 - precision) >> point_transform << point_transform)
            .collect();
        let settings =
            Settings { columns, precision, predictor, point_transform, rows_between_restarts };
        let data = encode(&samples, &settings);
        let rows = (samples.len() / usize::from(columns)) as u16;
        let mut out = Vec::new();

        let found = decode(&data, &format(rows, columns), &mut out);

        prop_assert_eq!(found, Ok(u32::from(precision)));
        let expected: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        prop_assert_eq!(out, expected);
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        length in any::<prop::sample::Index>(),
    ) {
        let samples: Vec<u16> = (0..64).map(|i| i * 997).collect();
        let settings = Settings {
            columns: 8,
            precision: 16,
            predictor: 4,
            point_transform: 0,
            rows_between_restarts: 2,
        };
        let mut data = encode(&samples, &settings);
        for (index, byte) in damage {
            let at = index.index(data.len());
            data[at] = byte;
        }
        data.truncate(length.index(data.len()) + 1);

        let _ = decode(&data, &format(8, 8), &mut Vec::new());
    }
}

#[test]
fn an_image_that_breaks_off_is_an_error() {
    let samples: Vec<u16> = (0..64).map(|i| i * 997).collect();
    let settings = Settings {
        columns: 8,
        precision: 16,
        predictor: 1,
        point_transform: 0,
        rows_between_restarts: 0,
    };
    let data = encode(&samples, &settings);

    let broken = decode(&data[..data.len() - 20], &format(8, 8), &mut Vec::new());

    assert_eq!(broken, Err(damaged("the image breaks off")));
}
