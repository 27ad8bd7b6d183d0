//! The answer to submitted commands: an outcome of its own type for each command, or the reason why
//! there is none.

use std::marker::PhantomData;

use tokio::sync::oneshot;

use super::space::Shortage;
use crate::base::exit_code::fatal;
use crate::commands::{Applying, Submitted};
use crate::store::{Refusal, StateError};

/// The reason why the rest of the disk is refused to what makes more, in a sentence.
const REST_KEPT: &str = "the disk is almost full, and its rest is kept for what gives space back; \
    acknowledge, erase or delete what is not needed, or try again when there is space";

/// The reason why commands were refused. None of the commands is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The queue is full, or its oldest submission has waited too long.
    #[error("too many changes wait to be stored")]
    Overloaded,
    /// The disk is short of this resource.
    #[error("{}", .0.explanation())]
    DiskFull(Shortage),
    /// The rest of the disk is kept for what gives space back.
    #[error("{REST_KEPT}")]
    RestKept,
    /// The server is stopping.
    #[error("the server is stopping")]
    ShuttingDown,
}

/// The reason why a submission has no outcome. The submission has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The submission was not stored.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The key behind the request may not ask for the command.
    #[error("{}", why_not_allowed(*.0))]
    NotAllowed(Refusal),
}

/// The reason why the key may not ask for the command, in a clause.
fn why_not_allowed(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NotAuthorized => "the key that asks for it has ended",
        Refusal::Forbidden => "the key that asks for it may not do this",
        Refusal::Suspended => "the organization of the key that asks for it is suspended",
    }
}

/// The results of submitted commands, in order, once they are on stable storage.
#[derive(Debug)]
pub struct Reply(pub(super) oneshot::Receiver<Result<Vec<Applying>, Refused>>);

impl Reply {
    /// Waits for the results inside an async runtime.
    ///
    /// # Errors
    /// The commands were refused after all.
    pub async fn results(self) -> Result<Vec<Applying>, Refused> {
        self.0.await.unwrap_or(Err(Refused::ShuttingDown))
    }

    /// Waits for the results by blocking. Never call this on a thread that serves a runtime.
    ///
    /// # Errors
    /// The commands were refused after all.
    pub fn wait(self) -> Result<Vec<Applying>, Refused> {
        self.0.blocking_recv().unwrap_or(Err(Refused::ShuttingDown))
    }
}

/// The outcomes of submitted commands that are all of one kind.
#[derive(Debug)]
pub struct Pending<K> {
    reply: Reply,
    kind: PhantomData<fn() -> K>,
}

impl<K: Submitted> Pending<K> {
    pub(super) fn new(reply: Reply) -> Self {
        Self { reply, kind: PhantomData }
    }

    /// Waits for the outcome of a single submitted command.
    ///
    /// # Errors
    /// The command was refused.
    pub async fn outcome(self) -> Result<K::Outcome, CommitError> {
        let outcome = self.outcomes().await?.into_iter().next();
        Ok(outcome.unwrap_or_else(|| broken("each command has a result")))
    }

    /// Waits for the outcome of each command, in order.
    ///
    /// # Errors
    /// A command was refused; then all were.
    pub async fn outcomes(self) -> Result<Vec<K::Outcome>, CommitError> {
        open::<K>(self.reply.results().await?)
    }

    /// Like [`Pending::outcomes`], but blocks. Never call this on a thread that serves a runtime.
    ///
    /// # Errors
    /// A command was refused; then all were.
    pub fn wait(self) -> Result<Vec<K::Outcome>, CommitError> {
        open::<K>(self.reply.wait()?)
    }
}

/// Turns results into outcomes of the kind `K`. No other function does this.
fn open<K: Submitted>(results: Vec<Applying>) -> Result<Vec<K::Outcome>, CommitError> {
    let outcome = |applied| {
        K::outcome(applied).unwrap_or_else(|| broken("a command has the outcome of its own kind"))
    };
    results.into_iter().map(|result| result.map(outcome).map_err(CommitError::NotAllowed)).collect()
}

/// Ends the process: the results do not match the commands, so no client may get one.
fn broken(rule: &'static str) -> ! {
    fatal(&StateError::Invariant(rule).to_string())
}
