//! The handle by which a request uses its connection.

use std::rc::Rc;

use actix_web::HttpRequest;
use actix_web::http::Method;
use actix_web::http::header::{CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};

use crate::http::edge::connection_state::{HELD_BYTES_MAX, Outlook, Phase, Shared};

/// The handle by which a request uses its connection.
#[derive(Clone, Debug)]
pub(in crate::http) struct Handle(Rc<Shared>);

impl Handle {
    pub(in crate::http) fn of(shared: &Rc<Shared>) -> Self {
        Self(Rc::clone(shared))
    }

    /// Begins a request, which stays in hand until the guard is dropped.
    pub(in crate::http) fn begin(&self, request: &HttpRequest) -> InHand {
        let headers = request.headers();
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let length = text(CONTENT_LENGTH).and_then(|length| length.parse().ok());
        let body = match length {
            _ if headers.contains_key(TRANSFER_ENCODING) => Phase::Chunked,
            Some(length) => Phase::Body(length),
            None => Phase::Answer,
        };
        // After such a request, actix does not read HTTP any more.
        let is_tunnel = request.method() == Method::CONNECT
            || (body != Phase::Chunked
                && text(UPGRADE).is_some_and(|to| to.eq_ignore_ascii_case("websocket")));
        self.0.is_last.set(is_tunnel);
        self.0.begin(body);
        InHand(Rc::clone(&self.0))
    }

    /// Records the end of a chunked body.
    pub(in crate::http) fn body_is_read(&self) {
        if self.0.phase.get() == Phase::Chunked {
            self.0.has_arrived();
        }
    }

    /// True if the connection closes after this answer.
    pub(in crate::http) fn is_leaving(&self) -> bool {
        self.0.leaving.get() || self.0.is_cut_short()
    }

    /// See [`Shared::leave_if_crowded`].
    pub(in crate::http) fn leave_if_crowded(&self) {
        self.0.leave_if_crowded();
    }

    /// Declares the request in hand to be the last of its connection.
    pub(in crate::http) fn is_last(&self) {
        self.0.is_last.set(true);
    }

    /// True if the chunked body is malformed.
    pub(in crate::http) fn is_malformed(&self) -> bool {
        self.0.is_malformed.get()
    }

    /// Declares that the request only waits from now on, so an early answer can make room for
    /// others.
    pub(in crate::http) fn waits(&self) {
        self.0.waits.set(true);
    }

    /// Declares that the request only waits until the guard is dropped.
    pub(in crate::http) fn waits_meanwhile(&self) -> WaitsMeanwhile {
        WaitsMeanwhile { waited: self.0.waits.replace(true), shared: Rc::clone(&self.0) }
    }

    /// True if the request in hand should end early, because its connection must make room.
    pub(in crate::http) fn makes_room(&self) -> bool {
        self.0.leaving.get()
    }

    /// Completes when the request in hand should end early, because its connection must make room.
    pub(in crate::http) async fn must_make_room(&self) {
        while !self.makes_room() {
            self.0.left.notified().await;
        }
    }

    /// Completes when no request should wait for this peer any more.
    pub(in crate::http) async fn left(&self) {
        let is_far_ahead = || self.0.held.borrow().len() >= HELD_BYTES_MAX;
        while !(self.0.eof.get()
            || is_far_ahead()
            || self.0.leaving.get()
            || self.0.outlook.get() != Outlook::Open)
        {
            self.0.left.notified().await;
        }
    }
}

/// The guard of a request that waits for its turn.
#[derive(Debug)]
pub(in crate::http) struct WaitsMeanwhile {
    /// True if the request only waited before, too.
    waited: bool,
    shared: Rc<Shared>,
}

impl Drop for WaitsMeanwhile {
    fn drop(&mut self) {
        self.shared.waits.set(self.waited);
    }
}

/// The guard of a request in hand: dropping the guard ends the request.
#[derive(Debug)]
pub(in crate::http) struct InHand(Rc<Shared>);

impl InHand {
    /// Ends the connection with a reset.
    pub(in crate::http) fn break_off(&self) {
        self.0.outlook.set(Outlook::Ended);
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.end();
    }
}
