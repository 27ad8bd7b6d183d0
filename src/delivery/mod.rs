//! Deliveries from due to settled: the scheduler, the request, and the settling. Started by the
//! application; uses the rules, and knows neither the HTTP front nor the command line.

mod alarms;
mod answer;
pub mod attempts;
pub mod breakers;
pub mod completion;
mod connector;
pub mod envelope;
mod exchange;
mod failure;
mod lane;
mod notices;
mod pool;
pub mod resolver;
pub mod scheduler;
pub mod secrets;
pub mod sender;
mod turns;
