//! When a one-shot job happened, as far as its result says: a moment of the source, so that the same files give the
//! same bytes.

use dicom_io::Attribute;
use dicom_io::series::Stack;
use time::{Date, Month, OffsetDateTime, Time, UtcOffset};

/// Pairs of date and time that a header may carry, the one that fits a result best first.
const MOMENTS: [(&str, &str); 4] = [
    ("SeriesDate", "SeriesTime"),
    ("AcquisitionDate", "AcquisitionTime"),
    ("ContentDate", "ContentTime"),
    ("StudyDate", "StudyTime"),
];

/// The date and time of the series, else of its acquisition, its content or its study; the beginning of 1970 where the
/// header carries no date at all. Times are in the header's offset from UTC, where it states one.
pub(crate) fn moment_of(stack: &Stack) -> OffsetDateTime {
    let first = |keyword: &str| {
        let attribute = Attribute::by_keyword(keyword)?;
        attribute.values(&stack.header).into_iter().next()
    };
    let offset = first("TimezoneOffsetFromUTC").and_then(|text| parse_offset(&text));
    let offset = offset.unwrap_or(UtcOffset::UTC);
    for (date, time) in MOMENTS {
        let Some(date) = first(date).and_then(|text| parse_date(&text)) else { continue };
        let time = first(time).and_then(|text| parse_time(&text)).unwrap_or(Time::MIDNIGHT);
        return date.with_time(time).assume_offset(offset);
    }
    OffsetDateTime::UNIX_EPOCH
}

/// `20261124` (PS3.5 6.2, DA), or `2026.11.24` as ACR-NEMA wrote it.
fn parse_date(text: &str) -> Option<Date> {
    let digits = text.replace('.', "");
    let number = |range: std::ops::Range<usize>| digits.get(range)?.parse::<u16>().ok();
    if digits.len() != 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let month = Month::try_from(u8::try_from(number(4..6)?).ok()?).ok()?;
    let date = Date::from_calendar_date(
        i32::from(number(0..4)?),
        month,
        u8::try_from(number(6..8)?).ok()?,
    );
    date.ok().filter(|date| date.year() > 0)
}

/// `093015.25`, `0930` or `09` (PS3.5 6.2, TM); fractions of a second are left out.
fn parse_time(text: &str) -> Option<Time> {
    let digits = text.split('.').next().unwrap_or_default().replace(':', "");
    if !matches!(digits.len(), 2 | 4 | 6) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let part = |start: usize| digits.get(start..start + 2).map_or(Some(0), |two| two.parse().ok());
    // A leap second has no place in `Time`.
    Time::from_hms(part(0)?, part(2)?, part(4)?.min(59)).ok()
}

/// `+0100` (PS3.3 C.12.1.1.8).
fn parse_offset(text: &str) -> Option<UtcOffset> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    if digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let hours: i8 = digits[..2].parse().ok()?;
    let minutes: i8 = digits[2..].parse().ok()?;
    UtcOffset::from_hms(sign * hours, sign * minutes, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::{date, offset, time};

    #[test]
    fn reads_dates_times_and_offsets_in_their_forms() {
        assert_eq!(parse_date("20261124"), Some(date!(2026 - 11 - 24)));
        assert_eq!(parse_date("2026.11.24"), Some(date!(2026 - 11 - 24)));
        assert_eq!(parse_time("093015.250000"), Some(time!(09:30:15)));
        assert_eq!(parse_time("0930"), Some(time!(09:30)));
        assert_eq!(parse_time("235960"), Some(time!(23:59:59)));
        assert_eq!(parse_offset("+0100"), Some(offset!(+1)));
        assert_eq!(parse_offset("-0330"), Some(offset!(-3:30)));
    }

    #[test]
    fn refuses_what_is_no_date_time_or_offset() {
        for text in ["", "2026", "20261332", "20260230", "2026-11-24", "0000年01", "00000101"] {
            assert_eq!(parse_date(text), None, "{text}");
        }
        for text in ["", "9", "250000", "09301", "ab"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
        for text in ["", "0100", "+1", "+9900", "+é00"] {
            assert_eq!(parse_offset(text), None, "{text}");
        }
    }
}
