//! Presentation data values inside a P-DATA-TF PDU (PS3.8 9.3.5, annex E).

/// One fragment of a command or a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DataValue<'a> {
    pub(crate) context_id: u8,
    pub(crate) is_command: bool,
    pub(crate) is_last: bool,
    pub(crate) fragment: &'a [u8],
}

/// A stated length that leaves the PDU, or is too short for its own header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MalformedDataValue;

/// The data values in the variable field of a P-DATA-TF PDU.
pub(crate) fn data_values(
    mut body: &[u8],
) -> impl Iterator<Item = Result<DataValue<'_>, MalformedDataValue>> {
    std::iter::from_fn(move || {
        if body.is_empty() {
            return None;
        }
        let value = split_first_value(body);
        body = match value {
            Ok((_, rest)) => rest,
            Err(MalformedDataValue) => &[],
        };
        Some(value.map(|(value, _)| value))
    })
}

fn split_first_value(body: &[u8]) -> Result<(DataValue<'_>, &[u8]), MalformedDataValue> {
    let (length, rest) = body.split_first_chunk::<4>().ok_or(MalformedDataValue)?;
    let length = u32::from_be_bytes(*length) as usize;
    let (item, rest) = rest.split_at_checked(length).ok_or(MalformedDataValue)?;
    let (&[context_id, control], fragment) = item.split_first_chunk().ok_or(MalformedDataValue)?;
    let value =
        DataValue { context_id, is_command: control & 1 != 0, is_last: control & 2 != 0, fragment };
    Ok((value, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn splits_a_command_and_a_fragment_of_its_data_set() {
        let body = [0, 0, 0, 4, 1, 3, 7, 8, 0, 0, 0, 3, 1, 0, 9];

        let values: Vec<_> = data_values(&body).map(Result::unwrap).collect();

        let command =
            DataValue { context_id: 1, is_command: true, is_last: true, fragment: &[7, 8] };
        let data = DataValue { context_id: 1, is_command: false, is_last: false, fragment: &[9] };
        assert_eq!(values, [command, data]);
    }

    #[test]
    fn refuses_a_length_that_leaves_the_pdu_or_does_not_hold_its_header() {
        for body in [&[0xFF, 0xFF, 0xFF, 0xFF, 1, 3][..], &[0, 0, 0, 1, 1], &[0, 0, 0]] {
            let values: Vec<_> = data_values(body).collect();
            assert_eq!(values, [Err(MalformedDataValue)]);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_split_or_are_refused(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let total: usize = data_values(&body)
                .filter_map(Result::ok)
                .map(|value| value.fragment.len() + 6)
                .sum();
            prop_assert!(total <= body.len());
        }
    }
}
