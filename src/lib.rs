//! triggerd: the event appliance, one process with one data directory. Events arrive over HTTP, are
//! on stable storage before they are acknowledged, wait in an inbox, and are pushed, signed, to
//! endpoints.
//!
//! # The one idea
//!
//! The journal is the truth, and the state is computed from it. Every durable change is a
//! [`commands::Command`]. The committer appends the waiting commands, syncs once for all of them,
//! applies them to the state, and only then answers. The state (rows in memory over sled) reaches
//! the disk a moment later and may be lost at any time: a start applies the part of the journal
//! that the state lacks. Without a state, it first loads the newest snapshot, which holds every row
//! as of one position; below the snapshots, records that nobody reads leave the journal. Channels
//! between threads carry hints; the state knows the work.
//!
//! `docs/design.md` has the decisions, each with its situation and its consequence, and the
//! invariants. `docs/contributing.md` says where to add a route, a configuration key, a metric or a
//! command of the command line.
//!
//! # Codemap
//!
//! A module uses only modules above it in this list, and none of its own layer, except for the few
//! that `tests/it/tidy.rs` names. No files use one another in a circle. The same test checks this,
//! and that every file is here.
//!
//! Code that knows nothing of the product:
//!
//! - `base/mod.rs`: code that every other module may use
//! - `base/addresses.rs`: spellings of IP addresses that programs read differently
//! - `base/clock.rs`: the wall clock, or a clock for tests to move
//! - `base/codec.rs`: bincode behind two functions
//! - `base/compression.rs`: compression with zstd
//! - `base/descriptors.rs`: the limit of open files, and its shares for connections
//! - `base/exit_code.rs`: exit codes, and the fatal end of the process
//! - `base/keyed.rs`: a shared value for each key, kept while somebody uses the value
//! - `base/library_errors.rs`: errors of libraries in triggerd's words
//! - `base/live.rs`: a value that can be replaced while in use
//! - `base/metrics.rs`: every metric for Prometheus, at zero from the start
//! - `base/metrics/labels.rs`: the labels of metrics
//! - `base/metrics/maker.rs`: makes the series
//! - `base/metrics/series.rs`: the types of the series
//! - `base/names.rs`: the error for a text that names no variant of an enum
//! - `base/ownership.rs`: the owner of files, and the advice when another user owns them
//! - `base/pairs.rs`: pairs of a name and a value, written as an object of JSON
//! - `base/peek.rs`: looks for bytes that wait in a socket
//! - `base/peer.rs`: the client address of the connection that a thread works on
//! - `base/pieces.rs`: a stream in pieces, from a thread to its reader
//! - `base/random.rs`: random bytes of the operating system
//! - `base/regular.rs`: opens files that must be regular ones
//! - `base/failpoint.rs`: failpoints: promises broken on purpose, for tests
//! - `base/shares.rs`: a bounded resource that no user can take completely
//! - `base/splice.rs`: JSON objects around payloads, which stay byte for byte
//! - `base/threads.rs`: named threads, signals between them, stopping
//! - `base/units.rs`: milliseconds and the values of gauges
//! - `base/unsent.rs`: bytes that wait in a socket until the peer takes them
//! - `base/vault.rs`: seals and opens small secrets
//! - `base/present_name.rs`: the present name of an open file
//!
//! Pure data:
//!
//! - `model/mod.rs`: the terms of the product as types
//! - `model/activity.rs`: what watchers see of applied commands
//! - `model/audit.rs`: entries of the audit log
//! - `model/authority.rs`: the key or token that authorizes a change
//! - `model/cloudevent.rs`: a CloudEvent's attributes, beside its payload
//! - `model/delivery.rs`: attempts and states of a delivery
//! - `model/endpoint.rs`: endpoints and their signing secrets
//! - `model/event.rs`: events and event types
//! - `model/id.rs`: ids: TypeIDs outside, UUIDv7 inside
//! - `model/key.rs`: API keys and scopes
//! - `model/moment.rs`: a time, or a duration before now
//! - `model/operational_event.rs`: operational events: events of triggerd itself
//! - `model/org.rs`: organizations and tiers
//! - `model/replay.rs`: replays and their progress
//! - `model/retention.rs`: the times before which events expire
//! - `model/routing.rs`: the reasons why endpoints do or do not receive an event
//! - `model/time.rs`: points in time, in Unix milliseconds
//!
//! Pure functions that take `now`:
//!
//! - `rules/mod.rs`: decisions without clock, chance or I/O
//! - `rules/breaker.rs`: the circuit breaker of an endpoint
//! - `rules/egress.rs`: the addresses that a webhook may reach
//! - `rules/fan_out.rs`: the endpoints that an event goes to, and the reason for each endpoint
//! - `rules/filter.rs`: the event types that an endpoint wants
//! - `rules/retry.rs`: the state of a delivery after an attempt
//! - `rules/signature.rs`: Standard Webhooks signatures
//! - `rules/token_bucket.rs`: rate limits
//! - `rules/type_filter.rs`: the event types that a list shows
//!
//! Settings, logs and the directory:
//!
//! - `config/mod.rs`: defaults, file and environment to one checked `Config`
//! - `config/backup.rs`: the keys about backups
//! - `config/changes.rs`: differences between two configurations
//! - `config/declare.rs`: how keys are declared
//! - `config/environment.rs`: the only reader of the environment
//! - `config/fault.rs`: faults of a configuration, in words
//! - `config/keys.rs`: every key, declared once
//! - `config/kinds.rs`: the kinds of keys: types, ranges and checks
//! - `config/layers.rs`: the given keys, their shapes and their sources
//! - `config/retention.rs`: the keys about how long data stays
//! - `config/log.rs`: the keys about the log
//! - `config/reference.rs`: the commented file, and the page of the documentation
//! - `config/s3.rs`: how an S3-compatible store is reached
//! - `config/s3_url.rs`: a place in a bucket
//! - `config/shape.rs`: the shape of a value, and its correct spelling
//! - `config/suggest.rs`: the known name nearest to an unknown name
//! - `config/texts.rs`: checks of paths, networks and log levels
//! - `config/tiers.rs`: the keys of the tiers
//! - `config/values.rs`: types of values that only the configuration has
//! - `logging.rs`: JSON or text lines, on standard output and in files
//! - `logging/damping.rs`: repeated lines, summarized once a second
//! - `logging/files.rs`: log files, bounded in size and number
//! - `logging/lines.rs`: a line, and its priority for systemd's journal
//! - `data_dir.rs`: the data directory and its secrets
//! - `data_dir/error.rs`: the reasons why a data directory cannot be used
//! - `data_dir/names.rs`: the names in a data directory
//! - `data_dir/whole.rs`: writes small files completely or not at all
//! - `data_dir/contents.rs`: refuses a directory that holds foreign files
//! - `data_dir/format.rs`: the format file, which tells a copy from an original and witnesses the
//!   beginning of the journal
//! - `data_dir/format_file.rs`: the format file of a running server, which several threads use
//! - `data_dir/inside.rs`: tells if a path lies in a data directory
//! - `data_dir/locks.rs`: one process at a time
//! - `data_dir/portable.rs`: the small files of a backup, and the hold of deliveries
//! - `data_dir/used_archive.rs`: the archive that the server has used
//!
//! Bytes on disk, which are the truth:
//!
//! - `journal/mod.rs`: an append-only log of opaque records
//! - `journal/compact.rs`: removes records from sealed segments, and segments from the beginning
//! - `journal/error.rs`: errors, each with the file's name
//! - `journal/faults.rs`: files that fail when a test says so
//! - `journal/files.rs`: the file operations, behind a trait
//! - `journal/frame.rs`: one record as bytes in a file, and a commit group in the making
//! - `journal/log.rs`: the log as other modules see it: append, read, follow
//! - `journal/new_file.rs`: a new file, which gets its name when it is whole
//! - `journal/pinned.rs`: the segments as of one moment, for a backup
//! - `journal/position.rs`: positions in the log
//! - `journal/punched_file.rs`: the file of a segment without the removed records
//! - `journal/reader.rs`: reads one record by position, or many in order
//! - `journal/recover.rs`: opens a journal after a crash, a copy or rot
//! - `journal/salvage.rs`: repairs a damaged journal around its losses
//! - `journal/segment.rs`: a segment file
//! - `journal/snapshot/mod.rs`: files with every row of the state as of one position
//! - `journal/snapshot/directory.rs`: the snapshots in the journal's directory
//! - `journal/snapshot/format.rs`: header, blocks and trailer as bytes
//! - `journal/snapshot/names.rs`: the names of snapshots
//! - `journal/snapshot/reader.rs`: reads a snapshot and checks every byte
//! - `journal/snapshot/writer.rs`: writes a snapshot, which gets its name when it is whole
//! - `journal/spare.rs`: the spare segment, made ahead of time
//! - `journal/scan.rs`: scans every record and changes nothing
//! - `journal/watch.rs`: checks that the segments' files are unchanged
//! - `journal/writer.rs`: appends, with one sync for each commit group
//!
//! The state computed from the journal; the only importer of sled:
//!
//! - `store/mod.rs`: the state and its operations
//! - `store/error.rs`: the reason why the state cannot be used
//! - `store/change/mod.rs`: a change: the rows, and operations that several commands share
//! - `store/change/again.rs`: deliveries that are made again
//! - `store/change/audit.rs`: the changes of a command, for the audit log
//! - `store/change/deliveries.rs`: deliveries: waiting, canceled and dropped
//! - `store/change/endpoints.rs`: endpoints, deleted and forgotten
//! - `store/change/events.rs`: events, stored in blocks and inboxes
//! - `store/change/expiry.rs`: expired events, which leave with all their rows
//! - `store/change/keys.rs`: keys: added and ended, and the check of a command's key
//! - `store/rows/mod.rs`: the rows and their tables
//! - `store/rows/dedup.rs`: the index of the known dedup ids
//! - `store/rows/row.rs`: a row: its table, its key and its version
//! - `store/rows/row_bytes.rs`: rows as bytes of sled
//! - `store/rows/row_key.rs`: the keys of rows as bytes
//! - `store/rows/schema.rs`: rows and their keys, drawn
//! - `store/rows/state.rs`: all tables, and the indexes in memory
//! - `store/rows/table.rs`: a table with a layer of fresh rows above it
//! - `store/queries/mod.rs`: questions to the state
//! - `store/queries/audit.rs`: the audit log
//! - `store/queries/dead_letters.rs`: deliveries that were given up
//! - `store/queries/deliveries.rs`: deliveries that are due
//! - `store/queries/delivery.rs`: one delivery as its owner sees it
//! - `store/queries/delivery_pages.rs`: pages of deliveries, searched by status, endpoint and event
//! - `store/queries/duplicates.rs`: events with a known dedup id
//! - `store/queries/event_list.rs`: all events, newest first
//! - `store/queries/event_page.rs`: a page of events, for every list of events
//! - `store/queries/expiring.rs`: events that expire, and the endpoints with their deliveries
//! - `store/queries/forgettable.rs`: deleted endpoints and ended replays that can be forgotten
//! - `store/queries/inbox.rs`: events that nobody acknowledged yet
//! - `store/queries/keys.rs`: looks up the key of a caller
//! - `store/queries/lookups.rs`: endpoints, unrouted events, counters
//! - `store/queries/orgs.rs`: organizations as the operator sees them
//! - `store/queries/references.rs`: the records of the log to which events refer
//! - `store/queries/replay_search.rs`: the events that a replay delivers next to an endpoint
//! - `store/queries/replay_turns.rs`: the next step of each replay
//! - `store/queries/replays.rs`: replays as their owner sees them
//! - `store/lifecycle/mod.rs`: the state as a whole
//! - `store/lifecycle/audit.rs`: contradictions between the tables of a state
//! - `store/lifecycle/audit/blocks.rs`: contradictions in blocks of events
//! - `store/lifecycle/audit/log.rs`: contradictions in the audit log
//! - `store/lifecycle/differences.rs`: the rows that differ between two states
//! - `store/lifecycle/dump.rs`: every row as text, to compare states
//! - `store/lifecycle/generation.rs`: the directories of the state, and the valid one
//! - `store/lifecycle/kept.rs`: former values of rows that a snapshot has not read yet
//! - `store/lifecycle/load.rs`: loads the rows of a snapshot
//! - `store/lifecycle/losses.rs`: the differences between two states, in users' words
//! - `store/lifecycle/opening.rs`: opens and closes the state
//! - `store/lifecycle/renewal.rs`: copies the rows to new files, without the bytes of removed rows
//! - `store/lifecycle/verify.rs`: judges a state's directory, and opens a copy of it
//! - `store/lifecycle/walk.rs`: every row as of one moment, for a snapshot
//! - `store/lifecycle/write_back.rs`: writes fresh rows to sled, with their journal position
//!
//! Every durable change, with a file for each: the fields, the number and version in the journal,
//! the scope or role that may ask for the change, and its effect on the state:
//!
//! - `commands/mod.rs`: the registry of commands
//! - `commands/kind.rs`: the declaration that each command's file gives
//! - `commands/codec.rs`: commands as records of the journal
//! - `commands/draft.rs`: commands as submitted, without ids, numbers and times
//! - `commands/need.rs`: who still reads a record, once a snapshot holds what follows from it
//! - `commands/records.rs`: reads commands from the log, and adds them to a commit group
//! - `commands/*.rs`: the command of that name
//!
//! Where changes become durable:
//!
//! - `commit/mod.rs`: the only module that appends to the journal
//! - `commit/notifier.rs`: the notifier: wakes requests that wait for an event
//! - `commit/disk_use.rs`: the disk space of the data, and the compactor's last looks
//! - `commit/engine.rs`: the shared parts of a running server
//! - `commit/breakers.rs`: the open circuit breakers, published by the scheduler
//! - `commit/chunks.rs`: splits commands into chunks of bounded cost
//! - `commit/compaction_passes.rs`: when the compactor reads the whole journal
//! - `commit/compaction_plans.rs`: what is to be removed from which segment, and when it may be
//! - `commit/compaction_reading.rs`: reads a segment and makes the plan for it
//! - `commit/compactor.rs`: finds records that nobody needs, and removes them in the background
//! - `commit/committer.rs`: takes waiting commands, appends, syncs once, applies, answers
//! - `commit/activity_stream.rs`: the activity stream for `/api/tail`
//! - `commit/flusher.rs`: writes fresh rows to sled in the background
//! - `commit/hints.rs`: hints about work, for other threads
//! - `commit/intake.rs`: the bounded queue in front of the committer
//! - `commit/recovery.rs`: brings the state up to the journal
//! - `commit/reply.rs`: the answer to submitted commands: an outcome of its own type for each
//! - `commit/restore.rs`: restores a lost state from a snapshot
//! - `commit/snapshot_maker.rs`: the snapshot thread: takes snapshots and deletes old ones
//! - `commit/snapshot_taking.rs`: takes one snapshot
//! - `commit/snapshots.rs`: when the next snapshot is due, and which are kept
//! - `commit/space.rs`: free space and free files of the disk
//! - `commit/watchdog.rs`: checks that the committer makes progress
//!
//! Backups of the data directory:
//!
//! - `backup/mod.rs`: backups of a data directory, and their restore
//! - `backup/archive.rs`: a backup as one stream
//! - `backup/bucket.rs`: backups in a bucket of an S3-compatible store
//! - `backup/bucket_backup.rs`: checks and restores one backup in a bucket
//! - `backup/check.rs`: checks a backup against its manifest
//! - `backup/copy.rs`: writes files in pieces, summed and synced
//! - `backup/directory.rs`: a directory of backups, each with links to what the last one has
//! - `backup/disk.rs`: the disk space that only backups take
//! - `backup/drill.rs`: restores and verifies a backup in a scratch directory
//! - `backup/drilled.rs`: the backup that a drill restores
//! - `backup/drills.rs`: the drills of a running server
//! - `backup/error.rs`: the reason why a backup or a restore failed
//! - `backup/jobs.rs`: the last backups, for the operator
//! - `backup/lock.rs`: locks a directory in which backups are made or restored
//! - `backup/manifest.rs`: every file of a backup with its sum
//! - `backup/pace.rs`: rests beside requests
//! - `backup/place.rs`: the place of a restored data directory
//! - `backup/restore.rs`: makes a data directory from a backup
//! - `backup/room.rs`: the disk space that a drill may take
//! - `backup/s3.rs`: reads and writes the objects of a bucket
//! - `backup/s3_errors.rs`: the reasons why a store of objects fails, in words
//! - `backup/scheduled.rs`: the backups of a running server
//! - `backup/source.rs`: the files of a backup, held open as of one moment
//! - `backup/stream.rs`: sends a backup as a stream
//! - `backup/until.rs`: ends a restored journal at a moment
//!
//! Archives of events:
//!
//! - `archive/mod.rs`: archives of events, as lines of JSON
//! - `archive/directory.rs`: the directory of an archive, and the marker that tells it from another
//! - `archive/file.rs`: one file of an archive, durable portion by portion
//! - `archive/service.rs`: archives events before they expire
//!
//! From events to deliveries to attempts:
//!
//! - `pipeline/mod.rs`: routing, replays and housekeeping
//! - `pipeline/replays.rs`: advances replays step by step
//! - `pipeline/ages.rs`: the ages at which events expire, and the times that follow from them
//! - `pipeline/retention.rs`: lets events expire, the oldest of each organization first
//! - `pipeline/expiry_report.rs`: reports unfinished events that expire
//! - `pipeline/clock_trust.rs`: when the wall clock is too doubtful to let events expire
//! - `pipeline/deletions.rs`: carries out the deletion of organizations
//! - `pipeline/disk_limits.rs`: keeps the data within its disk space
//! - `pipeline/early_expiry.rs`: decides which events expire before their time
//! - `pipeline/disk_forecast.rs`: estimates when the disk is full
//! - `pipeline/disk_watch.rs`: decides when to report that the disk is nearly full
//! - `pipeline/key_report.rs`: tells organizations that keys end soon
//! - `pipeline/sweeper.rs`: missed work, disk, dedup ids, key uses, gauges
//! - `pipeline/worker.rs`: routes events to endpoints
//! - `delivery/mod.rs`: deliveries: scheduling, sending and settling
//! - `delivery/timer_queue.rs`: the timer queue: when to look at which endpoint again
//! - `delivery/answer.rs`: a receiver's answer as bytes: its head, and the end of its body
//! - `delivery/attempts.rs`: one attempt from start to end
//! - `delivery/breakers.rs`: publishes changes of circuit breakers
//! - `delivery/completion.rs`: reports an attempt whatever happens to it
//! - `delivery/connector.rs`: connections to receivers, checked, bounded and timed
//! - `delivery/envelope.rs`: the body that is pushed, in each form
//! - `delivery/exchange.rs`: a request and its answer over one connection
//! - `delivery/failure.rs`: the reason why a request got no answer, in a sentence
//! - `delivery/endpoint_queue.rs`: the queue, limits and breaker of one endpoint
//! - `delivery/endpoint_queues.rs`: all endpoint queues: their map, their count and their turns
//! - `delivery/limits.rs`: the limits of the scheduler
//! - `delivery/lookups.rs`: lookups of names, with a share of the threads for each organization
//! - `delivery/operational_events.rs`: the operational events that an attempt causes
//! - `delivery/pool.rs`: idle connections for reuse
//! - `delivery/resolver.rs`: resolves names to addresses, and checks each
//! - `delivery/scheduler.rs`: decides what is sent when
//! - `delivery/scheduler/loading.rs`: loads deliveries into the endpoint queues
//! - `delivery/scheduler/passes.rs`: passes over endpoints, and the progress of the scan
//! - `delivery/scheduler/reports.rs`: begins attempts, and takes in their outcomes
//! - `delivery/scheduler/scan.rs`: the slow scan that finds work without a hint
//! - `delivery/scheduler/turns.rs`: gives endpoints their turns
//! - `delivery/secrets.rs`: endpoints' secrets, sealed and open
//! - `delivery/sender.rs`: signs and sends
//! - `delivery/subject.rs`: the ids in log lines about deliveries
//! - `delivery/trace.rs`: the trace of an attempt, for its outcome
//! - `delivery/fair_queue.rs`: the fair queue of organizations and endpoints
//!
//! Entry points, and the server as a whole:
//!
//! - `http/mod.rs`: the API and its server; the only module that knows HTTP
//! - `http/error.rs`: problem documents and the table of their codes
//! - `http/principal.rs`: the party whose rate limits and shares a request uses
//! - `http/routes.rs`: the table of routes
//! - `http/shared.rs`: the API's own state, shared by all workers
//! - `http/edge/mod.rs`: the way of every request, whatever its route
//! - `http/edge/answers.rs`: answers on their way out, bounded in bytes
//! - `http/edge/audit.rs`: log lines about changes and refused requests
//! - `http/edge/auth.rs`: authentication of the caller
//! - `http/edge/blocking.rs`: blocking work, with a share of the threads for each organization
//! - `http/edge/call.rs`: one request, with its caller and its limits
//! - `http/edge/client_address.rs`: the client's address, also behind proxies
//! - `http/edge/connection.rs`: one connection and its state
//! - `http/edge/connection_state.rs`: decides which bytes of a connection to pass on
//! - `http/edge/connections.rs`: ends connections that take too long, or to make room
//! - `http/edge/cors.rs`: the web pages that may call
//! - `http/edge/eviction.rs`: the order in which connections make room for new ones
//! - `http/edge/framing.rs`: finds the end of each request in the bytes of a connection
//! - `http/edge/handle.rs`: the handle by which a request uses its connection
//! - `http/edge/health.rs`: the health of the server
//! - `http/edge/limit.rs`: the rate limit of each organization
//! - `http/edge/middleware.rs`: steps of every request, and headers of every answer
//! - `http/edge/own_answers.rs`: answers to requests that no route sees
//! - `http/edge/refused_admin.rs`: counts requests without the admin token
//! - `http/edge/request_id.rs`: ids of requests
//! - `http/edge/route.rs`: a route: method, path, permission, cost, handler and operation
//! - `http/edge/scrapes.rs`: the text of `/metrics`, made a few times a second at most
//! - `http/edge/server.rs`: actix's workers and their connections
//! - `http/edge/verify.rs`: argon2id on threads of its own
//! - `http/input/mod.rs`: reads requests
//! - `http/input/body.rs`: request bodies, bounded in size and time
//! - `http/input/body_memory.rs`: the memory for request bodies, shared by organizations
//! - `http/input/cloud_attributes.rs`: the allowed attributes of a CloudEvent
//! - `http/input/cloud_identity.rs`: when two CloudEvents are the same event
//! - `http/input/cloudevents.rs`: CloudEvents 1.0 as events
//! - `http/input/cursor.rs`: the beginning of a list's next page
//! - `http/input/declare.rs`: declares the members of bodies and the parameters of queries
//! - `http/input/fields.rs`: reads the members of a JSON object one by one
//! - `http/input/gzip.rs`: request bodies in gzip, inflated up to a bound
//! - `http/input/kinds.rs`: the kinds of members: their readers and their schemas
//! - `http/input/lists.rs`: the page of a list, and a span of time
//! - `http/input/media_type.rs`: media types, taken apart and compared
//! - `http/input/presence.rs`: required and optional members
//! - `http/input/query.rs`: query strings
//! - `http/input/wire.rs`: an event in a request
//! - `http/openapi/mod.rs`: the API as an OpenAPI document
//! - `http/openapi/document.rs`: the document, made from the table of routes
//! - `http/openapi/links.rs`: links from an answer with an id to the routes that take it
//! - `http/openapi/operation.rs`: an operation: what a route takes and answers
//! - `http/openapi/schemas.rs`: the named schemas, and functions over schemas
//! - `http/openapi/texts.rs`: the schemas of ids, times and names
//! - `http/openapi/webhooks.rs`: what endpoints receive
//! - `http/openapi/yaml.rs`: JSON as YAML
//! - `http/api/mod.rs`: the routes: one file for each resource
//! - `http/api/admin.rs`: `/api/admin`
//! - `http/api/archive.rs`: `/api/admin/archive`
//! - `http/api/archived_events.rs`: the events of a time as lines of JSON
//! - `http/api/audit.rs`: `/api/audit`
//! - `http/api/dead_letters.rs`: `/api/dead-letters`
//! - `http/api/deliveries.rs`: `/api/deliveries`
//! - `http/api/docs.rs`: `/docs`: the manual
//! - `http/api/docs/markdown.rs`: Markdown to HTML
//! - `http/api/endpoint_settings.rs`: the settings that an endpoint's owner can change
//! - `http/api/endpoints.rs`: `/api/endpoints`
//! - `http/api/endpoints/operations.rs`: its operations
//! - `http/api/event_history.rs`: `GET /api/events`: events and their deliveries
//! - `http/api/events.rs`: `POST /api/events`
//! - `http/api/hooks.rs`: `/api/hooks`: subscriptions as Zapier makes them
//! - `http/api/inbox.rs`: `/api/inbox`, `/api/ack`
//! - `http/api/keys.rs`: `/api/keys`
//! - `http/api/new_key.rs`: new keys, for every route that makes one
//! - `http/api/ops.rs`: `/health`, `/metrics`, `/openapi.json`
//! - `http/api/orgs.rs`: `/api/orgs`
//! - `http/api/replays.rs`: `/api/replays`
//! - `http/api/stored_event.rs`: the JSON form of a stored event
//! - `http/api/tail.rs`: `GET /api/tail`: events and attempts as they happen
//! - `http/api/webhook.rs`: `/api/webhook/config`
//! - `http/api/whoami.rs`: `/api/whoami`
//! - `app.rs`: starts the parts in order, stops them in reverse
//! - `app/archiving.rs`: the archive of expiring events, whose directory may not answer
//! - `app/assembly.rs`: assembles the engine
//! - `app/directories.rs`: refuses directories in the data directory
//! - `app/kept_file.rs`: a file that only a start reads, compared with its former content
//! - `app/limits.rs`: fits the number of connections to the limit of open files
//! - `app/listening.rs`: listens on the address, and waits while another process uses it
//! - `app/dir_watch.rs`: checks that the data directory and the journal are still in place
//! - `app/loss.rs`: losses under the running server, with advice
//! - `app/lost_secrets.rs`: starts without the key that sealed secrets
//! - `app/opening.rs`: opens everything on disk in the order of recovery
//! - `app/reload.rs`: applies a new configuration to a running server
//! - `app/sending.rs`: the parts that push events
//! - `app/serving.rs`: the HTTP server on its thread
//! - `app/snapshots.rs`: snapshots at the start
//! - `app/start_error.rs`: the reasons why the server does not start
//! - `app/systemd.rs`: messages to systemd
//! - `app/workers.rs`: the threads that route, replay, sweep and watch the files
//! - `app/writing.rs`: the threads that make changes durable
//! - `cli/mod.rs`: the command line
//! - `cli/account.rs`: `key`
//! - `cli/admin.rs`: finds the admin token
//! - `cli/archive.rs`: `archive`
//! - `cli/archive/stopped.rs`: reads the events of a stopped server
//! - `cli/answer.rs`: a server's answer, with any payload
//! - `cli/arguments.rs`: options that mean the same in every command
//! - `cli/audit.rs`: reads a whole journal, for `verify` and `rebuild`
//! - `cli/audit_log.rs`: `audit`
//! - `cli/backup.rs`: `backup`
//! - `cli/backup/check.rs`: `verify` of a backup
//! - `cli/backup/drill.rs`: `drill`
//! - `cli/backup/encryption.rs`: archives encrypted with age
//! - `cli/backup/failures.rs`: the reasons why a backup or a restore failed
//! - `cli/backup/input.rs`: a backup that is open for reading
//! - `cli/backup/job.rs`: waits for a job of the server
//! - `cli/backup/output_file.rs`: a new file that appears when it is complete
//! - `cli/backup/place.rs`: the bucket that a command names
//! - `cli/backup/restore.rs`: `restore` and `deliver`
//! - `cli/bench/mod.rs`: `bench`: the measurements and their order
//! - `cli/bench/connection.rs`: HTTP on a raw socket
//! - `cli/bench/load.rs`: closed and open loops
//! - `cli/bench/machine.rs`: the hardware, and the best speed of its disk
//! - `cli/bench/overload.rs`: promises under overload, and the verdict
//! - `cli/bench/report.rs`: the tables
//! - `cli/bench/request.rs`: the repeated request
//! - `cli/bench/run.rs`: one run and its figures
//! - `cli/bench/schedule.rs`: the due time of each request in an open loop
//! - `cli/bench/scrape.rs`: `/metrics` before and after
//! - `cli/bench/server.rs`: the server as a child process
//! - `cli/bench/sink.rs`: an endpoint for deliveries
//! - `cli/bench/stage.rs`: the runtime and the progress bar of the runs
//! - `cli/bench/subject.rs`: the server under measurement, started or already running
//! - `cli/bench/tally.rs`: counts and latencies
//! - `cli/check_config.rs`: `check-config`
//! - `cli/client.rs`: the HTTP client of the commands
//! - `cli/client/download.rs`: an answer that is written as it comes
//! - `cli/client/failures.rs`: failures of requests without a valid answer
//! - `cli/completions.rs`: `completions` and `man`
//! - `cli/config_file.rs`: `config`: the commented file, and the reference of all keys
//! - `cli/confirm.rs`: asks before a change that cannot be undone
//! - `cli/context.rs`: `context`
//! - `cli/contexts.rs`: the file of contexts
//! - `cli/dead_letters.rs`: `dead-letters`
//! - `cli/deliveries.rs`: `deliveries` and `delivery`
//! - `cli/demo/mod.rs`: `demo`
//! - `cli/demo/receiver.rs`: a consumer's receiver, for the demo and the tests
//! - `cli/endpoint_settings.rs`: the settings of an endpoint as options
//! - `cli/endpoints.rs`: `endpoint`
//! - `cli/event_history.rs`: `events` and `event`
//! - `cli/events.rs`: `send`, `inbox`, `ack`
//! - `cli/explain.rs`: `explain`
//! - `cli/failure.rs`: the reason why a command failed
//! - `cli/form.rs`: text, one JSON document, or JSON Lines
//! - `cli/list.rs`: lists of the API, page by page
//! - `cli/losses.rs`: losses and differences, as a list
//! - `cli/openapi.rs`: `openapi`
//! - `cli/orgs.rs`: `org`
//! - `cli/output.rs`: prints visible text, and reports failed writes
//! - `cli/reach.rs`: finds the server and the key of a command
//! - `cli/rebuild.rs`: `rebuild`
//! - `cli/rebuild/consequences.rs`: the consequences of a loss, in the terms of the API
//! - `cli/rebuild/notes.rs`: records in the place of lost records
//! - `cli/rebuild/payloads.rs`: events whose payloads are lost
//! - `cli/replays.rs`: `replay`
//! - `cli/serve.rs`: `serve`
//! - `cli/snapshots.rs`: checks the snapshots of a stopped server
//! - `cli/status.rs`: `status`
//! - `cli/status/advice.rs`: failed checks in words, each with its remedy
//! - `cli/status/notices.rs`: facts that an operator should know of a healthy server
//! - `cli/status/report.rs`: the condition of a server as one value
//! - `cli/status/series.rs`: the series of `/metrics`
//! - `cli/status/table.rs`: the report as a table
//! - `cli/status/units.rs`: numbers, bytes and durations as people read them
//! - `cli/table.rs`: tables for people, and one thing with all its members
//! - `cli/tail.rs`: `tail`
//! - `cli/target.rs`: a server's address and a caller's key, with their sources
//! - `cli/verify.rs`: `verify`
//! - `cli/verify/report.rs`: its result, for people and for programs
//! - `cli/whoami.rs`: `whoami`
//! - `main.rs`: the binary: parse, match, exit code

/// Code shared by unit and integration tests names the crate in this way.
#[cfg(test)]
extern crate self as triggerd;

pub mod app;
pub mod archive;
pub mod backup;
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
