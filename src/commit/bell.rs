//! Tells requests that wait for an event that one came.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::model::id::OrgNo;

/// A bell for each organization somebody waits for.
#[derive(Clone, Debug, Default)]
pub struct InboxBell(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    bells: Mutex<HashMap<OrgNo, watch::Sender<()>>>,
    /// How many bells there are: nobody waits most of the time, and then ringing costs one load.
    count: AtomicUsize,
}

/// Hears what is rung from its making on.
#[derive(Debug)]
pub struct InboxListener(watch::Receiver<()>);

impl InboxBell {
    /// Begins to listen. Listen first, then look into the inbox, then wait: so nothing is missed in between.
    pub fn listen(&self, org: OrgNo) -> InboxListener {
        let mut bells = self.0.bells.lock().unwrap_or_else(PoisonError::into_inner);
        bells.retain(|_, bell| bell.receiver_count() > 0);
        let listener = bells.entry(org).or_insert_with(|| watch::Sender::new(())).subscribe();
        self.0.count.store(bells.len(), Ordering::SeqCst);
        InboxListener(listener)
    }

    /// Wakes those who listen for one of these organizations.
    pub fn ring(&self, orgs: &[OrgNo]) {
        if self.0.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let bells = self.0.bells.lock().unwrap_or_else(PoisonError::into_inner);
        for bell in orgs.iter().filter_map(|org| bells.get(org)) {
            bell.send_replace(());
        }
    }
}

impl InboxListener {
    /// Waits until the bell is rung; at once if it was since this listener was made or last waited.
    pub async fn rung(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await; // nobody will ring any more
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ringing_between_listening_and_waiting_is_not_missed_and_others_sleep_on() {
        let bell = InboxBell::default();
        bell.ring(&[OrgNo(1)]);
        let (mut one, mut two) = (bell.listen(OrgNo(1)), bell.listen(OrgNo(2)));
        bell.ring(&[OrgNo(1)]);
        one.rung().await;
        let slept = tokio::time::timeout(std::time::Duration::from_millis(20), two.rung()).await;
        assert!(slept.is_err(), "another organization's bell is silent");
        drop((one, two));
        let _listener = bell.listen(OrgNo(3));
        assert_eq!(bell.0.count.load(Ordering::SeqCst), 1, "bells nobody listens to are gone");
    }
}
