//! Where the next page of a list begins, as a text that means nothing to the caller: base64url of a version byte and the
//! last id of this page. It holds nothing that a restart or retention could take away.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::model::id::EventId;

const VERSION: u8 = 1;

/// The cursor behind an event.
pub(super) fn encode(last: EventId) -> String {
    let mut bytes = [0; 17];
    bytes.iter_mut().zip(std::iter::once(VERSION).chain(last.to_bytes())).for_each(|(place, byte)| *place = byte);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The event that a cursor stands behind; none if it is not one of ours.
pub(super) fn decode(text: &str) -> Option<EventId> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (&VERSION, id) = bytes.split_first()? else { return None };
    Some(EventId::from_bytes(id.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cursors_of_this_version_are_understood_for_ever() {
        assert_eq!(decode("AQGIusdK-niqvDu9Hu8o2IE"), Some(EventId(0x0188_bac7_4afa_78aa_bc3b_bd1e_ef28_d881)));
        for odd in ["", "AQ", "AgGIusdK-niqvDu9Hu8o2IE", "AQGIusdK-niqvDu9Hu8o2IEA", "AQGIusdK+niqvDu9Hu8o2IE", "ä"] {
            assert_eq!(decode(odd), None, "{odd}");
        }
    }

    proptest! {
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
