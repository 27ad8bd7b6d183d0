//! One attempt from beginning to end: the event from the journal, the request, the verdict, and the
//! settling.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tracing::field::display;

use super::completion::Completion;
use super::envelope::Body;
use super::lookups::NoLookup;
use super::operational_events;
use super::scheduler::Attempts;
use super::secrets;
use super::sender::{Request, Sender};
use super::subject::{Subject, log_about};
use crate::base::live::Live;
use crate::base::metrics::{DeliveryOutcome, OperationalEvent};
use crate::base::random;
use crate::commands::{SettleAttempt, SettleOutcome};
use crate::commit::{CommitError, Engine, FailingPace, Refused};
use crate::model::delivery::{AttemptOutcome, DeliveryStatus, Verdict};
use crate::model::endpoint::DisabledReason;
use crate::model::operational_event::OperationalEventKind;
use crate::model::time::Timestamp;
use crate::rules::breaker::Answer;
use crate::rules::retry::{RetryPolicy, disables, verdict};
use crate::store::DueDelivery;

/// The pause before another try when the intake or the disk is full.
const AGAIN: Duration = Duration::from_millis(50);

/// Makes attempts as tasks of a runtime.
#[derive(Clone)]
pub struct Attempter {
    /// The runtime of the sending threads.
    pub runtime: Handle,
    /// The shared parts of the server.
    pub engine: Arc<Engine>,
    /// The current settings; an attempt keeps the settings of its beginning.
    pub settings: Arc<Live<AttemptSettings>>,
}

/// Settings of attempts from the configuration.
pub struct AttemptSettings {
    /// Sends the requests, and holds idle connections.
    pub sender: Sender,
    /// The retry schedule of endpoints without their own.
    pub policy: RetryPolicy,
    /// An endpoint that only failed for this long is disabled, in milliseconds; 0 means never.
    pub disable_after_ms: u64,
    /// The organization is told about an endpoint that only failed for this long, in milliseconds;
    /// 0 means never.
    pub failing_after_ms: u64,
}

impl Attempts for Attempter {
    fn start(&self, delivery: DueDelivery, mut completion: Completion) {
        let attempter = self.clone();
        drop(self.runtime.spawn(async move {
            let verdict = attempter.attempt(delivery, &mut completion).await;
            completion.end(verdict);
        }));
    }
}

impl Attempter {
    /// Makes an attempt and settles it; `None` if the attempt cannot be settled.
    async fn attempt(&self, delivery: DueDelivery, completion: &mut Completion) -> Option<Verdict> {
        let subject = Subject::of(&delivery);
        let settings = self.settings.get();
        let body = self.body(&delivery, subject)?;
        let Some(sent) = self.send(&settings.sender, &delivery, (subject, body)).await else {
            log_about!(error, subject, "the endpoint's secret was encrypted with another key");
            return None;
        };
        let Ok(outcome) = sent.inspect_err(|error| {
            log_about!(info, subject, %error, "the attempt could not begin; it is put off");
        }) else {
            return None;
        };
        // Due times are steady times, so a clock set back delays no retry. The time of failing is
        // measured by them, too.
        let steady = Timestamp(self.engine.clock.steady_ms());
        completion.answered(Answer::of(&outcome), steady);
        self.count(&outcome);
        let settle = self.judged(&settings, &delivery, (outcome, steady));
        let settled = self.settle(&settle, completion).await?;
        let state = state_after(&settle, &settled);
        self.note(Subject { state, status: settle.outcome.status, ..subject }, &settle, &settled);
        // The settling had no effect, so the scheduler must read the delivery from the state.
        Some(settle.verdict).filter(|_| settled != SettleOutcome::NoEffect)
    }

