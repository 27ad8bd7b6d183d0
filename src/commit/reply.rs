//! The answer to submitted commands: an outcome of its own type for each, or the reason why there is none.

use std::fmt;
use std::marker::PhantomData;

use tokio::sync::oneshot;

use super::intake::Refused;
use crate::base::exit_code::fatal;
use crate::commands::{Became, Submitted};
use crate::store::{Refusal, StateError};

/// The reason why a submission has no outcome. Nothing of it has an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitError {
    /// It was not stored.
    Refused(Refused),
    /// Its key may not ask for it.
    NotAllowed(Refusal),
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refused) => refused.fmt(f),
            Self::NotAllowed(Refusal::NotAuthorized) => f.write_str("the key that asks for it has ended"),
            Self::NotAllowed(Refusal::Forbidden) => f.write_str("the key that asks for it may not do this"),
        }
    }
}

impl std::error::Error for CommitError {}

impl From<Refused> for CommitError {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// The results of submitted commands, once they are on stable storage, in order.
#[derive(Debug)]
pub struct Reply(pub(super) oneshot::Receiver<Result<Vec<Became>, Refused>>);

impl Reply {
    /// Waits on a runtime.
    ///
    /// # Errors
    /// When the commands were refused after all.
    pub async fn results(self) -> Result<Vec<Became>, Refused> {
        self.0.await.unwrap_or(Err(Refused::ShuttingDown))
    }

    /// Waits on a thread of its own; never on one that serves a runtime.
    ///
    /// # Errors
    /// When the commands were refused after all.
    pub fn wait(self) -> Result<Vec<Became>, Refused> {
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

    /// Waits for the outcome of the one command that was submitted.
    ///
    /// # Errors
    /// When it was refused.
    pub async fn outcome(self) -> Result<K::Outcome, CommitError> {
        let outcome = self.outcomes().await?.into_iter().next();
        Ok(outcome.unwrap_or_else(|| broken("each command has a result")))
    }

    /// Waits for the outcome of each command, in order.
    ///
    /// # Errors
    /// When one was refused; then all were.
    pub async fn outcomes(self) -> Result<Vec<K::Outcome>, CommitError> {
        open::<K>(self.reply.results().await?)
    }

    /// Like [`Pending::outcomes`], on a thread of its own; never on one that serves a runtime.
    ///
    /// # Errors
    /// When one was refused; then all were.
    pub fn wait(self) -> Result<Vec<K::Outcome>, CommitError> {
        open::<K>(self.reply.wait()?)
    }
}

/// The one place that tells outcomes from those of other kinds.
fn open<K: Submitted>(results: Vec<Became>) -> Result<Vec<K::Outcome>, CommitError> {
    let outcome = |applied| K::outcome(applied).unwrap_or_else(|| broken("a command has the outcome of its own kind"));
    results.into_iter().map(|result| result.map(outcome).map_err(CommitError::NotAllowed)).collect()
}

/// The committer's results are not those of the commands: nobody must be told one of them.
fn broken(rule: &'static str) -> ! {
    fatal(&StateError::Invariant(rule).to_string())
}
