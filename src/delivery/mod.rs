//! A delivery on its way: who is due, the request, and what came of it. Started by the application; uses the rules, and
//! knows neither the HTTP front nor the command line.

pub mod attempts;
pub mod envelope;
mod failure;
pub mod resolver;
pub mod scheduler;
pub mod secrets;
pub mod sender;