    /// Returns the command that settles an attempt with this outcome at this steady time.
    fn judged(
        &self,
        settings: &AttemptSettings,
        delivery: &DueDelivery,
        (outcome, steady): (AttemptOutcome, Timestamp),
    ) -> SettleAttempt {
        let number = Subject::of(delivery).attempt;
        // A restarted schedule does not count the attempts before.
        let in_schedule = number.saturating_sub(delivery.base);
        let policy = policy_of(&settings.policy, delivery);
        let verdict = verdict(&policy, in_schedule, &outcome, steady, random::unit());
        let disables = disables(settings.disable_after_ms, delivery.failing_from, &outcome, steady);
        let mut settle = SettleAttempt {
            org: delivery.org,
            endpoint: delivery.endpoint.id,
            event: delivery.event,
            number,
            trigger: delivery.trigger,
            outcome: self.shortened(outcome),
            verdict,
            disables,
            previous: delivery.last_attempt,
            operational_events: Vec::new(),
        };
        settle.operational_events =
            operational_events::caused_by(delivery, &settle, steady, settings.failing_after_ms);
        settle
    }

    fn body(&self, delivery: &DueDelivery, subject: Subject) -> Option<Body> {
        let DueDelivery { event, position, received_at, .. } = *delivery;
        let form = delivery.endpoint.settings.body;
        let submit = self.engine.records.event(event, position).map_err(|error| error.to_string());
        let body = submit.and_then(|submit| {
            Body::of(form, event, received_at, submit.event).map_err(|error| error.to_string())
        });
        body.inspect_err(|error| {
            log_about!(error, subject, error, "the payload cannot be read from the journal");
        })
        .ok()
    }

    async fn send(
        &self,
        sender: &Sender,
        delivery: &DueDelivery,
        (subject, body): (Subject, Body),
    ) -> Option<Result<AttemptOutcome, NoLookup>> {
        let now = Timestamp(self.engine.clock.now_ms());
        let settings = &delivery.endpoint.settings;
        let steady = Timestamp(self.engine.clock.steady_ms());
        let secrets = secrets::open(&self.engine.vault, &delivery.endpoint, steady)?;
        let headers = secrets::open_headers(&self.engine.vault, &delivery.endpoint)?;
        let request = Request {
            org: delivery.org,
            url: &settings.url,
            subject,
            content_type: body.content_type,
            body: body.bytes.into(),
            headers: &headers,
            secrets: &secrets,
            timeout: settings.timeout_ms.map(|ms| Duration::from_millis(ms.into())),
            now,
        };
        let sent = sender.send(request).await.map(|outcome| {
            let waited_ms = outcome.started_at.0.saturating_sub(now.0);
            AttemptOutcome { started_steady: steady.plus_ms(waited_ms), ..outcome }
        });
        Some(sent)
    }

    /// Leaves out the receiver's answer while the disk is almost full.
    fn shortened(&self, outcome: AttemptOutcome) -> AttemptOutcome {
        match self.engine.space.pace_of_failing(false) {
            FailingPace::Free => outcome,
            FailingPace::OneIn(_) => {
                AttemptOutcome { body: Vec::new(), headers: Vec::new(), ..outcome }
            }
        }
    }

    fn count(&self, outcome: &AttemptOutcome) {
        match &outcome.error {
            None => self.engine.metrics.attempt_ok(),
            Some(error) => self.engine.metrics.attempt_failed(error.code as usize),
        }
        self.engine
            .metrics
            .attempt_seconds
            .observe(Duration::from_millis(outcome.duration_ms.into()).as_secs_f64());
    }

    /// Logs and counts the settled attempt.
    fn note(&self, subject: Subject, settle: &SettleAttempt, settled: &SettleOutcome) {
        if *settled == SettleOutcome::NoEffect {
            log_about!(debug, subject, "the attempt was settled before");
            return;
        }
        let detail = settle.outcome.error.as_ref().map(|error| error.detail.as_str());
        if let Some(reason) = settle.disables.map(DisabledReason::name) {
            log_about!(warn, subject, reason, "the endpoint is disabled");
        }
        self.count_operational_events(subject, settled);
        if matches!(settled, SettleOutcome::Canceled(_)) {
            log_about!(info, subject, detail, "the delivery was canceled during the attempt");
            return;
        }
        self.engine.metrics.deliveries.of(outcome_of(settle.verdict)).inc();
        match settle.verdict {
            Verdict::Delivered => log_about!(debug, subject, "delivered"),
            Verdict::RetryAt(at) => {
                let next_attempt = display(Timestamp(self.engine.clock.wall_ms_of(at.0)));
                let message = "the attempt failed; the delivery is retried";
                log_about!(info, subject, next_attempt, detail, "{message}");
            }
            Verdict::Dead(reason) => {
                let message = "the attempt failed; the delivery is a dead letter";
                let reason = reason.name();
                log_about!(warn, subject, reason, detail, "{message}");
            }
        }
    }

