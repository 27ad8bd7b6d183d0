//! The labels of metrics: closed sets of values.

/// A closed set of label values.
pub trait Label: Copy {
    /// The label values, in the order of [`Label::index`].
    const NAMES: &'static [&'static str];
    /// Returns the index of this value in [`Label::NAMES`].
    fn index(self) -> usize;
}

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl Label for $name {
            const NAMES: &'static [&'static str] = &[$($text),+];
            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

labels! {
    /// The reason why an event was refused.
    Rejection {
        /// A member is missing, unknown or wrong.
        Validation = "validation",
        /// The body is not JSON.
        Malformed = "malformed",
        /// The `dedup_id` was used for another event.
        Mismatch = "mismatch",
        /// The event exceeds a size limit.
        TooLarge = "too_large",
        /// The server does not accept the content type.
        UnsupportedMediaType = "unsupported_media_type",
        /// The organization exceeds the rate of its tier.
        RateLimited = "rate_limited",
        /// The intake queue is full.
        Overloaded = "overloaded",
        /// The disk reserve is reached.
        DiskFull = "disk_full",
        /// The server is stopping.
        ShuttingDown = "shutting_down",
        /// The key is missing, not valid, or lacks the scope.
        Unauthorized = "unauthorized",
    }
}

labels! {
    /// A bounded queue in memory.
    Queue {
        /// Commands in front of the committer.
        Intake = "intake",
        /// Events in front of the workers.
        Routing = "routing",
        /// Deliveries before their next attempt.
        Scheduler = "scheduler",
    }
}

labels! {
    /// The outcome of an attempt for its delivery.
    DeliveryOutcome {
        /// The endpoint accepted the event.
        Delivered = "delivered",
        /// Another attempt will follow.
        Retried = "retried",
        /// The delivery became a dead letter.
        Dead = "dead",
    }
}

labels! {
    /// The kind of an operational event.
    OperationalEvent {
        /// Every attempt to an endpoint has failed for a while.
        EndpointFailing = "endpoint_failing",
        /// An endpoint was disabled.
        EndpointDisabled = "endpoint_disabled",
        /// A failing endpoint accepts deliveries again.
        EndpointRecovered = "endpoint_recovered",
        /// A delivery became a dead letter.
        DeliveryDead = "delivery_dead",
        /// The free disk space is low.
        DiskLow = "disk_low",
        /// Unfinished events have expired.
        InboxExpired = "inbox_expired",
        /// A key ends soon.
        KeyExpiring = "key_expiring",
    }
}

labels! {
    /// What was left to do for an event that expired.
    ExpiredKind {
        /// Nothing: the event was finished.
        Finished = "finished",
        /// Only dead letters were left.
        Dead = "dead",
        /// The event was in an inbox, waited for an endpoint or was not routed.
        Open = "open",
    }
}

labels! {
    /// The reason why an event expired.
    ExpiryReason {
        /// The event was old enough.
        Age = "age",
        /// The data took more disk space than its limit.
        Bytes = "bytes",
        /// The filesystem had too little free space.
        Disk = "disk",
    }
}

labels! {
    /// A part of the data directory.
    DataKind {
        /// The segments of the journal.
        Journal = "journal",
        /// The snapshots of the state.
        Snapshots = "snapshots",
        /// The state.
        State = "state",
    }
}

labels! {
    /// The result of checking a key.
    KeyVerification {
        /// The key was verified not long ago.
        Cached = "cached",
        /// The key was verified with the slow hash.
        Verified = "verified",
        /// The key is wrong, unknown, revoked or expired.
        Refused = "refused",
        /// The key was not checked, because too many checks wait.
        Overloaded = "overloaded",
    }
}

labels! {
    /// The first digit of an HTTP status.
    StatusClass {
        /// Statuses from 100 to 199.
        Informational = "1xx",
        /// Statuses from 200 to 299.
        Success = "2xx",
        /// Statuses from 300 to 399.
        Redirection = "3xx",
        /// Statuses from 400 to 499.
        ClientError = "4xx",
        /// All other statuses, such as 500 to 599.
        ServerError = "5xx",
    }
}

impl StatusClass {
    pub(super) fn of(status: u16) -> Self {
        match status / 100 {
            1 => Self::Informational,
            2 => Self::Success,
            3 => Self::Redirection,
            4 => Self::ClientError,
            _ => Self::ServerError,
        }
    }
}
