//! The reasons of a routing: why each endpoint of an organization receives an event, or does not.
//! Routing judges an event once and records the reasons in its command
//! ([`RouteEvent`](crate::commands::RouteEvent)); everyone else reads them there.

use serde::{Deserialize, Serialize};

use crate::base::names::{UnknownName, named};

/// The reason why an endpoint receives an event, or does not. The value is the code in the journal,
/// below 16. A new reason gets the next code, and [`RouteEvent`](crate::commands::RouteEvent) a new
/// version.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
    strum::VariantNames,
)]
#[strum(
    serialize_all = "snake_case",
    parse_err_ty = UnknownName,
    parse_err_fn = UnknownName::of::<RouteReason>
)]
pub enum RouteReason {
    /// The endpoint was enabled and wanted the type of the event.
    TypeWanted = 0,
    /// The endpoint did not want the type of the event.
    TypeNotWanted = 1,
    /// The endpoint was disabled.
    Disabled = 2,
    /// The endpoint was created after the event was routed.
    MadeLater = 3,
    /// The event is not routed yet.
    NotRoutedYet = 4,
    /// Routing the event was given up after several crashes.
    RoutingFailed = 5,
    /// The event was erased before it was routed.
    Erased = 6,
    /// The event was not routed to the endpoint, but a replay delivers it there.
    Replayed = 7,
}

named!(RouteReason);

impl RouteReason {
    /// Returns true if the endpoint receives the event.
    pub fn is_match(self) -> bool {
        match self {
            Self::TypeWanted | Self::Replayed => true,
            Self::TypeNotWanted
            | Self::Disabled
            | Self::MadeLater
            | Self::NotRoutedYet
            | Self::RoutingFailed
            | Self::Erased => false,
        }
    }

    fn of_code(code: u64) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| *reason as u64 == code)
    }
}

/// Number of bits of a code.
const CODE_BITS: u32 = 4;

/// The reasons of one routing, by the numbers of the endpoints in their organization.
///
/// Neighbors with the same reason share a run, and a run is a variable-length integer: the distance
/// from the last number of the run before, and the code. A run bridges numbers without an endpoint.
/// So the size follows from the changes of the reason along the numbers: 1 byte for an organization
/// with up to 7 endpoints of one reason, 2 bytes for 1,000 endpoints of one reason, and at most 1
/// byte for each endpoint unless many numbers have no endpoint any more (then 3 bytes). 1,000
/// endpoints of which every other one wants the event take 1,000 bytes, beside the 8,000 bytes of
/// the 500 chosen ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>")]
pub struct RouteReasons(Vec<u8>);

impl RouteReasons {
    /// Records the reasons of endpoints, which come in the order of their numbers.
    pub fn record(judged: impl IntoIterator<Item = (u32, RouteReason)>) -> Self {
        let (mut bytes, mut before) = (Vec::new(), 0);
        let mut open: Option<(u32, RouteReason)> = None;
        for (number, reason) in judged {
            if let Some((last, of_run)) = open
                && of_run != reason
            {
                put_run(last - before, of_run, &mut bytes);
                before = last;
            }
            open = Some((number, reason));
        }
        if let Some((last, reason)) = open {
            put_run(last - before, reason, &mut bytes);
        }
        Self(bytes)
    }

    /// Returns the reason of the endpoint with this number, or `None` if the number was given
    /// later.
    pub fn of(&self, number: u32) -> Option<RouteReason> {
        let (mut rest, mut last) = (self.0.as_slice(), 0u32);
        while let Some((distance, reason)) = take_run(&mut rest) {
            last = last.saturating_add(distance);
            if number <= last {
                return Some(reason);
            }
        }
        None
    }

    /// Returns the size in bytes.
    pub fn bytes_len(&self) -> usize {
        self.0.len()
    }
}

/// The end of an event's routing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoutingEnd {
    /// The event was routed, for these reasons.
    Routed(RouteReasons),
    /// Routing the event was given up after several crashes.
    Failed,
    /// The event was erased before it was routed.
    Erased,
}

