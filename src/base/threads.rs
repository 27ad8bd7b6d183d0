//! Threads with a name and an end. All threads start here, and each is joined by its starter,
//! except for those that look up names or ask a filesystem that may not answer. The process ends if
//! a critical thread dies.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::exit_code::fatal;

/// Starts a critical thread: if it panics, the process ends with exit code 70.
///
/// # Errors
/// The system cannot start another thread.
pub fn spawn_critical(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<Thread> {
    let owned = name.to_owned();
    let handle = std::thread::Builder::new().name(owned.clone()).spawn(move || {
        if catch_unwind(AssertUnwindSafe(body)).is_err() {
            fatal(&format!("thread {owned} panicked"));
        }
    })?;
    Ok(Thread { name: name.to_owned(), handle })
}

/// Does work that may never end, on a thread of its own, and waits for its result at most so long.
/// `None` if the work is late; its thread then goes on by itself.
///
/// # Errors
/// The system cannot start another thread.
pub fn within<T: Send + 'static>(
    at_most: Duration,
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<Option<T>> {
    let (done, result) = sync_channel(1);
    spawn_critical(name, move || drop(done.send(work())))?;
    Ok(result.recv_timeout(at_most).ok())
}

/// Locks a mutex, also after a panic of a thread that held it: what it guards is whole between any
/// two steps.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running thread with its name.
#[derive(Debug)]
pub struct Thread {
    name: String,
    handle: JoinHandle<()>,
}

impl Thread {
    /// Waits until the thread has ended, at most until `deadline`. Returns true if the thread ended
    /// without a panic.
    pub fn join_until(self, deadline: Instant) -> bool {
        let pause = Signal::new();
        while !self.handle.is_finished() {
            if Instant::now() >= deadline {
                tracing::warn!(thread = self.name, "the thread did not end in time");
                return false;
            }
            pause.wait(Duration::from_millis(2));
        }
        self.handle.join().is_ok()
    }
}

/// A thread of which there is at most one at a time.
#[derive(Debug, Default)]
pub struct SingleThread {
    is_taken: Arc<AtomicBool>,
    thread: Mutex<Option<Thread>>,
}

/// The place of the only thread. Dropping it lets the next thread start.
#[derive(Debug)]
pub struct OnlyPlace(Arc<AtomicBool>);

impl Drop for OnlyPlace {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl SingleThread {
    /// Starts a critical thread. Returns false if the place of the thread is taken.
    ///
    /// # Errors
    /// The system cannot start another thread.
    pub fn start(
        &self,
        name: &str,
        body: impl FnOnce(OnlyPlace) + Send + 'static,
    ) -> std::io::Result<bool> {
        if self.is_taken.swap(true, Ordering::SeqCst) {
            return Ok(false);
        }
        let place = OnlyPlace(Arc::clone(&self.is_taken));
        let thread = spawn_critical(name, move || body(place))?;
        *locked(&self.thread) = Some(thread);
        Ok(true)
    }

    /// Waits for the last thread, see [`Thread::join_until`]. Returns true if there is none.
    pub fn join_until(&self, deadline: Instant) -> bool {
        let thread = locked(&self.thread).take();
        thread.is_none_or(|thread| thread.join_until(deadline))
    }
}

/// A flag on which a sleeping thread waits. A `notify` before the `wait` is not lost.
#[derive(Clone, Debug, Default)]
pub struct Signal(Arc<(Mutex<bool>, Condvar)>);

impl Signal {
    /// Creates a signal without a notification.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wakes the waiter, or lets its next wait return at once.
    pub fn notify(&self) {
        let (flag, changed) = &*self.0;
        *flag.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }

    /// Waits for a notification, at most `at_most` (`Duration::MAX`: without limit). Returns true
    /// if a notification came.
    pub fn wait(&self, at_most: Duration) -> bool {
        let (flag, changed) = &*self.0;
        let mut given = flag.lock().unwrap_or_else(PoisonError::into_inner);
        let deadline = Instant::now().checked_add(at_most);
        while !*given {
            given = match deadline {
                None => changed.wait(given).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    changed.wait_timeout(given, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        std::mem::replace(&mut given, false)
    }
}

/// A request to stop, given once and seen by threads and futures.
#[derive(Clone, Debug)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Default for Stop {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Stop {
    /// Creates a signal before any request to stop.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks all holders to stop.
    pub fn set(&self) {
        self.0.send_replace(true);
    }

    /// Returns true if a stop was requested.
    pub fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Completes when a stop is requested.
    pub async fn stopped(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        if self.0.subscribe().wait_for(|set| *set).await.is_err() {
            tracing::debug!("the stop signal is closed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_before_the_wait_is_not_lost() {
        let signal = Signal::new();
        signal.notify();
        assert!(signal.wait(Duration::from_mins(3)));
        assert!(!signal.wait(Duration::ZERO), "one notification wakes once");
    }

    #[test]
    fn work_that_does_not_end_is_left_alone() {
        assert_eq!(within(Duration::from_mins(3), "quick", || 7).unwrap(), Some(7));
        let hold = Signal::new();
        let waits_on = hold.clone();
        let late = within(Duration::from_millis(1), "late", move || waits_on.wait(Duration::MAX));
        assert_eq!(late.unwrap(), None);
        hold.notify();
    }

    #[test]
    fn a_single_thread_starts_again_when_its_place_is_free() {
        let (single, hold) = (SingleThread::default(), Signal::new());
        let in_time = || Instant::now() + Duration::from_mins(3);
        assert!(single.join_until(in_time()), "there is none");
        let waits_on = hold.clone();
        let body = move |place| {
            waits_on.wait(Duration::MAX);
            drop(place);
        };
        assert!(single.start("first", body).unwrap());
        assert!(!single.start("second", drop).unwrap());
        hold.notify();
        assert!(single.join_until(in_time()));
        assert!(single.start("third", drop).unwrap() && single.join_until(in_time()));
    }

    #[test]
    fn join_gives_up_at_its_deadline_and_says_so() {
        let hold = Signal::new();
        let waits_on = hold.clone();
        let thread = spawn_critical("held", move || {
            waits_on.wait(Duration::MAX);
        })
        .unwrap();
        assert!(!thread.join_until(Instant::now()));
        hold.notify();
        assert!(
            spawn_critical("quick", || ())
                .unwrap()
                .join_until(Instant::now() + Duration::from_mins(3))
        );
    }
}
