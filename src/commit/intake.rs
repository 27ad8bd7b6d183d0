//! The door to the committer: a bounded queue that refuses when it is full, so that overload is felt in milliseconds.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Sender, TrySendError};
use tokio::sync::oneshot;

use crate::base::sabotage::{self, Switch};
use crate::model::command::Command;
use crate::store::Outcome;

/// Why commands were not taken. Nothing of them is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The queue is full.
    Overloaded,
    /// The disk has no more room than the reserve.
    DiskFull,
    /// The server is stopping.
    ShuttingDown,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overloaded => "more is waiting to be stored than the queue holds",
            Self::DiskFull => "the disk has no more room than the reserve",
            Self::ShuttingDown => "the server is stopping",
        })
    }
}

impl std::error::Error for Refused {}

/// Commands on their way, and who waits for what becomes of them.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) commands: Vec<Command>,
    pub(super) reply: Option<oneshot::Sender<Result<Vec<Outcome>, Refused>>>,
}

/// What becomes of submitted commands, once they are on stable storage: an outcome for each, in order.
#[derive(Debug)]
pub struct Reply(oneshot::Receiver<Result<Vec<Outcome>, Refused>>);

impl Reply {
    /// Waits on a runtime.
    ///
    /// # Errors
    /// When the commands were refused after all.
    pub async fn outcomes(self) -> Result<Vec<Outcome>, Refused> {
        self.0.await.unwrap_or(Err(Refused::ShuttingDown))
    }

    /// Waits on a thread of its own; never on one that serves a runtime.
    ///
    /// # Errors
    /// When the commands were refused after all.
    pub fn wait(self) -> Result<Vec<Outcome>, Refused> {
        self.0.blocking_recv().unwrap_or(Err(Refused::ShuttingDown))
    }
}

/// Takes commands. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Intake {
    queue: Sender<Submission>,
    state: Arc<IntakeState>,
}

#[derive(Debug, Default)]
struct IntakeState {
    closed: AtomicBool,
    disk_low: AtomicBool,
}

impl Intake {
    pub(super) fn new(queue: Sender<Submission>) -> Self {
        Self { queue, state: Arc::default() }
    }

    /// Hands over commands, never waiting. They are stored all together or, after a crash, a first part of them.
    ///
    /// # Errors
    /// [`Refused::Overloaded`] when the queue is full, [`Refused::ShuttingDown`] after [`Intake::close`],
    /// [`Refused::DiskFull`] for events while the disk is low (everything else goes on, since it makes room).
    pub fn submit(&self, commands: Vec<Command>) -> Result<Reply, Refused> {
        if self.is_closed() {
            return Err(Refused::ShuttingDown);
        }
        let grows = || commands.iter().any(|command| matches!(command, Command::SubmitEvent(_)));
        if self.is_disk_low() && grows() {
            return Err(Refused::DiskFull);
        }
        let (reply, outcomes) = oneshot::channel();
        match self.queue.try_send(Submission { commands, reply: Some(reply) }) {
            Ok(()) => Ok(Reply(outcomes)),
            Err(TrySendError::Full(_)) => Err(Refused::Overloaded),
            Err(TrySendError::Disconnected(_)) => Err(Refused::ShuttingDown),
        }
    }

    /// Hands over commands nobody waits for, waiting for room in the queue: for our own threads, whose work must not be
    /// refused because producers are many. Says whether there is still a committer.
    pub fn push(&self, commands: Vec<Command>) -> bool {
        commands.is_empty() || self.queue.send(Submission { commands, reply: None }).is_ok()
    }

    /// Like [`Intake::push`], and waits until it is stored. Says whether it was.
    pub fn push_and_wait(&self, commands: Vec<Command>) -> bool {
        let (reply, outcomes) = oneshot::channel();
        commands.is_empty()
            || (self.queue.send(Submission { commands, reply: Some(reply) }).is_ok() && Reply(outcomes).wait().is_ok())
    }

    /// From now on nothing more is taken; the committer ends when it has done what waits.
    pub fn close(&self) {
        if !self.state.closed.swap(true, Ordering::SeqCst) {
            // Wakes the committer if it sleeps; if the queue is full it does not.
            let woken = self.queue.try_send(Submission { commands: Vec::new(), reply: None });
            tracing::debug!(woken = woken.is_ok(), "intake closed");
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.closed.load(Ordering::SeqCst)
    }

    /// Says whether free disk space has fallen below the reserve.
    pub fn set_disk_low(&self, low: bool) {
        self.state.disk_low.store(low && !sabotage::is_on(Switch::ReserveOff), Ordering::SeqCst);
    }

    /// Whether events are refused because the disk is low.
    pub fn is_disk_low(&self) -> bool {
        self.state.disk_low.load(Ordering::SeqCst)
    }

    /// How many submissions wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }
}
