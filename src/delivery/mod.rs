//! Deliveries from due to settled: the scheduler, the request, and the settling. Started by the
//! application; uses the rules, and knows neither the HTTP front nor the command line.

mod answer;
pub mod attempts;
mod breakers;
pub mod completion;
mod connector;
mod endpoint_queue;
mod endpoint_queues;
pub mod envelope;
mod exchange;
mod failure;
mod fair_queue;
mod limits;
pub mod lookups;
pub mod operational_events;
mod pool;
pub mod resolver;
pub mod scheduler;
pub mod secrets;
pub mod sender;
pub mod subject;
mod timer_queue;
mod trace;
