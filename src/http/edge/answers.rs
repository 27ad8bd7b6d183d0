//! Answers on their way out. This module bounds the bytes of unread answers, in all and for each
//! organization, and makes the body for actix.
//!
//! An answer stays in memory until the client has read all of it, and a client may never do so. A
//! large answer takes its share of the bound before the server builds the answer, and a list makes
//! shorter pages when little is left. Any other answer is measured before sending.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::web::Bytes;

use crate::base::shares::{Exhausted, Share, Shares};
use crate::http::edge::handle::InHand;
use crate::http::error::{Code, Problem};
use crate::http::principal::Principal;

/// Answers up to this size take no share of the bound: the connection's own buffers are larger.
const FREE_BYTES_MAX: u64 = 4 << 10;
/// Bytes handed to the connection at a time.
const PIECE_BYTES: usize = 16 << 10;

/// An answer's share of the bound, held until the answer is sent.
pub(in crate::http) type Part = Share<Principal>;

/// The bound on the bytes of unread answers.
#[derive(Debug)]
pub(in crate::http) struct Answers {
    bytes: Arc<Shares<Principal>>,
    bytes_max: u64,
}

impl Answers {
    /// Creates the bound: at most `bytes_max` bytes for all organizations together.
    pub(in crate::http) fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max as u64;
        Self { bytes: Shares::new(bytes_max, bytes_max), bytes_max }
    }

    /// Takes a share for an answer of at most `wanted` bytes. When little is left, the share is
    /// smaller, but never below `at_least`.
    ///
    /// # Errors
    /// Fails when too many bytes of answers are unread.
    pub(in crate::http) fn take(
        &self,
        principal: Principal,
        wanted: usize,
        at_least: usize,
    ) -> Result<Part, Problem> {
        self.bytes.take_up_to(principal, wanted as u64, at_least as u64).map_err(|exhausted| {
            let detail = match exhausted {
                Exhausted::OfOne if principal == Principal::Anyone => {
                    "too many bytes of answers to callers without a key are unread; try again later"
                }
                Exhausted::OfOne => {
                    "too many bytes of answers to this organization are unread; read them first"
                }
                Exhausted::InAll => "too many bytes of answers are unread; try again later",
            };
            Problem::new(Code::Overloaded, detail)
        })
    }

    /// Gives an empty share to an answer whose bytes all its readers have in common. A reader more
    /// costs no memory for them, so slow readers cannot use up what unread answers may take.
    pub(in crate::http) fn in_common(
        &self,
        principal: Principal,
        mut answer: HttpResponse,
    ) -> HttpResponse {
        answer.extensions_mut().insert(self.bytes.take_anyway(principal, 0));
        answer
    }

    /// Takes a share for the answer to a change before the change is made, so that the change can
    /// still be refused. A small answer needs none.
    ///
    /// # Errors
    /// Fails when too many bytes of answers are unread.
    pub(in crate::http) fn reserve(
        &self,
        principal: Principal,
        bytes: usize,
    ) -> Result<Option<Part>, Problem> {
        if bytes as u64 <= FREE_BYTES_MAX {
            return Ok(None);
        }
        self.take(principal, bytes, bytes).map(Some)
    }

    /// True if more than half of the bound is taken. Unread answers are then ended sooner. A single
    /// organization cannot cause this, because no organization gets more than remains for all
    /// others.
    pub(in crate::http) fn is_short(&self) -> bool {
        self.bytes.held().saturating_mul(2) > self.bytes_max
    }

    /// Gives a finished answer its share, unless the answer is small or has a share already. The
    /// answer to a committed change always gets a share: a refusal would be untrue, and a new
    /// secret, shown only in this answer, would be lost. Such answers are as long as the settings
    /// of one endpoint; longer ones are reserved before the change.
    ///
    /// # Errors
    /// Fails when too many bytes of answers are unread; the answer is then dropped.
    pub(in crate::http) fn admit(
        &self,
        principal: Principal,
        mut response: HttpResponse,
        has_committed: bool,
    ) -> Result<HttpResponse, Problem> {
        let BodySize::Sized(bytes) = response.body().size() else { return Ok(response) };
        if bytes > FREE_BYTES_MAX && response.extensions().get::<Part>().is_none() {
            let part = if has_committed {
                self.bytes.take_anyway(principal, bytes)
            } else {
                let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                self.take(principal, bytes, bytes)?
            };
            response.extensions_mut().insert(part);
        }
        Ok(response)
    }
}

/// Makes the answer's body for actix, which sends it in pieces. The share and the guard of the
/// request are dropped when the connection has taken the whole body. If the end of the connection
/// ends the answer, an answer that breaks off ends with a reset, so that no reader takes it for
/// whole.
pub(in crate::http) fn sent_in_pieces(
    mut response: HttpResponse,
    in_hand: InHand,
    is_ended_by_close: bool,
) -> HttpResponse {
    let part = response.extensions_mut().remove::<Part>();
    response
        .map_body(|_, body| {
            let content = match body.size() {
                BodySize::Sized(_) => {
                    body.try_into_bytes().map_or_else(Content::Stream, Content::Whole)
                }
                BodySize::None | BodySize::Stream => Content::Stream(body),
            };
            Outgoing { content, is_ended_by_close, in_hand, _part: part }
        })
        .map_into_boxed_body()
}

enum Content {
    Whole(Bytes),
    Stream(BoxBody),
}

struct Outgoing {
    content: Content,
    is_ended_by_close: bool,
    in_hand: InHand,
    _part: Option<Part>,
}

impl MessageBody for Outgoing {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        match &self.content {
            Content::Whole(bytes) => BodySize::Sized(bytes.len() as u64),
            Content::Stream(body) => body.size(),
        }
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.get_mut();
        match &mut this.content {
            Content::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Whole(bytes) => {
                Poll::Ready(Some(Ok(bytes.split_to(bytes.len().min(PIECE_BYTES)))))
            }
            Content::Stream(body) => {
                let next = Pin::new(body).poll_next(cx);
                if this.is_ended_by_close && matches!(next, Poll::Ready(Some(Err(_)))) {
                    this.in_hand.break_off();
                }
                next
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::OrgNo;

    #[test]
    fn one_organization_that_takes_all_it_can_does_not_shorten_the_patience_with_others() {
        let answers = Answers::new(1 << 20);
        let all_of = |org| {
            std::iter::from_fn(|| answers.take(Principal::Org(OrgNo(org)), 4_096, 1).ok())
                .collect::<Vec<_>>()
        };
        let first = all_of(1);
        assert!(answers.bytes.held() > 500 << 10, "{} bytes", answers.bytes.held());
        assert!(answers.take(Principal::Org(OrgNo(1)), 4_096, 1).is_err() && !answers.is_short());
        let second = all_of(2);
        assert!(answers.is_short());
        drop((first, second));
        assert!(!answers.is_short());
    }
}
