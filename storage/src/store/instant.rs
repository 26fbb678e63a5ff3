//! Times in whole microseconds, the precision that both databases keep.

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime, UtcOffset};

const FORMAT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// The same time in UTC without its nanoseconds, so that what is written equals what is read back.
pub(crate) fn to_micros(time: OffsetDateTime) -> OffsetDateTime {
    let utc = time.to_offset(UtcOffset::UTC);
    utc.replace_nanosecond(utc.nanosecond() / 1000 * 1000).expect("fewer nanoseconds stay in range")
}

/// `2026-01-31T08:15:00.000000Z`: always as long, so that text order is time order for the years 0 to 9999.
pub(crate) fn to_text(time: OffsetDateTime) -> String {
    time.to_offset(UtcOffset::UTC).format(FORMAT).expect("every time has these components")
}

/// Reads what [`to_text`] wrote.
pub(crate) fn from_text(text: &str) -> Option<OffsetDateTime> {
    PrimitiveDateTime::parse(text, FORMAT).ok().map(PrimitiveDateTime::assume_utc)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_keeps_order_and_value(a in 0_i64..4_000_000_000_000_000, b in 0_i64..4_000_000_000_000_000) {
            let [a, b] = [a, b].map(|us| {
                OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1000).unwrap()
            });

            prop_assert_eq!(from_text(&to_text(a)), Some(a));
            prop_assert_eq!(to_text(a).cmp(&to_text(b)), a.cmp(&b));
        }
    }
}