impl RoutingEnd {
    /// Returns the reason of the endpoint with this number, which was created before the end. A
    /// worker does not see an endpoint that is created while it routes the event.
    pub fn reason(&self, number: u32) -> RouteReason {
        match self {
            Self::Routed(reasons) => reasons.of(number).unwrap_or(RouteReason::MadeLater),
            Self::Failed => RouteReason::RoutingFailed,
            Self::Erased => RouteReason::Erased,
        }
    }
}

impl TryFrom<Vec<u8>> for RouteReasons {
    type Error = &'static str;

    fn try_from(bytes: Vec<u8>) -> Result<Self, Self::Error> {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            take_run(&mut rest).ok_or("not the reasons of a routing")?;
        }
        Ok(Self(bytes))
    }
}

/// Appends a run in LEB128: 7 bits in each byte, the lowest first.
fn put_run(distance: u32, reason: RouteReason, out: &mut Vec<u8>) {
    let mut left = u64::from(distance) << CODE_BITS | reason as u64;
    loop {
        let [.., low] = left.to_be_bytes();
        left >>= 7;
        if left == 0 {
            out.push(low & 0x7f);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Takes the next run from the front: its distance and its reason.
fn take_run(rest: &mut &[u8]) -> Option<(u32, RouteReason)> {
    let mut value = 0;
    for shift in (0..u32::BITS + CODE_BITS).step_by(7) {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let distance = u32::try_from(value >> CODE_BITS).ok()?;
            return Some((distance, RouteReason::of_code(value & ((1 << CODE_BITS) - 1))?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::codec::{decode, encode_into};
    use crate::model::id::ENDPOINT_NUMBER_MAX;
    use RouteReason::{Disabled, TypeNotWanted, TypeWanted};

    fn bytes_of(judged: impl IntoIterator<Item = (u32, RouteReason)>) -> usize {
        RouteReasons::record(judged).bytes_len()
    }

    #[test]
    fn the_size_follows_from_the_changes_of_the_reason() {
        assert_eq!(bytes_of([]), 0);
        assert_eq!(bytes_of([(1, TypeWanted)]), 1);
        assert_eq!(bytes_of((1..=1_000).map(|number| (number, TypeNotWanted))), 2);
        let alternating = |step: u32| {
            (1..=1_000).map(move |n| (n * step, [TypeWanted, Disabled][n as usize % 2]))
        };
        assert_eq!(bytes_of(alternating(1)), 1_000);
        assert_eq!(bytes_of(alternating(ENDPOINT_NUMBER_MAX / 1_000)), 3_000);
        assert_eq!(bytes_of([(ENDPOINT_NUMBER_MAX, TypeWanted)]), 4);
    }

    #[test]
    fn each_reason_has_its_code_and_its_name_and_other_bytes_are_refused() {
        for (code, reason) in (0..).zip(RouteReason::ALL.iter().copied()) {
            assert_eq!((reason as u64, RouteReason::of_code(code)), (code, Some(reason)));
            assert_eq!(reason.name().parse(), Ok(reason));
        }
        assert!(RouteReason::ALL.len() <= 1 << CODE_BITS);
        "changed_since".parse::<RouteReason>().unwrap_err();
        // An unknown code, a run without an end, and a distance of more than 32 bits.
        for bytes in [&[0x18][..], &[0x80], &[0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]] {
            assert!(RouteReasons::try_from(bytes.to_vec()).is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn every_endpoint_has_its_reason_and_a_later_one_none(
            given in prop::collection::btree_map(1..=ENDPOINT_NUMBER_MAX, 0..8usize, 0..40)
        ) {
            let judged: Vec<_> =
                given.iter().map(|(number, code)| (*number, RouteReason::ALL[*code])).collect();
            let reasons = RouteReasons::record(judged.iter().copied());
            let mut written = Vec::new();
            encode_into(&reasons, &mut written).unwrap();
            let read: RouteReasons = decode(&written).unwrap();
            prop_assert_eq!(&read, &reasons);
            for (number, reason) in &judged {
                prop_assert_eq!(read.of(*number), Some(*reason));
            }
            let last = judged.last().map_or(0, |(number, _)| *number);
            prop_assert_eq!(read.of(last + 1), None);
        }
    }
}
