//! A cursor marks the beginning of a list's next page. Its text means nothing to the caller:
//! base64url of a version byte and the last id of the page. Neither a restart nor retention can
//! invalidate a cursor.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::model::id::{EndpointId, EventId};
use crate::model::time::Timestamp;
use crate::store::DeadPlace;

const VERSION: u8 = 1;
/// The version byte of a cursor behind a dead letter.
const DEAD_VERSION: u8 = 2;

/// The beginning of a list with the newest event first. A list with the oldest event first begins
/// behind `EventId(0)`.
pub(in crate::http) const NEWEST: EventId = EventId(u128::MAX);
/// The beginning of a list of dead letters, the newest first.
pub(in crate::http) const NEWEST_DEAD: DeadPlace =
    (Timestamp(u64::MAX), NEWEST, EndpointId(u128::MAX));

/// Encodes the cursor behind an event.
pub(in crate::http) fn encode(last: EventId) -> String {
    let mut bytes = [0; 17];
    bytes
        .iter_mut()
        .zip(std::iter::once(VERSION).chain(last.to_bytes()))
        .for_each(|(place, byte)| *place = byte);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes the cursor behind an event, or returns `None` for any other text.
pub(in crate::http) fn decode(text: &str) -> Option<EventId> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (&VERSION, id) = bytes.split_first()? else { return None };
    Some(EventId::from_bytes(id.try_into().ok()?))
}

/// Encodes the cursor behind a dead letter.
pub(in crate::http) fn encode_dead((at, event, endpoint): DeadPlace) -> String {
    let parts =
        [[DEAD_VERSION].as_slice(), &at.0.to_be_bytes(), &event.to_bytes(), &endpoint.to_bytes()];
    URL_SAFE_NO_PAD.encode(parts.concat())
}

/// Decodes the cursor behind a dead letter, or returns `None` for any other text.
pub(in crate::http) fn decode_dead(text: &str) -> Option<DeadPlace> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (&DEAD_VERSION, rest) = bytes.split_first()? else { return None };
    let (at, rest) = rest.split_first_chunk::<8>()?;
    let (event, rest) = rest.split_first_chunk::<16>()?;
    let endpoint = EndpointId::from_bytes(rest.try_into().ok()?);
    Some((Timestamp(u64::from_be_bytes(*at)), EventId::from_bytes(*event), endpoint))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cursors_of_this_version_are_understood_for_ever() {
        assert_eq!(
            decode("AQGIusdK-niqvDu9Hu8o2IE"),
            Some(EventId(0x0188_bac7_4afa_78aa_bc3b_bd1e_ef28_d881))
        );
        for odd in [
            "",
            "AQ",
            "AgGIusdK-niqvDu9Hu8o2IE",
            "AQGIusdK-niqvDu9Hu8o2IEA",
            "AQGIusdK+niqvDu9Hu8o2IE",
            "ä",
        ] {
            assert_eq!(decode(odd), None, "{odd}");
        }
    }

    proptest! {
        #[test]
        fn a_cursor_behind_a_dead_letter_reads_back_and_is_no_other(at: u64, event: u128,
        endpoint: u128) {
            let place = (Timestamp(at), EventId(event), EndpointId(endpoint));
            prop_assert_eq!(decode_dead(&encode_dead(place)), Some(place));
            prop_assert_eq!((decode(&encode_dead(place)), decode_dead(&encode(place.1))), (None,
            None));
        }

        #[test]
        fn a_cursor_reads_back(id: u128) {
            prop_assert_eq!(decode(&encode(EventId(id))), Some(EventId(id)));
        }

        #[test]
        fn no_text_makes_reading_panic(text in "\\PC{0,40}") {
            let read = decode(&text);
            prop_assert!(read.is_none_or(|id| decode(&encode(id)) == read));
        }
    }
}
