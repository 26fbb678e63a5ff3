//! Decimal strings (PS3.5 6.2, DS): the source's own where it has them.

/// Longest decimal string.
const MAX_LENGTH: usize = 16;

/// `text` as it stands when it is a decimal string, else the same number fitted to one.
pub(crate) fn kept_or_fitted(text: &str) -> String {
    let trimmed = text.trim_matches([' ', '\0']);
    match trimmed.parse::<f64>() {
        Ok(number) if trimmed.len() > MAX_LENGTH => fitted(number),
        _ => trimmed.to_owned(),
    }
}

/// `number` with as many digits as fit 16 characters.
pub(crate) fn fitted(number: f64) -> String {
    for digits in (0..=14).rev() {
        let text = format!("{number:.digits$}");
        if text.len() <= MAX_LENGTH {
            let plain = if text.contains('.') {
                text.trim_end_matches('0').trim_end_matches('.')
            } else {
                &text
            };
            return if plain == "-0" { "0".to_owned() } else { plain.to_owned() };
        }
    }
    format!("{number:.8E}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keeps_what_the_source_wrote() {
        for text in ["-249.51171875", "99.5000", "1.0E+2", "794.845191756896", "0"] {
            assert_eq!(kept_or_fitted(text), text);
        }
        assert_eq!(kept_or_fitted(" 2.50"), "2.50");
        assert_eq!(kept_or_fitted("-0.12345678901234567"), "-0.1234567890123");
    }

    #[test]
    fn fits_numbers() {
        assert_eq!(fitted(2.5), "2.5");
        assert_eq!(fitted(3.0), "3");
        assert_eq!(fitted(100.0), "100");
        assert_eq!(fitted(-0.0), "0");
        assert_eq!(fitted(1.0 / 3.0), "0.33333333333333");
        assert_eq!(fitted(-1.0e20), "-1.00000000E20");
    }

    proptest! {
        #[test]
        fn every_number_fits_and_stays_itself(number in -1.0e12f64..1.0e12) {
            let text = fitted(number);

            prop_assert!(text.len() <= 16);
            let back: f64 = text.parse().unwrap();
            prop_assert!((back - number).abs() <= number.abs() * 1e-13 + 1e-9 + 1e-3 * f64::from(number.abs() > 1e9));
        }
    }
}
