//! The integration tests: one binary, with one module for each part of the promise.

#![expect(
    clippy::disallowed_methods,
    reason = "tests race, wait and read the environment where the server must not"
)]
#![expect(
    clippy::similar_names,
    reason = "a receiver has received, a pushing organization is pushed to"
)]
#![expect(clippy::float_cmp, reason = "counters are whole numbers")]
// Always true here; this tells clippy that helpers are tests too.
#![cfg(test)]

mod answers;
mod archive;
mod audit;
mod authority;
mod backups;
mod backups_disk;
mod backups_hostile;
mod backups_s3;
mod backups_shown;
mod backups_slow;
mod clients;
mod clock_steps;
mod cloudevents;
mod commands;
mod compaction;
mod contract;
mod copies;
mod crash;
mod crowds;
mod cursors;
mod damage;
mod deliveries;
mod disk_rest;
mod docs;
mod drills;
mod drills_s3;
mod egress;
mod endpoints;
mod erase;
mod framing;
mod harness;
mod isolation;
mod limits;
mod lookups;
mod npm;
mod openapi;
mod openapi_fuzzed;
mod operational_events;
mod operator;
mod org_deletion;
mod orgs;
mod overload;
mod pushing;
mod python;
mod raw;
mod reading;
mod receivers;
mod refusals;
mod replays;
mod retention;
mod s3_store;
mod scopes;
mod signatures;
mod snapshots;
mod status;
mod tail;
mod takeover;
mod tidy;
mod wording;
mod zapier;
