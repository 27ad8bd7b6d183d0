//! A cursor marks the beginning of a list's next page. Its text means nothing to the caller:
//! base64url of a version byte, the number of the list, and the place of the page's last item.
//! Neither a restart nor retention can invalidate a cursor.
//!
//! The place is one in the order of the whole list, so a caller can change filters from page to
//! page. Another list has another order, so it refuses the cursor.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::journal::Position;
use crate::model::id::{EndpointId, EventId};
use crate::model::time::Timestamp;
use crate::store::{AuditPlace, DeadPlace};

const VERSION: u8 = 3;

/// The beginning of a list with the newest event first. A list with the oldest event first begins
/// behind `EventId(0)`.
pub(in crate::http) const NEWEST: EventId = EventId(u128::MAX);
/// The beginning of a list of dead letters, the newest first.
pub(in crate::http) const NEWEST_DEAD: DeadPlace =
    (Timestamp(u64::MAX), NEWEST, EndpointId(u128::MAX));

/// The place before the first entry of the audit log. The first entry of an empty log will come
/// behind it.
pub(in crate::http) const AUDIT_BEGINS: AuditPlace = (Position(0), 0);

/// A list with pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::VariantArray)]
pub(in crate::http) enum List {
    Inbox,
    Events,
    Endpoints,
    Deliveries,
    DeadLetters,
    Replays,
    Keys,
    Organizations,
    Audit,
}

impl List {
    const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Returns the number of the list in cursors, and its route.
    fn row(self) -> (u8, &'static str) {
        match self {
            Self::Inbox => (1, "GET /api/inbox"),
            Self::Events => (2, "GET /api/events"),
            Self::Endpoints => (3, "GET /api/endpoints"),
            Self::Deliveries => (4, "GET /api/deliveries"),
            Self::DeadLetters => (5, "GET /api/dead-letters"),
            Self::Replays => (6, "GET /api/replays"),
            Self::Keys => (7, "GET /api/keys"),
            Self::Organizations => (8, "GET /api/orgs"),
            Self::Audit => (10, "GET /api/audit"),
        }
    }

    /// Encodes the cursor behind this place in the list.
    pub(in crate::http) fn cursor<P: Place>(self, place: P) -> String {
        let mut bytes = vec![VERSION, self.row().0];
        place.write(&mut bytes);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Decodes a cursor of this list.
    ///
    /// # Errors
    /// If the text is no cursor, or the cursor of another list.
    pub(in crate::http) fn place<P: Place>(self, text: &str) -> Result<P, WrongCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_not_base64| WrongCursor::Malformed)?;
        let [VERSION, number, place @ ..] = bytes.as_slice() else {
            return Err(WrongCursor::Malformed);
        };
        let list = Self::ALL.iter().copied().find(|list| list.row().0 == *number);
        match list.ok_or(WrongCursor::Malformed)? {
            list if list == self => P::read(place).ok_or(WrongCursor::Malformed),
            other => Err(WrongCursor::OfAnother { is_of: other, wanted: self }),
        }
    }
}

/// The reason why a list cannot begin at a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::http) enum WrongCursor {
    #[error(
        "is not a cursor; send the next_cursor of the page before, or no cursor for the first page"
    )]
    Malformed,
    #[error(
        "is a cursor of {}; send the next_cursor of a page of {}, or no cursor for the first page",
        is_of.row().1,
        wanted.row().1
    )]
    OfAnother { is_of: List, wanted: List },
}

/// A place in the order of a list, as bytes in its cursor.
pub(in crate::http) trait Place: Sized {
    fn write(self, bytes: &mut Vec<u8>);

    /// Reads all of these bytes, or returns `None` if they are no place.
    fn read(bytes: &[u8]) -> Option<Self>;
}

impl Place for EventId {
    fn write(self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.to_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self::from_bytes(bytes.try_into().ok()?))
    }
}

impl Place for DeadPlace {
    fn write(self, bytes: &mut Vec<u8>) {
        let (at, event, endpoint) = self;
        bytes.extend_from_slice(&at.0.to_be_bytes());
        bytes.extend_from_slice(&event.to_bytes());
        bytes.extend_from_slice(&endpoint.to_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (at, rest) = bytes.split_first_chunk::<8>()?;
        let (event, rest) = rest.split_first_chunk::<16>()?;
        let endpoint = EndpointId::from_bytes(rest.try_into().ok()?);
        Some((Timestamp(u64::from_be_bytes(*at)), EventId::from_bytes(*event), endpoint))
    }
}

impl Place for AuditPlace {
    fn write(self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.0.0.to_be_bytes());
        bytes.extend_from_slice(&self.1.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (position, rest) = bytes.split_first_chunk::<8>()?;
        let number = u32::from_be_bytes(rest.try_into().ok()?);
        Some((Position(u64::from_be_bytes(*position)), number))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cursors_of_this_version_are_understood_for_ever() {
        let event = EventId(0x0188_bac7_4afa_78aa_bc3b_bd1e_ef28_d881);
        assert_eq!(List::Inbox.cursor(event), "AwEBiLrHSvp4qrw7vR7vKNiB");
        assert_eq!(List::Inbox.place("AwEBiLrHSvp4qrw7vR7vKNiB"), Ok(event));
        for odd in [
            "",
            "Aw",
            "AwE",
            "AgEBiLrHSvp4qrw7vR7vKNiB",
            "AwkBiLrHSvp4qrw7vR7vKNiB",
            "AwEBiLrHSvp4qrw7vR7vKNiBAA",
            "AwEBiLrHSvp4qrw7vR7vKN+B",
            "\u{e4}",
        ] {
            assert_eq!(List::Inbox.place::<EventId>(odd), Err(WrongCursor::Malformed), "{odd}");
        }
    }

    #[test]
    fn every_list_refuses_the_cursors_of_every_other_list_by_name() {
        for list in List::ALL.iter().copied() {
            for other in List::ALL.iter().copied() {
                let cursor = match other {
                    List::DeadLetters => other.cursor(NEWEST_DEAD),
                    List::Audit => other.cursor(AUDIT_BEGINS),
                    _ => other.cursor(NEWEST),
                };
                let read = match list {
                    List::DeadLetters => list.place::<DeadPlace>(&cursor).map(drop),
                    List::Audit => list.place::<AuditPlace>(&cursor).map(drop),
                    _ => list.place::<EventId>(&cursor).map(drop),
                };
                let refused = WrongCursor::OfAnother { is_of: other, wanted: list };
                assert_eq!(read, if list == other { Ok(()) } else { Err(refused) });
                let text = refused.to_string();
                assert!(text.contains(other.row().1) && text.contains(list.row().1), "{text}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_cursor_reads_back(at: u64, event: u128, endpoint: u128) {
            let place = (Timestamp(at), EventId(event), EndpointId(endpoint));
            let cursor = List::DeadLetters.cursor(place);
            prop_assert_eq!(List::DeadLetters.place::<DeadPlace>(&cursor), Ok(place));
            let cursor = List::Keys.cursor(place.1);
            prop_assert_eq!(List::Keys.place::<EventId>(&cursor), Ok(place.1));
        }

        #[test]
        fn no_text_makes_reading_panic(text in "\\PC{0,40}") {
            if let Ok(read) = List::Events.place::<EventId>(&text) {
                prop_assert_eq!(List::Events.place(&List::Events.cursor(read)), Ok(read));
            }
        }
    }
}
