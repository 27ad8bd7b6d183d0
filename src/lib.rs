//! triggerd: the event appliance. One process, one data directory: events come in over HTTP, are on stable storage
//! before they are acknowledged, wait in an inbox and are pushed, signed, to endpoints.
//!
//! # The one idea
//!
//! The journal is the truth, the state is computed from it. Every durable change is a [`commands::Command`]. The
//! committer appends it, syncs once for all commands that wait, applies it to the state, and only then answers. The
//! state (rows in memory over sled) reaches the disk a moment later and may be lost at any time: a start applies the part
//! of the journal that the state lacks, or all of it. Channels between threads carry hints; the state knows what is to be
//! done.
//!
//! `docs/design.md` has the decisions, each with its situation and its consequence, and the invariants.
//! `docs/contributing.md` says where to add a route, a configuration key, a metric or a command of the command line.
//!
//! # Codemap
//!
//! A room uses only rooms above it in this list, and never its neighbours on the same floor, but for the few exceptions
//! that `tests/it/tidy.rs` names; it also checks that every file is here.
//!
//! Knows nothing of the product:
//!
//! - `base/mod.rs`: what every room may use
//! - `base/addresses.rs`: spellings of addresses that programs read differently
//! - `base/clock.rs`: the wall clock, or one that tests move
//! - `base/codec.rs`: bincode behind two functions
//! - `base/descriptors.rs`: how many files and connections may be open
//! - `base/exit_code.rs`: how the process ends
//! - `base/keyed.rs`: a value for each key, for as long as somebody has it
//! - `base/library_errors.rs`: errors of libraries in our words
//! - `base/live.rs`: a value that can be replaced while it is used
//! - `base/metrics.rs`: every figure for Prometheus, at zero from the start
//! - `base/ownership.rs`: whose files are, and what is said when they are somebody else's
//! - `base/peer.rs`: whose connection a thread is working on
//! - `base/random.rs`: random bytes of the operating system
//! - `base/sabotage.rs`: promises broken on purpose, for tests that must notice
//! - `base/shares.rs`: a bounded amount of which nobody can take all
//! - `base/threads.rs`: named threads, signals, stopping
//! - `base/vault.rs`: small secrets, sealed
//! - `base/whereabouts.rs`: what became of the name of an open file
//!
//! Pure data:
//!
//! - `model/mod.rs`: the words of the product as types
//! - `model/authority.rs`: what a change stands on when a request asks for it
//! - `model/cloudevent.rs`: what an event that came as a CloudEvent has beside its payload
//! - `model/delivery.rs`: attempts and what becomes of a delivery
//! - `model/endpoint.rs`: where events are pushed, and the secret that signs
//! - `model/event.rs`: an event and its type
//! - `model/id.rs`: ids: TypeIDs outside, UUIDv7 inside
//! - `model/key.rs`: API keys
//! - `model/moment.rs`: a time, or how long before now
//! - `model/notice.rs`: operational events: what the server itself tells
//! - `model/org.rs`: tenants and tiers
//! - `model/replay.rs`: what is replayed, and how that goes
//! - `model/time.rs`: points in time
//!
//! Pure functions that take `now`:
//!
//! - `rules/mod.rs`: decisions without clock, chance or I/O
//! - `rules/breaker.rs`: whether an endpoint may be asked again
//! - `rules/egress.rs`: which addresses a webhook may reach
//! - `rules/fan_out.rs`: which endpoints an event goes to
//! - `rules/filter.rs`: which types an endpoint wants
//! - `rules/retry.rs`: what becomes of a delivery after an attempt
//! - `rules/signature.rs`: Standard Webhooks signatures
//! - `rules/token_bucket.rs`: rates
//! - `rules/type_filter.rs`: which event types a list shows
//!
//! Settings, logs and the directory:
//!
//! - `config/mod.rs`: defaults, file and environment to one checked `Config`
//! - `config/changes.rs`: what differs between two configurations, and what of it a running server takes over
//! - `config/check.rs`: what each value may be, and which contradict each other
//! - `config/environment.rs`: the only reader of the environment
//! - `config/fault.rs`: what can be wrong, in words
//! - `config/layers.rs`: which keys were given, in which shape, from where
//! - `config/parts.rs`: one small struct a section
//! - `config/raw.rs`: the shape of the TOML
//! - `config/shape.rs`: the shape of a value, and how it would be written right
//! - `config/suggest.rs`: which name was meant by one that there is not
//! - `config/texts.rs`: paths, networks and what is logged, judged as what they stand for
//! - `logging.rs`: JSON or text lines, on standard output and in files
//! - `logging/damping.rs`: what repeats is told once a second
//! - `logging/files.rs`: log files, bounded in size and number
//! - `logging/lines.rs`: a line, and its priority for systemd's journal
//! - `data_dir.rs`: the data directory: what is where in it, and the secrets
//! - `data_dir/contents.rs`: whether somebody else uses the directory
//! - `data_dir/format.rs`: the format file, which tells a copy until it delivers
//! - `data_dir/locks.rs`: one process at a time
//!
//! Bytes on disk: the truth:
//!
//! - `journal/mod.rs`: an append-only log of opaque frames
//! - `journal/error.rs`: what can go wrong, naming the file
//! - `journal/faults.rs`: files that fail when a test says so
//! - `journal/files.rs`: the file operations, behind a trait
//! - `journal/frame.rs`: one frame as bytes, and a group being built
//! - `journal/reader.rs`: one frame by position, or many in order
//! - `journal/recover.rs`: opening: what a crash, a copy or rot left
//! - `journal/salvage.rs`: making a damaged journal whole again around what is lost
//! - `journal/segment.rs`: a segment file
//! - `journal/spare.rs`: the next segment's file, made ahead of time
//! - `journal/survey.rs`: looking at every frame, touching nothing
//! - `journal/watch.rs`: whether the segments' files are still what they were
//! - `journal/writer.rs`: appending, one sync for each group
//!
//! The state that comes of it; the only importer of sled:
//!
//! - `store/mod.rs`: the state and its verbs
//! - `store/change/mod.rs`: a change: the rows, and what several commands do with them
//! - `store/change/again.rs`: deliveries that are made again
//! - `store/change/deliveries.rs`: deliveries that wait, are called off, are dropped
//! - `store/change/events.rs`: events stored in blocks and inboxes
//! - `store/change/keys.rs`: keys added and ended; whether the one that a command stands on is valid
//! - `store/dead_letters.rs`: what was given up
//! - `store/dedup.rs`: which dedup ids are known
//! - `store/deliveries.rs`: what is due
//! - `store/delivery_query.rs`: deliveries as their owner sees them
//! - `store/dump.rs`: every row as text, to compare states
//! - `store/event_page.rs`: a page of events, whatever list it is of
//! - `store/event_query.rs`: all events, newest first
//! - `store/generation.rs`: which sled directory holds the state, and whether it is believed
//! - `store/inbox.rs`: events that nobody has confirmed
//! - `store/keys.rs`: who is calling
//! - `store/losses.rs`: in what two states differ, in their users' words
//! - `store/query.rs`: endpoints, unrouted events, counters
//! - `store/replays.rs`: replays, and what is to be done next for each
//! - `store/schema.rs`: rows and their keys, drawn
//! - `store/table.rs`: a table with a layer of fresh rows above it
//! - `store/verify.rs`: whether a state is what it should be
//! - `store/write_back.rs`: fresh rows into sled, with their journal position
//!
//! Every durable change, a file for each: its fields, its number and version in the journal, the scope or role that may
//! ask for it, its effect on the state:
//!
//! - `commands/mod.rs`: the registry of commands
//! - `commands/codec.rs`: commands as the journal's frames
//! - `commands/*.rs`: the command of that name
//!
//! Where changes become durable:
//!
//! - `commit/mod.rs`: the only room that appends to the journal
//! - `commit/bell.rs`: tells waiting requests that an event came
//! - `commit/committer.rs`: takes what waits, appends, syncs once, applies, answers
//! - `commit/feed.rs`: tells those who watch what just happened
//! - `commit/flusher.rs`: brings fresh rows to sled while nobody waits
//! - `commit/intake.rs`: the bounded door to the committer
//! - `commit/portions.rs`: commands in portions of bounded cost
//! - `commit/recovery.rs`: brings the state up to the journal
//! - `commit/reply.rs`: the answer to submitted commands, an outcome of its own type for each
//! - `commit/space.rs`: whether the disk has room
//! - `commit/watchdog.rs`: looks whether the committer still gets on
//!
//! From events to deliveries to attempts:
//!
//! - `pipeline/mod.rs`: routing, replays and housekeeping
//! - `pipeline/replays.rs`: takes replays further
//! - `pipeline/disk_watch.rs`: when it is told that the disk gets full
//! - `pipeline/sweeper.rs`: what was missed, disk, dedup ids, key uses, gauges
//! - `pipeline/worker.rs`: routes events to endpoints
//! - `delivery/mod.rs`: a delivery on its way
//! - `delivery/alarms.rs`: when to look at which endpoint again
//! - `delivery/answer.rs`: a receiver's answer as bytes: its head, and where its body ends
//! - `delivery/attempts.rs`: one attempt from start to end
//! - `delivery/breakers.rs`: the endpoints that are left alone, for others to see
//! - `delivery/completion.rs`: what becomes of an attempt, told whatever happens to it
//! - `delivery/connector.rs`: connections to receivers, judged, bounded and timed
//! - `delivery/envelope.rs`: the body that is pushed, in each form
//! - `delivery/exchange.rs`: a request and its answer over one connection
//! - `delivery/failure.rs`: why a request got no answer, in a sentence
//! - `delivery/lane.rs`: one endpoint's queue, limits and breaker
//! - `delivery/notices.rs`: which operational events an attempt causes
//! - `delivery/pool.rs`: connections that wait to be used again
//! - `delivery/resolver.rs`: names to addresses, each judged
//! - `delivery/scheduler.rs`: what is sent when
//! - `delivery/scheduler/loading.rs`: how lanes get what they send
//! - `delivery/scheduler/reports.rs`: attempts begin, and what becomes of them is taken in
//! - `delivery/scheduler/scan.rs`: the slow look at everything, which finds what no hint told
//! - `delivery/secrets.rs`: endpoints' secrets, sealed and open
//! - `delivery/sender.rs`: signs and sends
//! - `delivery/turns.rs`: whose turn it is
//!
//! Doors and the whole:
//!
//! - `http/mod.rs`: the API and its server; the only room that knows HTTP
//! - `http/answers.rs`: answers on their way out, bounded in bytes
//! - `http/audit.rs`: who changed what, and who was refused, for the log
//! - `http/auth.rs`: who is calling
//! - `http/blocking.rs`: what may block, each organization with a share of the threads
//! - `http/body.rs`: request bodies, bounded in size and time
//! - `http/call.rs`: one request on its way through the room
//! - `http/client_address.rs`: where a request comes from, also through proxies
//! - `http/cloud_attributes.rs`: what an attribute of a CloudEvent may be
//! - `http/cloud_identity.rs`: when two CloudEvents are the same event
//! - `http/cloudevents.rs`: CloudEvents 1.0 as events
//! - `http/connection.rs`: one connection, and what is known of it
//! - `http/connection_state.rs`: what is known of a connection, and what is passed on
//! - `http/connections.rs`: which connections take too long, and which make room
//! - `http/cors.rs`: which web pages may call
//! - `http/cursor.rs`: where the next page of a list begins
//! - `http/dead_letters.rs`: `/api/dead-letters`
//! - `http/deliveries.rs`: `/api/deliveries`
//! - `http/edge.rs`: what every request goes through and every answer carries
//! - `http/endpoint_settings.rs`: what the owner of an endpoint can set
//! - `http/endpoints.rs`: `/api/endpoints`
//! - `http/error.rs`: problem documents and the table of their codes
//! - `http/event_history.rs`: `GET /api/events`: what came, and what became of it
//! - `http/events.rs`: `POST /api/events`
//! - `http/fields.rs`: the members of a JSON object, read one by one
//! - `http/framing.rs`: where requests end in the bytes of a connection
//! - `http/gzip.rs`: request bodies in gzip, inflated up to a bound
//! - `http/health.rs`: how the server is
//! - `http/hooks.rs`: `/api/hooks`: subscriptions as Zapier makes them
//! - `http/inbox.rs`: `/api/inbox`, `/api/ack`
//! - `http/keys.rs`: `/api/keys`
//! - `http/limit.rs`: the rate of each organization
//! - `http/ops.rs`: `/health`, `/metrics`
//! - `http/own_answers.rs`: answers to what no route ever sees
//! - `http/query.rs`: query strings
//! - `http/receiver.rs`: a consumer's receiver, for the demo and the tests
//! - `http/replays.rs`: `/api/replays`
//! - `http/routes.rs`: the table of routes
//! - `http/server.rs`: actix's workers and their connections
//! - `http/stored_event.rs`: stored events as they are shown
//! - `http/tail.rs`: `GET /api/tail`: events and attempts as they happen
//! - `http/verify.rs`: argon2id on threads of its own
//! - `http/webhook.rs`: `/api/webhook/config`
//! - `http/wire.rs`: an event as it is posted
//! - `app.rs`: starts the parts in order, stops them in reverse
//! - `app/limits.rs`: as many connections as the limit of open files has room for
//! - `app/listening.rs`: the address, waited for while another has it
//! - `app/look_out.rs`: whether the data directory is still there, and all of the journal
//! - `app/loss.rs`: what was lost under the running server, and what is to be done
//! - `app/lost_secrets.rs`: going on without the key that sealed secrets
//! - `app/opening.rs`: what is on disk, opened in the order that recovery needs
//! - `app/reload.rs`: what a running server takes over of a new configuration
//! - `app/sending.rs`: what pushes events, put together
//! - `app/start_error.rs`: why it does not start
//! - `app/systemd.rs`: what systemd is told
//! - `cli/mod.rs`: the command line
//! - `cli/account.rs`: `key`
//! - `cli/admin.rs`: where the admin token is looked for
//! - `cli/answer.rs`: a server's answer, whatever its payloads say
//! - `cli/audit.rs`: reading a whole journal, for `verify` and `rebuild`
//! - `cli/bench/mod.rs`: `bench`: what is measured in which order
//! - `cli/bench/connection.rs`: HTTP on a raw socket
//! - `cli/bench/load.rs`: closed and open loops
//! - `cli/bench/machine.rs`: the hardware, and what its disk can do
//! - `cli/bench/overload.rs`: promises under overload, and whether they were kept
//! - `cli/bench/report.rs`: the tables
//! - `cli/bench/request.rs`: the request that is sent again and again
//! - `cli/bench/run.rs`: one run and its figures
//! - `cli/bench/schedule.rs`: when each request of an open loop is due
//! - `cli/bench/scrape.rs`: `/metrics` before and after
//! - `cli/bench/server.rs`: the server as a child process
//! - `cli/bench/sink.rs`: an endpoint to deliver to
//! - `cli/bench/stage.rs`: the runtime and the progress bar of the runs
//! - `cli/bench/subject.rs`: the server that is measured, ours or not
//! - `cli/bench/tally.rs`: counts and latencies
//! - `cli/check_config.rs`: `check-config`
//! - `cli/client.rs`: the HTTP client of the commands
//! - `cli/demo.rs`: `demo`
//! - `cli/endpoints.rs`: `endpoint`
//! - `cli/events.rs`: `send`, `inbox`, `ack`
//! - `cli/explain.rs`: `explain`
//! - `cli/losses.rs`: what was lost or differs, as a list
//! - `cli/output.rs`: what is printed, made visible; what cannot be written is an error
//! - `cli/reach.rs`: which server, with which key
//! - `cli/rebuild.rs`: `rebuild`
//! - `cli/rebuild/notes.rs`: what stands in the place of what was lost
//! - `cli/replays.rs`: `replay`
//! - `cli/serve.rs`: `serve`
//! - `cli/tail.rs`: `tail`
//! - `cli/verify.rs`: `verify`
//! - `main.rs`: the binary: parse, match, exit code

/// What tests of ours share with those outside names the crate as they do.
#[cfg(test)]
extern crate self as triggerd;

pub mod app;
pub mod base;
pub mod cli;
pub mod commands;
pub mod commit;
pub mod config;
pub mod data_dir;
pub mod delivery;
pub mod http;
pub mod journal;
pub mod logging;
pub mod model;
pub mod pipeline;
pub mod rules;
pub mod store;
