//! A delivery on its way: who is due, the request, and what came of it. Started by the application; uses the rules, and
//! knows neither the HTTP front nor the command line.

mod alarms;
pub mod attempts;
pub mod breakers;
mod connector;
pub mod envelope;
mod failure;
mod lane;
pub mod resolver;
pub mod scheduler;
pub mod secrets;
pub mod sender;
mod turns;