    /// Counts and logs the operational events that the attempt caused.
    fn count_operational_events(&self, subject: Subject, outcome: &SettleOutcome) {
        for stored in outcome.stored() {
            self.engine.metrics.operational_events.of(series_of(stored.kind)).inc();
            let (id, event_type) = (display(stored.id), display(stored.kind.event_type()));
            let message = "an operational event was stored";
            log_about!(info, subject, operational_event = id, event_type, "{message}");
        }
    }

    /// Settles the attempt, and waits while intake or disk is full; `None` if the attempt cannot be
    /// stored.
    async fn settle(
        &self,
        settle: &SettleAttempt,
        completion: &mut Completion,
    ) -> Option<SettleOutcome> {
        loop {
            let stored = match self.engine.intake.submit(settle.clone()) {
                Ok(pending) => {
                    completion.over();
                    pending.outcome().await
                }
                Err(refused) => Err(refused.into()),
            };
            match stored {
                Ok(outcome) => return Some(outcome),
                Err(CommitError::Refused(Refused::ShuttingDown) | CommitError::NotAllowed(_)) => {
                    return None;
                }
                Err(CommitError::Refused(
                    Refused::Overloaded | Refused::DiskFull(_) | Refused::RestKept,
                )) => {
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
}

fn policy_of<'a>(policy: &'a RetryPolicy, delivery: &DueDelivery) -> Cow<'a, RetryPolicy> {
    let Some(own) = &delivery.endpoint.settings.retry_schedule_s else {
        return Cow::Borrowed(policy);
    };
    let schedule_ms = own.iter().map(|wait_s| u64::from(*wait_s) * 1_000).collect();
    Cow::Owned(RetryPolicy { schedule_ms, jitter_share: policy.jitter_share })
}

/// Returns the metric series for operational events of a kind.
fn series_of(kind: OperationalEventKind) -> OperationalEvent {
    match kind {
        OperationalEventKind::EndpointFailing => OperationalEvent::EndpointFailing,
        OperationalEventKind::EndpointDisabled => OperationalEvent::EndpointDisabled,
        OperationalEventKind::EndpointRecovered => OperationalEvent::EndpointRecovered,
        OperationalEventKind::DeliveryDead => OperationalEvent::DeliveryDead,
        OperationalEventKind::DiskLow => OperationalEvent::DiskLow,
        OperationalEventKind::InboxExpired => OperationalEvent::InboxExpired,
        OperationalEventKind::KeyExpiring => OperationalEvent::KeyExpiring,
    }
}

/// Returns the state of the delivery after its attempt; `None` if another settling came first.
fn state_after(settle: &SettleAttempt, settled: &SettleOutcome) -> Option<DeliveryStatus> {
    match settle.verdict {
        _ if *settled == SettleOutcome::NoEffect => None,
        _ if matches!(settled, SettleOutcome::Canceled(_)) => Some(DeliveryStatus::Canceled),
        Verdict::Delivered => Some(DeliveryStatus::Delivered),
        Verdict::RetryAt(_) => Some(DeliveryStatus::Retrying),
        Verdict::Dead(_) => Some(DeliveryStatus::Dead),
    }
}

fn outcome_of(verdict: Verdict) -> DeliveryOutcome {
    match verdict {
        Verdict::Delivered => DeliveryOutcome::Delivered,
        Verdict::RetryAt(_) => DeliveryOutcome::Retried,
        Verdict::Dead(_) => DeliveryOutcome::Dead,
    }
}
