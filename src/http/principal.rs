//! The principal of a request: the party whose rate limits and shares of the server it uses.

use crate::model::id::OrgNo;

/// The party whose rate limits and shares of the server a request uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Principal {
    /// Every caller of a public route, and every caller that is not known yet.
    Anyone,
    /// The operator.
    Admin,
    /// An organization, by any of its keys.
    Org(OrgNo),
}
