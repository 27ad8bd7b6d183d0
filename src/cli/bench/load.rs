//! The two ways to make load. In a closed loop, each connection posts, waits for the answer, and
//! posts again; this measures how much the server accepts. In an open loop, requests are sent on a
//! schedule, independent of earlier requests, as from producers that know nothing of each other;
//! this measures the latency.
//!
//! Everything runs on one thread, because the measured server needs the others.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::connection::Connection;
use super::request::{Request, Shape};
use super::schedule::{Schedule, Ticker};
use super::tally::{Tally, Times};

/// Time limit for answers after the end of the run.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time between two tries to connect.
const RECONNECT: Duration = Duration::from_millis(10);

/// Load on one server. Event numbers never repeat.
#[derive(Clone, Debug)]
pub(super) struct Load {
    shape: Rc<Shape>,
    next: Rc<Cell<u64>>,
}

/// The treatment of due requests that are not yet sent at the end of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// The requests are sent, and their latency counts.
    Send,
    /// The requests are counted as unsent.
    Leave,
}

impl Load {
    pub(super) fn new(shape: Shape) -> Self {
        Self { shape: Rc::new(shape), next: Rc::default() }
    }

    pub(super) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Posts as fast as this number of connections can, one request at a time on each.
    pub(super) async fn closed(&self, connections: usize, window: Duration) -> io::Result<Tally> {
        let clients = self.connect(connections).await?;
        let tally =
            Rc::new(RefCell::new(Tally::new(Instant::now(), window).map_err(io::Error::other)?));
        let ends = tally.borrow().ends;
        let mut tasks = JoinSet::new();
        for mut client in clients {
            let tally = Rc::clone(&tally);
            tasks.spawn_local(async move {
                while Instant::now() < ends {
                    client.post(&tally, None).await;
                }
            });
        }
        join(tasks, ends + PATIENCE).await;
        finished(&tally)
    }

    /// Posts at this rate, each request on any idle connection.
    pub(super) async fn open(
        &self,
        connections: usize,
        per_second: u64,
        window: Duration,
        rest: Rest,
    ) -> io::Result<Tally> {
        let clients = self.connect(connections).await?;
        let schedule = Schedule::new(Instant::now(), per_second, window);
        let tally =
            Rc::new(RefCell::new(Tally::new(schedule.began, window).map_err(io::Error::other)?));
        let ends = tally.borrow().ends;
        let tickets = Rc::new(Tickets { due: Semaphore::new(0), taken: Cell::new(0), schedule });
        let mut ticker = Ticker::start(&schedule)?;
        let mut tasks = JoinSet::new();
        for mut client in clients {
            let (tally, tickets) = (Rc::clone(&tally), Rc::clone(&tickets));
            tasks.spawn_local(async move {
                while let Some(due) = tickets.take().await {
                    client.post(&tally, Some(due)).await;
                }
            });
        }
        tickets.hand_out(&mut ticker, ends).await?;
        if rest == Rest::Leave {
            tickets.due.close();
        }
        join(tasks, ends + PATIENCE).await;
        tally.borrow_mut().unsent = schedule.total.saturating_sub(tickets.taken.get());
        finished(&tally)
    }

    async fn connect(&self, connections: usize) -> io::Result<Vec<Client>> {
        let mut clients = Vec::with_capacity(connections);
        for _ in 0..connections {
            let connection = Some(Connection::open(self.shape.address).await?);
            clients.push(Client { load: self.clone(), request: self.shape.request(), connection });
        }
        Ok(clients)
    }
}

/// The requests of a schedule, handed to the clients in order.
struct Tickets {
    due: Semaphore,
    taken: Cell<u64>,
    schedule: Schedule,
}

impl Tickets {
    /// Waits for the next due request and returns its time; none after the last request.
    async fn take(&self) -> Option<Instant> {
        // The semaphore is closed when no more requests are wanted.
        self.due.acquire().await.ok()?.forget();
        let number = self.taken.get();
        self.taken.set(number + 1);
        if self.taken.get() == self.schedule.total {
            self.due.close();
        }
        Some(self.schedule.due(number))
    }

    async fn hand_out(&self, ticker: &mut Ticker, ends: Instant) -> io::Result<()> {
        let mut handed_out = 0;
        while handed_out < self.schedule.total && Instant::now() < ends {
            ticker.tick().await?;
            let due = self.schedule.due_by(Instant::now());
            self.due.add_permits(usize::try_from(due - handed_out).unwrap_or(usize::MAX));
            handed_out = due;
        }
        // A late tick must not shorten the schedule.
        self.due
            .add_permits(usize::try_from(self.schedule.total - handed_out).unwrap_or(usize::MAX));
        Ok(())
    }
}

/// One connection and its request.
struct Client {
    load: Load,
    request: Request,
    connection: Option<Connection>,
}

impl Client {
    /// Posts once and counts the result. Without `due`, the request is due now.
    async fn post(&mut self, tally: &RefCell<Tally>, due: Option<Instant>) {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => match Connection::open(self.load.shape.address).await {
                Ok(connection) => connection,
                Err(_refused) => {
                    tally.borrow_mut().sent += 1;
                    tally.borrow_mut().broken += 1;
                    return tokio::time::sleep(RECONNECT).await;
                }
            },
        };
        let mut next = self.load.next.get();
        let bytes = self.request.numbered(&mut next);
        self.load.next.set(next);
        tally.borrow_mut().sent += 1;
        let sent = Instant::now();
        let answer = connection.exchange(bytes).await;
        let answered = Instant::now();
        match answer {
            Ok(answer) => {
                tally
                    .borrow_mut()
                    .answered(answer, Times { due: due.unwrap_or(sent), sent, answered });
                self.connection = (!answer.closes).then_some(connection);
            }
            Err(_broken) => tally.borrow_mut().broken += 1,
        }
    }
}

/// Waits for all tasks until the deadline, and then stops the rest.
async fn join(mut tasks: JoinSet<()>, deadline: Instant) {
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout_at(deadline.into(), all).await.is_err() {
        tasks.shutdown().await;
    }
}

/// Requests that were sent and never answered count as broken.
fn finished(tally: &Rc<RefCell<Tally>>) -> io::Result<Tally> {
    let empty = Tally::new(Instant::now(), Duration::ZERO).map_err(io::Error::other)?;
    let mut tally = tally.replace(empty);
    tally.broken = tally.sent - tally.statuses.values().sum::<u64>();
    Ok(tally)
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
