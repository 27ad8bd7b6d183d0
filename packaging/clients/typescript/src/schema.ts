// Made by generate.js from docs/openapi.json.

export interface paths {
    "/api/ack/{event_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Take an event out of the inbox
         * @description A repeated request gets the same answer.
         */
        post: operations["acknowledgeEvent"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/admin/archive": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Read all events of a time as lines of JSON */
        post: operations["archiveEvents"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/admin/backup": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Back up the running server */
        post: operations["makeBackup"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/admin/drill": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Restore and verify the newest backup */
        post: operations["startDrill"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/admin/jobs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** List the last jobs */
        get: operations["listJobs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/audit": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Show who changed what, when, and from where
         * @description A key sees the entries of its organization, and the admin token sees all. Secrets, the values of headers and the queries of URLs are never shown.
         */
        get: operations["listAudit"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/dead-letters": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** List dead letters */
        get: operations["listDeadLetters"];
        put?: never;
        post?: never;
        /** Drop dead letters */
        delete: operations["dropDeadLetters"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/dead-letters/replay": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Deliver dead letters again */
        post: operations["replayDeadLetters"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/deliveries": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** List deliveries */
        get: operations["listDeliveries"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/deliveries/{delivery_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Show a delivery with its attempts */
        get: operations["showDelivery"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/deliveries/{delivery_id}/retry": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Attempt a delivery now
         * @description A finished delivery starts its schedule from the beginning.
         */
        post: operations["retryDelivery"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/endpoints": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** List endpoints */
        get: operations["listEndpoints"];
        put?: never;
        /** Create an endpoint */
        post: operations["createEndpoint"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/endpoints/{endpoint_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Show an endpoint */
        get: operations["showEndpoint"];
        put?: never;
        post?: never;
        /** Delete an endpoint */
        delete: operations["deleteEndpoint"];
        options?: never;
        head?: never;
        /**
         * Change an endpoint
         * @description Members that are left out stay. An answer to `GET` can be sent back: members that cannot be set are accepted if they are unchanged.
         */
        patch: operations["changeEndpoint"];
        trace?: never;
    };
    "/api/endpoints/{endpoint_id}/enable": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Enable an endpoint */
        post: operations["enableEndpoint"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/endpoints/{endpoint_id}/secret/rotate": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Rotate a signing secret
         * @description The answer has the new secret, which is shown this once.
         */
        post: operations["rotateEndpointSecret"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/endpoints/{endpoint_id}/stats": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Show counters of an endpoint */
        get: operations["showEndpointStats"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/endpoints/{endpoint_id}/test": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Push a test event now */
        post: operations["testEndpoint"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** List events */
        get: operations["listEvents"];
        put?: never;
        /**
         * Post an event
         * @description The event is stored durably before the answer. With any `ce-` header, the request is a CloudEvent in binary mode: `ce-specversion`, `ce-id`, `ce-source` and `ce-type` are required, further `ce-` headers are attributes, and the body of any content type is the data.
         */
        post: operations["postEvent"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/events/batch": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Post several events
         * @description At most 1,000 events and 8 MiB, unless `[intake]` says otherwise.
         */
        post: operations["postEvents"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/events/{event_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Show an event with its deliveries
         * @description A key without `deliveries:read` does not see deliveries, and a key without `endpoints:read` sees neither breakers nor the queries of URLs.
         */
        get: operations["showEvent"];
        put?: never;
        post?: never;
        /** Erase the payload of an event */
        delete: operations["eraseEvent"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/hooks": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Subscribe a URL */
        post: operations["subscribeHook"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/hooks/samples": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Show bodies that would be pushed */
        get: operations["listHookSamples"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/hooks/{hook_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /** End a subscription */
        delete: operations["unsubscribeHook"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/inbox": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** List the events that nobody has acknowledged */
        get: operations["listInbox"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/keys": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** List the valid keys */
        get: operations["listKeys"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/keys/generate": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Make a key, or an organization with its first key
         * @description With the admin token, `organization` is the name of a new organization or the id of an existing one; without `name` the name of the key is `default`, and without `scopes` it has all of them. With a key, the new key is one of the same organization, needs `name` and `scopes`, has no more scopes than its maker and does not outlive it.
         */
        post: operations["generateKey"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/keys/rotate": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Replace the calling key by a new one */
        post: operations["rotateKey"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/keys/{key_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /** Revoke a key */
        delete: operations["revokeKey"];
        options?: never;
        head?: never;
        /**
         * Change the name of a key, take scopes away, or move its end
         * @description Only the admin token sets a later end.
         */
        patch: operations["changeKey"];
        trace?: never;
    };
    "/api/orgs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** List organizations */
        get: operations["listOrganizations"];
        put?: never;
        /** Create an organization without a key */
        post: operations["createOrganization"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/orgs/{org_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Show an organization */
        get: operations["showOrganization"];
        put?: never;
        post?: never;
        /**
         * Delete an organization with everything in it
         * @description This cannot be undone. From this answer on, the organization's keys are refused and nothing is sent to its endpoints.
         */
        delete: operations["deleteOrganization"];
        options?: never;
        head?: never;
        /**
         * Change or suspend an organization
         * @description The keys of a suspended organization read as before and change nothing, and its deliveries wait until the suspension ends.
         */
        patch: operations["changeOrganization"];
        trace?: never;
    };
    "/api/orgs/{org_id}/keys": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Make a key for an organization
         * @description Without `scopes` the key has all of them.
         */
        post: operations["createOrganizationKey"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/replays": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** List replays */
        get: operations["listReplays"];
        put?: never;
        /** Deliver past events again, in the background */
        post: operations["startReplay"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/replays/{replay_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Show a replay */
        get: operations["showReplay"];
        put?: never;
        post?: never;
        /**
         * Cancel a replay
         * @description Queued deliveries stay queued.
         */
        delete: operations["cancelReplay"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/tail": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Watch new events and attempts */
        get: operations["watchActivity"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/webhook/config": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Show the default endpoint */
        get: operations["showDefaultEndpoint"];
        put?: never;
        /** Set the default endpoint, the short way for one URL */
        post: operations["setDefaultEndpoint"];
        /** Delete the default endpoint */
        delete: operations["deleteDefaultEndpoint"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/whoami": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Show the calling key and its organization */
        get: operations["showCaller"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/docs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Show the manual */
        get: operations["showManual"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/docs/{page}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Show a page of the manual; `/docs/api` has an explorer of this document */
        get: operations["showManualPage"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/health": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Show if the server is healthy */
        get: operations["showHealth"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/health/live": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Show if the process runs */
        get: operations["showLiveness"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/health/ready": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Show if the server takes requests */
        get: operations["showReadiness"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/metrics": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Show the metrics */
        get: operations["showMetrics"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/openapi.json": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Show this document */
        get: operations["showOpenapi"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export interface webhooks {
    event: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * An event
         * @description The body has the form that the endpoint's `body` names: `envelope`, `payload` (the payload alone) or `cloudevents`.
         */
        post: operations["receiveEvent"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "triggerd.delivery.dead": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * A delivery became a dead letter
         * @description The `reason` is `attempts_exhausted` or `gone`.
         */
        post: operations["receiveDeliveryDead"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "triggerd.disk.low": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * The disk of the server has little free space
         * @description New events are refused soon.
         */
        post: operations["receiveDiskLow"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "triggerd.endpoint.disabled": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * triggerd stopped pushing to an endpoint
         * @description The `reason` is `gone` or `failing`. Somebody must enable the endpoint again.
         */
        post: operations["receiveEndpointDisabled"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "triggerd.endpoint.failing": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * An endpoint failed at every attempt for a while
         * @description One streak causes one event.
         */
        post: operations["receiveEndpointFailing"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "triggerd.endpoint.recovered": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * An endpoint that was failing accepted a delivery again
         * @description There is no `error`.
         */
        post: operations["receiveEndpointRecovered"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "triggerd.inbox.expired": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Unfinished events have expired
         * @description The payload says how many, and of which types.
         */
        post: operations["receiveInboxExpired"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "triggerd.key.expiring": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * A key ends in a week
         * @description A key that was made for a week or less is not announced.
         */
        post: operations["receiveKeyExpiring"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export interface components {
    schemas: {
        /** @description An acknowledged event. */
        Acknowledgement: {
            acknowledged_at: components["schemas"]["Timestamp"];
            id: components["schemas"]["EventId"];
            status: components["schemas"]["EventStatus"];
        };
        /**
         * @description A kind of change in the audit log.
         * @enum {string}
         */
        Action: "organization.created" | "organization.changed" | "key.created" | "key.changed" | "key.rotated" | "key.revoked" | "endpoint.created" | "endpoint.changed" | "endpoint.deleted" | "event.erased" | "replay.started" | "replay.canceled" | "configuration.reloaded" | "administration.refused" | "delivery.retried" | "dead_letters.replayed" | "dead_letters.dropped" | "backup.requested" | "drill.requested" | "archive.requested" | "organization.deleted";
        /** @description An attempt, in a delivery or as the result of testing an endpoint. */
        Attempt: {
            /** @description The address that the attempt reached, or tried to reach. */
            address: string | null;
            /** Format: int32 */
            duration_ms: number;
            error: null | components["schemas"]["AttemptError"];
            id: components["schemas"]["AttemptId"];
            /** Format: int32 */
            number: number;
            /** @description The beginning of a refusal's body, unless the event is erased. */
            response_body: string | null;
            response_headers: {
                [key: string]: string;
            };
            /**
             * Format: int64
             * @description The wait demanded by the receiver, in milliseconds.
             */
            retry_after_ms: number | null;
            started_at: components["schemas"]["Timestamp"];
            /**
             * Format: int32
             * @description The HTTP status of the answer.
             */
            status: number | null;
            timing: components["schemas"]["Timing"];
            trigger: components["schemas"]["Trigger"];
        };
        /** @description The reason why an attempt failed, as a code and as a sentence. */
        AttemptError: {
            /** @description The kind of the failure. */
            code: components["schemas"]["ErrorCode"];
            /** @description The sentence for people. It names the address, the status or the rule. */
            detail: string;
        };
        /**
         * @description The id of an attempt.
         * @example atm_01h2xcejqtf2nbrexx3vqjhp41
         */
        AttemptId: string;
        /** @description An entry of the audit log. */
        AuditEntry: {
            action: components["schemas"]["Action"];
            /** @description The party that made the change. */
            actor: {
                id: null | components["schemas"]["KeyId"];
                /** @description `admin`, `key` or `unknown`. */
                type: string;
            };
            /** @description The address of the client. */
            address: string | null;
            at: components["schemas"]["Timestamp"];
            changes: {
                after: string | null;
                before: string | null;
                field: string;
            }[];
            organization_id: null | components["schemas"]["OrgId"];
            request_id: string | null;
            /** @description The changed thing. */
            subject: {
                id: string | null;
                type: string;
            };
        };
        /** @description A page of a list. */
        AuditEntryPage: {
            data: components["schemas"]["AuditEntry"][];
            /** @description True if there is a next page now. */
            has_more: boolean;
            /** @description The cursor of the next page, also on the last page. */
            next_cursor: string;
        };
        /** @description The place of a backup. */
        BackupOrder: {
            /** @description A directory of backups on the server's machine by an absolute path, or a place in a bucket, `s3://BUCKET/PREFIX`. Without this member it is `[backup] directory`. It must be left out with `Accept: application/zstd`. */
            directory?: components["schemas"]["Place"] | null;
        };
        /** @description A batch of events. */
        Batch: {
            /** @description At most 1,000 events, unless `[intake] batch_events_max` says otherwise. Each item stands alone. */
            events: components["schemas"]["PostedEvent"][];
        };
        /** @description The outcome of an item of a batch. */
        BatchResult: {
            error?: null | components["schemas"]["Problem"];
            id?: null | components["schemas"]["EventId"];
            /** @description The place of the item in the batch, from 0. */
            index: number;
            received_at?: null | components["schemas"]["Timestamp"];
            status: components["schemas"]["BatchStatus"];
        };
        /** @description The outcome of each item of a batch. */
        BatchResults: {
            results: components["schemas"]["BatchResult"][];
        };
        /**
         * @description The outcome of an item of a batch in a word.
         * @enum {string}
         */
        BatchStatus: "accepted" | "duplicate" | "rejected";
        /**
         * @description The form of the body of an endpoint's requests.
         * @enum {string}
         */
        BodyForm: "envelope" | "payload" | "cloudevents";
        /**
         * @description The state of a circuit breaker.
         * @enum {string}
         */
        BreakerState: "closed" | "open" | "half_open";
        /** @description The caller: the operator, or a key with its organization. */
        Caller: {
            admin: boolean;
        } | {
            key: {
                expires_at: null | components["schemas"]["Timestamp"];
                id: components["schemas"]["KeyId"];
                name: string;
                scopes: components["schemas"]["Scope"][];
            };
            organization: {
                id: components["schemas"]["OrgId"];
                name: string;
                suspended: boolean;
                tier: components["schemas"]["Tier"];
            };
        };
        /** @description A CloudEvent 1.0 in the JSON format. Further members are its other attributes: texts, whole numbers of 32 bits, `true` and `false`. */
        CloudEvent: {
            /** @description Any JSON. */
            data?: unknown;
            /** @description Bytes, in place of `data`. */
            data_base64?: string | null;
            id: string;
            /** Format: uri-reference */
            source: string;
            /** @constant */
            specversion: "1.0";
            type: string;
        } & {
            [key: string]: unknown;
        };
        /**
         * @description The part of a CloudEvent's data that the payload holds.
         * @enum {string}
         */
        DataKind: "json" | "base64" | "none";
        /** @description Chooses dead letters: `ids`, or at least one of the other members. */
        DeadLetters: {
            /** @description Only dead letters of this endpoint. */
            endpoint_id?: components["schemas"]["EndpointId"] | null;
            /** @description The ids of deliveries. */
            ids?: components["schemas"]["DeliveryId"][] | null;
            /** @description The beginning of the time, inclusive. */
            since?: components["schemas"]["Moment"] | null;
            /** @description The end of the time, exclusive. */
            until?: components["schemas"]["Moment"] | null;
        };
        DeadLettersDropped: {
            dropped: number;
            /** @description True if more dead letters match than one request takes. */
            has_more: boolean;
            next_since: null | components["schemas"]["Timestamp"];
        };
        DeadLettersReplayed: {
            /** @description True if more dead letters match than one request takes. */
            has_more: boolean;
            next_since: null | components["schemas"]["Timestamp"];
            replayed: number;
        };
        /**
         * @description The reason why a delivery became a dead letter.
         * @enum {string}
         */
        DeadReason: "attempts_exhausted" | "gone";
        /** @description The default endpoint. Members that are left out get their defaults. */
        DefaultEndpoint: {
            /** @description False if nothing is pushed. */
            enabled?: boolean | null;
            /** @description The types that are pushed; the empty list means everything that producers post. */
            event_types?: components["schemas"]["TypePattern"][] | null;
            /**
             * Format: uri
             * @description `http` or `https`, without user and password. It must lead to a public address.
             */
            url: string;
        };
        /** @description A delivery. */
        Delivery: {
            /** Format: int32 */
            attempt_count: number;
            dead_at: null | components["schemas"]["Timestamp"];
            endpoint_id: components["schemas"]["EndpointId"];
            event_id: components["schemas"]["EventId"];
            id: components["schemas"]["DeliveryId"];
            next_attempt_at: null | components["schemas"]["Timestamp"];
            reason: null | components["schemas"]["DeadReason"];
            state: components["schemas"]["DeliveryStatus"];
        };
        /** @description A delivery became a dead letter */
        DeliveryDeadEvent: {
            data: components["schemas"]["EndpointReport"];
            /** @description The id of the event, the same at every attempt. */
            id: components["schemas"]["EventId"];
            /** @description The labels of the event, if there are any. */
            labels?: {
                [key: string]: string;
            };
            /** @description When the event occurred, or when it was received if the producer gave no time. */
            timestamp: components["schemas"]["Timestamp"];
            /** @constant */
            type: "triggerd.delivery.dead";
        };
        /**
         * @description The id of a delivery.
         * @example dlv_01h2xcejqtf2nbrexx3vqjhp41
         */
        DeliveryId: string;
        /** @description A page of a list of deliveries. */
        DeliveryPage: {
            data: components["schemas"]["Delivery"][];
            has_more: boolean;
            next_cursor: string;
        };
        /**
         * @description The state of a delivery.
         * @enum {string}
         */
        DeliveryStatus: "pending" | "retrying" | "delivered" | "dead" | "canceled";
        /**
         * @description The reason why a delivery waits although its time has come.
         * @enum {string}
         */
        DeliveryWait: "organization_suspended" | "endpoint_disabled" | "circuit_breaker" | "disk_full";
        /** @description A delivery with its attempts. */
        DeliveryWithAttempts: components["schemas"]["Delivery"] & {
            /** @description The newest 100 attempts, the newest first. */
            attempts: components["schemas"]["Attempt"][];
            /** @description `deleted` if the endpoint does not exist any more. */
            endpoint_disabled_reason: string | null;
            /** @description A delivery to a disabled endpoint waits until the endpoint is enabled. */
            endpoint_enabled: boolean;
            /** @description A delivery of a suspended organization waits until the operator ends the suspension. */
            organization_suspended: boolean;
            waits_for: null | components["schemas"]["DeliveryWait"];
        };
        /**
         * @description The reason why an endpoint is disabled.
         * @enum {string}
         */
        DisabledReason: "by_owner" | "gone" | "failing" | "secret_lost";
        /** @description The disk of the server has little free space */
        DiskLowEvent: {
            data: components["schemas"]["DiskReport"];
            /** @description The id of the event, the same at every attempt. */
            id: components["schemas"]["EventId"];
            /** @description The labels of the event, if there are any. */
            labels?: {
                [key: string]: string;
            };
            /** @description When the event occurred, or when it was received if the producer gave no time. */
            timestamp: components["schemas"]["Timestamp"];
            /** @constant */
            type: "triggerd.disk.low";
        };
        /** @description The payload of `triggerd.disk.low`. */
        DiskReport: {
            /** Format: int64 */
            free_bytes: number;
            /**
             * Format: int64
             * @description Events are refused while less than this is free.
             */
            reserve_bytes: number;
        };
        /** @description A drill, which has no settings. */
        DrillOrder: Record<string, unknown>;
        /**
         * @description The result of a drill.
         * @enum {string}
         */
        DrillOutcome: "passed" | "failed" | "skipped";
        /** @description An endpoint. The secret is present only when new. */
        Endpoint: {
            body: components["schemas"]["BodyForm"];
            created_at: components["schemas"]["Timestamp"];
            description: string;
            disabled_reason: null | components["schemas"]["DisabledReason"];
            enabled: boolean;
            event_types: components["schemas"]["TypePattern"][];
            /** @description The names of headers; `(set)` stands for each value. */
            headers: {
                [key: string]: string;
            };
            /** @description Names of headers removed because their values were meant for the former origin of the URL. */
            headers_dropped?: string[];
            id: components["schemas"]["EndpointId"];
            /** Format: int32 */
            max_in_flight: number | null;
            metadata: {
                [key: string]: string;
            };
            ordering: components["schemas"]["Ordering"];
            /** Format: int32 */
            rate_per_second: number | null;
            /** @description Seconds before each further attempt; `null` means the configuration. */
            retry_schedule: number[] | null;
            secret?: string | null;
            /** Format: int32 */
            timeout_ms: number | null;
            updated_at: components["schemas"]["Timestamp"];
            url: string;
        };
        /** @description The settings of an endpoint. A change keeps the members that it does not name. */
        EndpointChange: {
            /** @description The form of the body. */
            body?: components["schemas"]["BodyForm"] | null;
            /** @description A text for people. */
            description?: string | null;
            /** @description False if nothing is pushed. */
            enabled?: boolean | null;
            /** @description The types that are pushed; the empty list means everything that producers post. */
            event_types?: components["schemas"]["TypePattern"][] | null;
            /** @description Headers of each request. An answer shows `(set)` in place of a value, and `(set)` in a request keeps the value. */
            headers?: {
                [key: string]: string;
            } | null;
            /**
             * Format: int64
             * @description Maximum number of attempts at one time; `null` means the configuration.
             */
            max_in_flight?: number | null;
            /** @description Names and values for programs of the owner. */
            metadata?: {
                [key: string]: string;
            } | null;
            /** @description The order in which events are pushed. */
            ordering?: components["schemas"]["Ordering"] | null;
            /**
             * Format: int64
             * @description Maximum number of attempts begun in a second; `null` means no limit.
             */
            rate_per_second?: number | null;
            /** @description Seconds before each further attempt; `[]` means one attempt, and `null` the configuration. */
            retry_schedule?: number[] | null;
            /**
             * Format: int64
             * @description Maximum duration of an attempt; `null` means the configuration.
             */
            timeout_ms?: number | null;
            /**
             * Format: uri
             * @description `http` or `https`, without user and password. It must lead to a public address.
             */
            url?: string | null;
        };
        /** @description The answer to a change by a key that may not read endpoints: it repeats no setting that the key did not write. */
        EndpointChanged: {
            disabled_reason: null | components["schemas"]["DisabledReason"];
            enabled: boolean;
            headers_dropped?: string[];
            id: components["schemas"]["EndpointId"];
            secret?: string | null;
            updated_at: components["schemas"]["Timestamp"];
        };
        /** @description triggerd stopped pushing to an endpoint */
        EndpointDisabledEvent: {
            data: components["schemas"]["EndpointReport"];
            /** @description The id of the event, the same at every attempt. */
            id: components["schemas"]["EventId"];
            /** @description The labels of the event, if there are any. */
            labels?: {
                [key: string]: string;
            };
            /** @description When the event occurred, or when it was received if the producer gave no time. */
            timestamp: components["schemas"]["Timestamp"];
            /** @constant */
            type: "triggerd.endpoint.disabled";
        };
        /** @description An endpoint failed at every attempt for a while */
        EndpointFailingEvent: {
            data: components["schemas"]["EndpointReport"];
            /** @description The id of the event, the same at every attempt. */
            id: components["schemas"]["EventId"];
            /** @description The labels of the event, if there are any. */
            labels?: {
                [key: string]: string;
            };
            /** @description When the event occurred, or when it was received if the producer gave no time. */
            timestamp: components["schemas"]["Timestamp"];
            /** @constant */
            type: "triggerd.endpoint.failing";
        };
        /**
         * @description The id of an endpoint.
         * @example ep_01h2xcejqtf2nbrexx3vqjhp41
         */
        EndpointId: string;
        /** @description An endpoint, and the recorded result of matching the event. */
        EndpointMatch: {
            breaker?: null | components["schemas"]["BreakerState"];
            breaker_until?: null | components["schemas"]["Timestamp"];
            delivery?: null | components["schemas"]["Delivery"];
            endpoint_id: components["schemas"]["EndpointId"];
            matched: boolean;
            /** @description The reason why the event matched or did not. */
            reason: components["schemas"]["RouteReason"];
            /** @description Without its query if the key may not read endpoints. */
            url: string;
        };
        /** @description A page of a list. */
        EndpointPage: {
            data: components["schemas"]["Endpoint"][];
            /** @description True if there is a next page now. */
            has_more: boolean;
            /** @description The cursor of the next page, also on the last page. */
            next_cursor: string;
        };
        /** @description An endpoint that was failing accepted a delivery again */
        EndpointRecoveredEvent: {
            data: components["schemas"]["EndpointReport"];
            /** @description The id of the event, the same at every attempt. */
            id: components["schemas"]["EventId"];
            /** @description The labels of the event, if there are any. */
            labels?: {
                [key: string]: string;
            };
            /** @description When the event occurred, or when it was received if the producer gave no time. */
            timestamp: components["schemas"]["Timestamp"];
            /** @constant */
            type: "triggerd.endpoint.recovered";
        };
        /** @description The payload; its members have the same names as in the API. The payload of an operational event about an endpoint. */
        EndpointReport: {
            /**
             * Format: int32
             * @description Number of attempts of this delivery so far.
             */
            attempts: number;
            /** @description The delivery whose attempt caused the event. */
            delivery_id: components["schemas"]["DeliveryId"];
            endpoint_id: components["schemas"]["EndpointId"];
            error?: null | components["schemas"]["AttemptError"];
            event_id: components["schemas"]["EventId"];
            event_type: string;
            failing_since: null | components["schemas"]["Timestamp"];
            /** @description Why the endpoint is disabled or the delivery dead. */
            reason?: string | null;
            /** @description The endpoint's URL without its query. */
            url: string;
        };
        /** @description Counters of an endpoint. */
        EndpointStats: {
            /** Format: int64 */
            attempts_accepted: number;
            /** Format: int64 */
            attempts_failed: number;
            /** Format: int64 */
            dead_letters: number;
            failing_since: null | components["schemas"]["Timestamp"];
            id: components["schemas"]["EndpointId"];
            last_accepted_at: null | components["schemas"]["Timestamp"];
            last_failed_at: null | components["schemas"]["Timestamp"];
            /** Format: int64 */
            waiting: number;
        };
        /** @description The result of testing an endpoint: an attempt, and the event in the header `webhook-id`. */
        EndpointTest: components["schemas"]["Attempt"] & {
            event_id: components["schemas"]["EventId"];
        };
        /**
         * @description The order of the entries of the audit log.
         * @enum {string}
         */
        EntryOrder: "newest" | "oldest";
        /** @description An event as it is pushed by default. */
        Envelope: {
            /** @description The payload of the event, byte for byte. */
            data: unknown;
            /** @description The id of the event, the same at every attempt. */
            id: components["schemas"]["EventId"];
            /** @description The labels of the event, if there are any. */
            labels?: {
                [key: string]: string;
            };
            /** @description When the event occurred, or when it was received if the producer gave no time. */
            timestamp: components["schemas"]["Timestamp"];
            /** @description The type of the event. */
            type: string;
        };
        /** @description An erased event. */
        Erasure: {
            erased_at: components["schemas"]["Timestamp"];
            /** @description The time from which no file of a server that runs has the bytes. */
            gone_by: components["schemas"]["Timestamp"];
            id: components["schemas"]["EventId"];
        };
        /**
         * @description The kind of an attempt's failure.
         * @enum {string}
         */
        ErrorCode: "timeout" | "connect" | "tls" | "dns" | "egress_blocked" | "http_status" | "redirect" | "protocol";
        /** @description A stored event. */
        Event: {
            /** @description The attributes of the CloudEvent, unchanged; absent for other events. */
            cloudevent?: Record<string, unknown> | null;
            /** @description The deduplication id that the producer gave. */
            dedup_id: string | null;
            erased_at?: null | components["schemas"]["Timestamp"];
            id: components["schemas"]["EventId"];
            labels: {
                [key: string]: string;
            };
            /**
             * Format: int32
             * @description Always 0.
             */
            lease_count: number;
            occurred_at: null | components["schemas"]["Timestamp"];
            /** @description Any JSON; `null` after the event was erased. */
            payload: unknown;
            payload_kind?: null | components["schemas"]["DataKind"];
            received_at: components["schemas"]["Timestamp"];
            status: components["schemas"]["EventStatus"];
            type: string;
        };
        /**
         * @description The id of an event.
         * @example evt_01h2xcejqtf2nbrexx3vqjhp41
         */
        EventId: string;
        /** @description A page of a list. */
        EventPage: {
            data: components["schemas"]["Event"][];
            /** @description True if there is a next page now. */
            has_more: boolean;
            /** @description The cursor of the next page, also on the last page. */
            next_cursor: string;
        };
        /**
         * @description The status of an event.
         * @enum {string}
         */
        EventStatus: "accepted" | "delivered" | "acknowledged" | "dead";
        /**
         * @description A type of events.
         * @example order.created
         */
        EventType: string;
        /** @description An event, and its state at each endpoint. */
        EventWithHistory: {
            /** @description The attributes of the CloudEvent, unchanged; absent for other events. */
            cloudevent?: Record<string, unknown> | null;
            /** @description The deduplication id that the producer gave. */
            dedup_id: string | null;
            /** @description Deliveries of the event, also to deleted endpoints. Absent if the key may not read deliveries. */
            deliveries?: components["schemas"]["Delivery"][] | null;
            /** @description False if deliveries may be left out. */
            deliveries_complete?: boolean | null;
            /** @description All existing endpoints of the organization. */
            endpoints: components["schemas"]["EndpointMatch"][];
            erased_at?: null | components["schemas"]["Timestamp"];
            id: components["schemas"]["EventId"];
            in_inbox: boolean;
            labels: {
                [key: string]: string;
            };
            /**
             * Format: int32
             * @description Always 0.
             */
            lease_count: number;
            occurred_at: null | components["schemas"]["Timestamp"];
            /** @description Deliveries of a suspended organization wait until the operator ends the suspension. */
            organization_suspended: boolean;
            /** @description Any JSON; `null` after the event was erased. */
            payload: unknown;
            payload_kind?: null | components["schemas"]["DataKind"];
            received_at: components["schemas"]["Timestamp"];
            status: components["schemas"]["EventStatus"];
            type: string;
        };
        /** @description The payload of `triggerd.inbox.expired`. */
        ExpiryReport: {
            /** @description The number of events of each type; at most the 100 most frequent types. */
            by_type: {
                [key: string]: number;
            };
            /**
             * Format: int64
             * @description The number of unfinished events.
             */
            events: number;
            first_received_at: components["schemas"]["Timestamp"];
            last_received_at: components["schemas"]["Timestamp"];
            /**
             * Format: int64
             * @description The age at which such events expire.
             */
            open_seconds: number;
            /**
             * Format: int64
             * @description The number of events whose types are not in `by_type`.
             */
            other_types: number;
            /** @description `age`, or `disk` if the events had to leave before. */
            reason: string;
        };
        /** @description A fault of a request: its location, and the broken rule. */
        Fault: {
            detail: string;
            /** @description A JSON pointer into the body (RFC 6901), `?name` for a query parameter, or the name of a header. */
            pointer: string;
        };
        /** @description The condition of the server. */
        Health: {
            archive: components["schemas"]["HealthArchive"];
            backup: components["schemas"]["HealthBackup"];
            checks: components["schemas"]["HealthChecks"];
            /** @description The data directory on the server's machine. */
            data_dir: string;
            /** @description False if the server makes no deliveries. */
            delivers: boolean;
            disk: components["schemas"]["HealthDisk"];
            drill: components["schemas"]["HealthDrill"];
            /** @description True if it makes none because its data directory was restored. */
            is_held: boolean;
            /** @description The ages at which events expire, unless their tier has its own. */
            retention: {
                [key: string]: unknown;
            };
            status: string;
            /** Format: int64 */
            uptime_seconds: number;
            version: string;
        };
        /** @description The archive of expired events. */
        HealthArchive: {
            /** @description `null` if events expire without an archive. */
            directory: string | null;
            /** @description True while events do not expire because they cannot be archived. */
            has_failed: boolean;
        };
        /** @description The newest backup of this server in its directory of backups. */
        HealthBackup: {
            /**
             * Format: int64
             * @description The time between two backups; 0 if the server makes none by itself.
             */
            every_seconds: number;
            /** @description True if the last backup failed. */
            has_failed: boolean;
            newest_at: null | components["schemas"]["Timestamp"];
        };
        /** @description A word for each part of the server; `ok` means healthy. */
        HealthChecks: {
            /** @description `lost` if the data directory is no longer in its place, `incomplete` if a file is lost that the next start needs. */
            data_dir: string;
            /** @description The kind of shortage, if there is no room for events. */
            disk: string;
            /** @description `full` if the queue of changes has no room. */
            intake: string;
            /** @description `damaged` if bytes read from the journal differed from the bytes written. */
            journal: string;
            /** @description The phase of the server, if the server is not ready. */
            server: string;
            /** @description `unreadable` if the state cannot be read. */
            state: string;
        };
        /** @description The disk space of the data in bytes, as the retention measured it last. */
        HealthDisk: {
            /**
             * Format: int64
             * @description Space of the same filesystem that only the backups in `[backup] directory` take.
             */
            backup_bytes: number;
            /**
             * Format: double
             * @description Absent while unknown.
             */
            days_until_full?: number | null;
            /** Format: int64 */
            journal_bytes: number;
            /**
             * Format: int64
             * @description Free space below which events expire before their time.
             */
            keep_free_bytes: number;
            /** @description `bytes` or `disk` while events expire before their time for this reason, else `none`. */
            pressure: components["schemas"]["Pressure"];
            /**
             * Format: int64
             * @description Free space below which new events are refused: the configured reserve, or more if the next snapshots need more.
             */
            reserve_bytes: number;
            /** Format: int64 */
            snapshot_bytes: number;
            /** Format: int64 */
            state_bytes: number;
            /**
             * Format: int64
             * @description The part that comes back once no copy can need it.
             */
            unneeded_bytes: number;
        };
        /** @description The last drill. */
        HealthDrill: {
            ended_at: null | components["schemas"]["Timestamp"];
            /**
             * Format: int64
             * @description The time between two drills; 0 if the server carries out none by itself.
             */
            every_seconds: number;
            outcome: null | components["schemas"]["DrillOutcome"];
            passed_at: null | components["schemas"]["Timestamp"];
            /** @description Why the last drill was skipped; `null` if it was not. */
            skipped_because: string | null;
        };
        /** @description A phase of the server. */
        HealthWord: {
            status: string;
        };
        /** @description Unfinished events have expired */
        InboxExpiredEvent: {
            data: components["schemas"]["ExpiryReport"];
            /** @description The id of the event, the same at every attempt. */
            id: components["schemas"]["EventId"];
            /** @description The labels of the event, if there are any. */
            labels?: {
                [key: string]: string;
            };
            /** @description When the event occurred, or when it was received if the producer gave no time. */
            timestamp: components["schemas"]["Timestamp"];
            /** @constant */
            type: "triggerd.inbox.expired";
        };
        /**
         * @description The rule by which an event leaves the inbox.
         * @enum {string}
         */
        InboxMode: "auto" | "ack_only";
        /** @description A job of the server. */
        Job: {
            /** @description The directory of the backup that was made, or that passed the drill. */
            backup: string | null;
            /** Format: int64 */
            bytes: number;
            /** Format: int64 */
            bytes_read: number;
            directory: string;
            /** @description The reason why the job failed. */
            error: string | null;
            finished_at: null | components["schemas"]["Timestamp"];
            id: components["schemas"]["JobId"];
            kind: components["schemas"]["JobKind"];
            started_at: components["schemas"]["Timestamp"];
            state: components["schemas"]["JobState"];
        };
        /**
         * @description The id of a job of the server.
         * @example job_01h2xcejqtf2nbrexx3vqjhp41
         */
        JobId: string;
        /**
         * @description The kind of a job.
         * @enum {string}
         */
        JobKind: "backup" | "drill";
        /**
         * @description The state of a job.
         * @enum {string}
         */
        JobState: "running" | "done" | "failed";
        Jobs: {
            data: components["schemas"]["Job"][];
        };
        /** @description A key in the list, without its secret. */
        Key: {
            created_at: components["schemas"]["Timestamp"];
            /** @description True for the key that made the request. */
            current: boolean;
            expires_at: null | components["schemas"]["Timestamp"];
            id: components["schemas"]["KeyId"];
            last_used_at: null | components["schemas"]["Timestamp"];
            name: string;
            prefix: string;
            scopes: components["schemas"]["Scope"][];
        };
        /** @description A key ends in a week */
        KeyExpiringEvent: {
            data: components["schemas"]["KeyReport"];
            /** @description The id of the event, the same at every attempt. */
            id: components["schemas"]["EventId"];
            /** @description The labels of the event, if there are any. */
            labels?: {
                [key: string]: string;
            };
            /** @description When the event occurred, or when it was received if the producer gave no time. */
            timestamp: components["schemas"]["Timestamp"];
            /** @constant */
            type: "triggerd.key.expiring";
        };
        /**
         * @description The id of an API key.
         * @example key_01h2xcejqtf2nbrexx3vqjhp41
         */
        KeyId: string;
        /** @description A new key, and for the operator its organization. */
        KeyOrder: {
            /** @description The time at which the key ends. */
            expires_at?: components["schemas"]["Timestamp"] | null;
            /** @description The name of the key, for people. */
            name?: string | null;
            /** @description The name of a new organization or the id of an existing one. Only for the admin token, which needs it. */
            organization?: string | null;
            /** @description The rights of the key: scopes, and sets of scopes. */
            scopes?: components["schemas"]["NamedScopes"][] | null;
            /** @description The tier of a new organization, `free` without this member. Only for the admin token. */
            tier?: components["schemas"]["Tier"] | null;
        };
        /** @description A page of a list. */
        KeyPage: {
            data: components["schemas"]["Key"][];
            /** @description True if there is a next page now. */
            has_more: boolean;
            /** @description The cursor of the next page, also on the last page. */
            next_cursor: string;
        };
        /** @description The payload; times have the same form as in the API. */
        KeyReport: {
            expires_at: components["schemas"]["Timestamp"];
            key_id: components["schemas"]["KeyId"];
            name: string;
        };
        /** @description The properties of a key that its maker chooses. */
        KeySettings: {
            /** @description The time at which the key ends. */
            expires_at?: components["schemas"]["Timestamp"] | null;
            /** @description The name of the key, for people. */
            name?: string | null;
            /** @description The rights of the key: scopes, and sets of scopes. */
            scopes?: components["schemas"]["NamedScopes"][] | null;
        };
        /** @description A time of RFC 3339, or a duration back from now: `90s`, `15m`, `1d12h`, `2w`. */
        Moment: string;
        /**
         * @description A scope, or a set of scopes by its name.
         * @enum {string}
         */
        NamedScopes: "events:write" | "inbox:read" | "inbox:write" | "endpoints:read" | "endpoints:write" | "keys:read" | "keys:write" | "events:read" | "deliveries:read" | "deliveries:write" | "audit:read" | "producer" | "consumer" | "operator" | "read_only";
        /** @description The settings of an endpoint. A change keeps the members that it does not name. */
        NewEndpoint: {
            /** @description The form of the body. */
            body?: components["schemas"]["BodyForm"] | null;
            /** @description A text for people. */
            description?: string | null;
            /** @description False if nothing is pushed. */
            enabled?: boolean | null;
            /** @description The types that are pushed; the empty list means everything that producers post. */
            event_types?: components["schemas"]["TypePattern"][] | null;
            /** @description Headers of each request. An answer shows `(set)` in place of a value, and `(set)` in a request keeps the value. */
            headers?: {
                [key: string]: string;
            } | null;
            /**
             * Format: int64
             * @description Maximum number of attempts at one time; `null` means the configuration.
             */
            max_in_flight?: number | null;
            /** @description Names and values for programs of the owner. */
            metadata?: {
                [key: string]: string;
            } | null;
            /** @description The order in which events are pushed. */
            ordering?: components["schemas"]["Ordering"] | null;
            /**
             * Format: int64
             * @description Maximum number of attempts begun in a second; `null` means no limit.
             */
            rate_per_second?: number | null;
            /** @description Seconds before each further attempt; `[]` means one attempt, and `null` the configuration. */
            retry_schedule?: number[] | null;
            /**
             * Format: int64
             * @description Maximum duration of an attempt; `null` means the configuration.
             */
            timeout_ms?: number | null;
            /**
             * Format: uri
             * @description `http` or `https`, without user and password. It must lead to a public address.
             */
            url: string | null;
        };
        /** @description The answer with a new key; no other answer shows the key's text. */
        NewKey: {
            created_at: components["schemas"]["Timestamp"];
            expires_at: null | components["schemas"]["Timestamp"];
            key: string;
            key_id: components["schemas"]["KeyId"];
            name: string;
            organization_id: components["schemas"]["OrgId"];
            scopes: components["schemas"]["Scope"][];
        };
        /** @description The settings of an organization. */
        NewOrganization: {
            /** @description The rule by which an event leaves the inbox. That of a new organization is `auto` without this member. */
            inbox_mode?: components["schemas"]["InboxMode"] | null;
            /** @description The name, which no other organization has. */
            name: components["schemas"]["OrgName"] | null;
            /** @description The tier. That of a new organization is `free` without this member. */
            tier?: components["schemas"]["Tier"] | null;
        };
        /** @description The properties of a key that its maker chooses. */
        NewOrganizationKey: {
            /** @description The time at which the key ends. */
            expires_at?: components["schemas"]["Timestamp"] | null;
            /** @description The name of the key, for people. */
            name: string | null;
            /** @description The rights of the key: scopes, and sets of scopes. */
            scopes?: components["schemas"]["NamedScopes"][] | null;
        };
        /**
         * @description The order in which an endpoint gets its events.
         * @enum {string}
         */
        Ordering: "none" | "strict";
        /** @description A change of an organization. */
        OrgChange: {
            /** @description The rule by which an event leaves the inbox. That of a new organization is `auto` without this member. */
            inbox_mode?: components["schemas"]["InboxMode"] | null;
            /** @description The name, which no other organization has. */
            name?: components["schemas"]["OrgName"] | null;
            /** @description `true` suspends the organization, and `false` ends the suspension. */
            suspended?: boolean | null;
            /** @description The tier. That of a new organization is `free` without this member. */
            tier?: components["schemas"]["Tier"] | null;
        };
        /**
         * @description The id of an organization.
         * @example org_01h2xcejqtf2nbrexx3vqjhp41
         */
        OrgId: string;
        /** @description The name of an organization, without spaces around it. It cannot begin like an id. */
        OrgName: string;
        /** @description An organization. */
        Organization: {
            /**
             * Format: int64
             * @description The size of these events as they came, in bytes.
             */
            bytes: number;
            created_at: components["schemas"]["Timestamp"];
            /**
             * Format: int64
             * @description Dead letters.
             */
            dead: number;
            deletion: null | components["schemas"]["OrganizationDeletion"];
            endpoints: number;
            /**
             * Format: int64
             * @description Stored events, also erased ones.
             */
            events: number;
            id: components["schemas"]["OrgId"];
            inbox_mode: components["schemas"]["InboxMode"];
            /** @description Valid keys. */
            keys: number;
            name: string;
            /**
             * Format: int64
             * @description Events in the inbox.
             */
            open: number;
            suspended: boolean;
            suspended_at: null | components["schemas"]["Timestamp"];
            tier: components["schemas"]["Tier"];
            /**
             * Format: int64
             * @description Deliveries that wait for an attempt.
             */
            waiting: number;
        };
        /** @description The progress of the deletion of an organization. */
        OrganizationDeletion: {
            /**
             * Format: int64
             * @description The number of events that the organization had then.
             */
            events: number;
            /**
             * Format: int64
             * @description The number of events that it still has.
             */
            events_left: number;
            /** @description The time of the first request for it. */
            requested_at: components["schemas"]["Timestamp"];
        };
        /** @description A page of a list. */
        OrganizationPage: {
            data: components["schemas"]["Organization"][];
            /** @description True if there is a next page now. */
            has_more: boolean;
            /** @description The cursor of the next page, also on the last page. */
            next_cursor: string;
        };
        /** @description A directory of backups, or a place in a bucket. */
        Place: string;
        /** @description An event as a producer posts it. */
        PostedEvent: {
            /** @description The same id in the deduplication window is the same event. The header `Idempotency-Key` means the same. */
            dedup_id?: string | null;
            /** @description The event is not pushed before this time, which is at most 90 days ahead. */
            deliver_after?: components["schemas"]["Timestamp"] | null;
            /** @description Names and values for consumers. */
            labels?: {
                [key: string]: string;
            } | null;
            /** @description The time at which the event happened. */
            occurred_at?: components["schemas"]["Timestamp"] | null;
            /** @description Any JSON. Its bytes are kept as they came. */
            payload: unknown;
            /** @description The type of the event: words that `.`, `/` or `:` separate. Types that begin with `triggerd.`, `triggerd/` or `triggerd:` are reserved. */
            type: components["schemas"]["PostedType"];
        };
        /**
         * @description The type of a posted event; those of triggerd itself are reserved.
         * @example order.created
         */
        PostedType: string;
        /**
         * @description The reason why events expire before their time.
         * @enum {string}
         */
        Pressure: "none" | "bytes" | "disk";
        /** @description A problem document (RFC 9457). */
        Problem: {
            code: components["schemas"]["ProblemCode"];
            /** @description The meaning for this request. */
            detail: string;
            /** @description Every fault of the request, with `validation_failed` and `invalid_request`. */
            errors?: components["schemas"]["Fault"][] | null;
            event_id?: null | components["schemas"]["EventId"];
            organization_id?: null | components["schemas"]["OrgId"];
            /** @description The id of the request, also in the header `X-Request-Id`. An item of a batch has none. */
            request_id?: string | null;
            /** Format: int32 */
            status: number;
            /** @description A description in a few words. */
            title: string;
            /** @description The place of the code's documentation. */
            type: string;
        };
        /**
         * @description The kind of a problem. It is stable.
         * @enum {string}
         */
        ProblemCode: "malformed_json" | "conflicting_dedup_id" | "invalid_request" | "unauthorized" | "forbidden" | "organization_suspended" | "not_found" | "method_not_allowed" | "request_timeout" | "event_erased" | "organization_exists" | "payload_too_large" | "unsupported_media_type" | "validation_failed" | "dedup_mismatch" | "egress_blocked" | "limit_reached" | "rate_limited" | "head_too_large" | "internal" | "overloaded" | "shutting_down" | "disk_full";
        /** @description The receipt of a stored event. */
        Receipt: {
            /** @description True if the event was posted before. */
            duplicate: boolean;
            id: components["schemas"]["EventId"];
            received_at: components["schemas"]["Timestamp"];
            status: components["schemas"]["EventStatus"];
        };
        /** @description A replay. */
        Replay: {
            created_at: components["schemas"]["Timestamp"];
            endpoint_id: null | components["schemas"]["EndpointId"];
            event_types: components["schemas"]["TypePattern"][];
            /** Format: int64 */
            examined: number;
            finished_at: null | components["schemas"]["Timestamp"];
            id: components["schemas"]["ReplayId"];
            only: components["schemas"]["ReplayOnly"];
            /** Format: double */
            progress: number;
            /** Format: int64 */
            queued: number;
            /** @description The reason why the replay was canceled. */
            reason: string | null;
            since: null | components["schemas"]["Timestamp"];
            /** @description Disabled endpoints that a replay to all endpoints passes over. */
            skipped_endpoint_ids: components["schemas"]["EndpointId"][];
            state: components["schemas"]["ReplayState"];
            /** @description The requested end, or the time of creation if the request had none. */
            until: components["schemas"]["Timestamp"];
            waits_for: null | components["schemas"]["ReplayWait"];
        };
        /** @description The answer to a key that may not read replays. */
        ReplayCanceled: {
            finished_at: null | components["schemas"]["Timestamp"];
            id: components["schemas"]["ReplayId"];
            reason: string | null;
            state: components["schemas"]["ReplayState"];
        };
        /**
         * @description The id of a replay.
         * @example rpl_01h2xcejqtf2nbrexx3vqjhp41
         */
        ReplayId: string;
        /**
         * @description The deliveries that a replay repeats.
         * @enum {string}
         */
        ReplayOnly: "failed" | "missing" | "all";
        /** @description A replay to start. */
        ReplayOrder: {
            /** @description The endpoint. Every enabled endpoint of the organization without this member. */
            endpoint_id?: components["schemas"]["EndpointId"] | null;
            /** @description Only events of these types. */
            event_types?: components["schemas"]["TypePattern"][] | null;
            /** @description `failed`: dead letters. `missing`: events that the endpoint wants now but never had a delivery of. `all`: all events that the endpoint wants now. */
            only: components["schemas"]["ReplayOnly"];
            /** @description The beginning of the time, inclusive. */
            since?: components["schemas"]["Moment"] | null;
            /** @description The end of the time, exclusive. */
            until?: components["schemas"]["Moment"] | null;
        };
        /** @description A page of a list. */
        ReplayPage: {
            data: components["schemas"]["Replay"][];
            /** @description True if there is a next page now. */
            has_more: boolean;
            /** @description The cursor of the next page, also on the last page. */
            next_cursor: string;
        };
        /**
         * @description The state of a replay.
         * @enum {string}
         */
        ReplayState: "running" | "finished" | "canceled";
        /**
         * @description The reason why a replay waits.
         * @enum {string}
         */
        ReplayWait: "endpoint_disabled" | "endpoint_busy" | "routing" | "disk_full";
        /** @description The rotation of the calling key. */
        Rotation: {
            /**
             * Format: int64
             * @description How long the old key keeps working; with 0 it ends at once.
             * @default 86400
             */
            grace_seconds: number | null;
        };
        /**
         * @description The reason why an endpoint receives an event, or does not.
         * @enum {string}
         */
        RouteReason: "type_wanted" | "type_not_wanted" | "disabled" | "made_later" | "not_routed_yet" | "routing_failed" | "erased" | "replayed";
        /**
         * @description A right of a key.
         * @enum {string}
         */
        Scope: "events:write" | "inbox:read" | "inbox:write" | "endpoints:read" | "endpoints:write" | "keys:read" | "keys:write" | "events:read" | "deliveries:read" | "deliveries:write" | "audit:read";
        /** @description The rotation of a signing secret. */
        SecretRotation: {
            /**
             * Format: int64
             * @description How long the old secret signs beside the new one.
             * @default 86400
             */
            overlap_seconds: number | null;
        };
        /** @description A new subscription. */
        Subscribed: {
            event: string | null;
            id: components["schemas"]["EndpointId"];
            target_url: string;
        };
        /** @description A subscription. */
        Subscription: {
            /** @description The event type, or all types below a prefix (`order.*`). Everything without this member. */
            event?: components["schemas"]["TypePattern"] | null;
            /**
             * Format: uri
             * @description Another name for `target_url`.
             */
            hookUrl?: string | null;
            /**
             * Format: uri
             * @description The URL that events are pushed to.
             */
            target_url?: string | null;
        };
        /** @description An attempt that ended. */
        TailAttempt: {
            delivery_id: components["schemas"]["DeliveryId"];
            /** Format: int32 */
            duration_ms: number;
            endpoint_disabled_reason: null | components["schemas"]["DisabledReason"];
            endpoint_id: components["schemas"]["EndpointId"];
            error: null | components["schemas"]["AttemptError"];
            event_id: components["schemas"]["EventId"];
            event_type: components["schemas"]["EventType"];
            next_attempt_at: null | components["schemas"]["Timestamp"];
            /** Format: int32 */
            number: number;
            reason: null | components["schemas"]["DeadReason"];
            started_at: components["schemas"]["Timestamp"];
            /** @description The state of the delivery after the attempt. */
            state: components["schemas"]["DeliveryStatus"];
            /** Format: int32 */
            status: number | null;
        };
        /** @description The last item of a stream. */
        TailEnd: {
            reason: string;
        };
        /** @description An event that was accepted. */
        TailEvent: {
            id: components["schemas"]["EventId"];
            received_at: components["schemas"]["Timestamp"];
            type: components["schemas"]["EventType"];
        };
        /** @description Items that a slow reader missed. */
        TailMissed: {
            /** Format: int64 */
            count: number;
        };
        /** @description The first item of each stream: all later activity is shown. */
        TailStart: {
            /** @description True if the stream shows attempts. */
            attempts: boolean;
        };
        /**
         * @description What an organization may use.
         * @enum {string}
         */
        Tier: "free" | "pro" | "enterprise";
        /**
         * Format: date-time
         * @description A time of RFC 3339. Answers have UTC with milliseconds.
         */
        Timestamp: string;
        /** @description The durations of an attempt's parts, in milliseconds. A part is absent if it did not happen or did not end: an attempt over a kept connection has none of the first three. */
        Timing: {
            /**
             * Format: int32
             * @description The opening of the TCP connection.
             */
            connect_ms: number | null;
            /**
             * Format: int32
             * @description The lookup of the host name.
             */
            dns_ms: number | null;
            /**
             * Format: int32
             * @description The wait for the head of the answer, from the moment at which the connection is there.
             */
            first_byte_ms: number | null;
            /**
             * Format: int32
             * @description The duration of the TLS handshake.
             */
            tls_ms: number | null;
        };
        /**
         * @description The cause of an attempt.
         * @enum {string}
         */
        Trigger: "schedule" | "retry" | "replay" | "test";
        /**
         * @description Event types or patterns, separated by commas: `order.*,!order.test`.
         * @example order.*
         */
        TypeFilter: string;
        /**
         * @description An event type, or every type below some words: `order.created`, `order.*`.
         * @example order.*
         */
        TypePattern: string;
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    acknowledgeEvent: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                event_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The event is acknowledged. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Acknowledgement"];
                };
            };
        };
    };
    archiveEvents: {
        parameters: {
            query?: {
                /** @description The beginning of the time, inclusive. */
                since?: components["schemas"]["Moment"];
                /** @description The end of the time, exclusive. */
                until?: components["schemas"]["Moment"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description An event on each line, day by day, the oldest first. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/jsonl": string;
                };
            };
        };
    };
    makeBackup: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: {
            content: {
                /**
                 * @example {
                 *       "directory": "/backup/triggerd"
                 *     }
                 */
                "application/json": components["schemas"]["BackupOrder"];
            };
        };
        responses: {
            /** @description With `Accept: application/zstd`, the backup itself: a tar compressed with zstd. An answer that breaks off is no backup. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/zstd": string;
                };
            };
            /** @description The job that makes the backup. */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"];
                };
            };
        };
    };
    startDrill: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: {
            content: {
                /** @example {} */
                "application/json": components["schemas"]["DrillOrder"];
            };
        };
        responses: {
            /** @description The job of the drill. */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"];
                };
            };
        };
    };
    listJobs: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The last 100 jobs since the start, the newest first. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Jobs"];
                };
            };
        };
    };
    listAudit: {
        parameters: {
            query?: {
                /** @description Maximum number of items on the page. */
                limit?: number;
                /** @description The `next_cursor` of the page before; the first page without it. */
                cursor?: string;
                /** @description The beginning of the time, inclusive. */
                since?: components["schemas"]["Moment"];
                /** @description The end of the time, exclusive. */
                until?: components["schemas"]["Moment"];
                /** @description Only changes of this kind. */
                action?: components["schemas"]["Action"];
                /** @description The order of the entries; the newest comes first without it. */
                order?: components["schemas"]["EntryOrder"];
                /** @description Only entries of this organization; for the admin token. */
                organization_id?: components["schemas"]["OrgId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of the audit log. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AuditEntryPage"];
                };
            };
        };
    };
    listDeadLetters: {
        parameters: {
            query?: {
                /** @description Maximum number of items on the page. */
                limit?: number;
                /** @description The `next_cursor` of the page before; the first page without it. */
                cursor?: string;
                /** @description Only dead letters of this endpoint. */
                endpoint_id?: components["schemas"]["EndpointId"];
                /** @description The beginning of the time, inclusive. */
                since?: components["schemas"]["Moment"];
                /** @description The end of the time, exclusive. */
                until?: components["schemas"]["Moment"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of dead letters, the latest first. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["DeliveryPage"];
                };
            };
        };
    };
    dropDeadLetters: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "endpoint_id": "ep_01h2xcejqtf2nbrexx3vqjhp41"
                 *     }
                 */
                "application/json": components["schemas"]["DeadLetters"];
            };
        };
        responses: {
            /** @description The number of dead letters that were dropped. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["DeadLettersDropped"];
                };
            };
        };
    };
    replayDeadLetters: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "endpoint_id": "ep_01h2xcejqtf2nbrexx3vqjhp41"
                 *     }
                 */
                "application/json": components["schemas"]["DeadLetters"];
            };
        };
        responses: {
            /** @description The number of deliveries that start again. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["DeadLettersReplayed"];
                };
            };
        };
    };
    listDeliveries: {
        parameters: {
            query?: {
                /** @description Maximum number of items on the page. */
                limit?: number;
                /** @description The `next_cursor` of the page before; the first page without it. */
                cursor?: string;
                /** @description Only deliveries in this state. */
                state?: components["schemas"]["DeliveryStatus"];
                /** @description Only deliveries to this endpoint. */
                endpoint_id?: components["schemas"]["EndpointId"];
                /** @description Only deliveries of this event. */
                event_id?: components["schemas"]["EventId"];
                /** @description The beginning of the time, inclusive. */
                since?: components["schemas"]["Moment"];
                /** @description The end of the time, exclusive. */
                until?: components["schemas"]["Moment"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of deliveries by endpoint, the newest event first. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["DeliveryPage"];
                };
            };
        };
    };
    showDelivery: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                delivery_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The delivery. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["DeliveryWithAttempts"];
                };
            };
        };
    };
    retryDelivery: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                delivery_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The delivery; with its attempts if the key has `deliveries:read`. */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["DeliveryWithAttempts"] | components["schemas"]["Delivery"];
                };
            };
        };
    };
    listEndpoints: {
        parameters: {
            query?: {
                /** @description Maximum number of items on the page. */
                limit?: number;
                /** @description The `next_cursor` of the page before; the first page without it. */
                cursor?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of endpoints, in the order of their creation. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["EndpointPage"];
                };
            };
        };
    };
    createEndpoint: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "event_types": [
                 *         "order.*"
                 *       ],
                 *       "url": "https://example.com/hook"
                 *     }
                 */
                "application/json": components["schemas"]["NewEndpoint"];
            };
        };
        responses: {
            /** @description The endpoint, and its secret this once. */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Endpoint"];
                };
            };
        };
    };
    showEndpoint: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                endpoint_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The endpoint. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Endpoint"];
                };
            };
        };
    };
    deleteEndpoint: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                endpoint_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The endpoint is deleted, and its waiting deliveries are canceled. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    changeEndpoint: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                endpoint_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "enabled": false
                 *     }
                 */
                "application/json": components["schemas"]["EndpointChange"];
            };
        };
        responses: {
            /** @description The endpoint, or the changed members for a key without `endpoints:read`. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Endpoint"] | components["schemas"]["EndpointChanged"];
                };
            };
        };
    };
    enableEndpoint: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                endpoint_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The endpoint, or the changed members for a key without `endpoints:read`. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Endpoint"] | components["schemas"]["EndpointChanged"];
                };
            };
        };
    };
    rotateEndpointSecret: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                endpoint_id: string;
            };
            cookie?: never;
        };
        requestBody?: {
            content: {
                /**
                 * @example {
                 *       "overlap_seconds": 86400
                 *     }
                 */
                "application/json": components["schemas"]["SecretRotation"];
            };
        };
        responses: {
            /** @description The endpoint, or the changed members for a key without `endpoints:read`. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Endpoint"] | components["schemas"]["EndpointChanged"];
                };
            };
        };
    };
    showEndpointStats: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                endpoint_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The counters. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["EndpointStats"];
                };
            };
        };
    };
    testEndpoint: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                endpoint_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The attempt. Nothing is stored. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["EndpointTest"];
                };
            };
        };
    };
    listEvents: {
        parameters: {
            query?: {
                /** @description Maximum number of items on the page. */
                limit?: number;
                /** @description The `next_cursor` of the page before; the first page without it. */
                cursor?: string;
                /** @description Only events of these types. */
                type?: components["schemas"]["TypeFilter"];
                /** @description Only events with this status. */
                status?: components["schemas"]["EventStatus"];
                /** @description The beginning of the time, inclusive. */
                since?: components["schemas"]["Moment"];
                /** @description The end of the time, exclusive. */
                until?: components["schemas"]["Moment"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of events, the newest first. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["EventPage"];
                };
            };
        };
    };
    postEvent: {
        parameters: {
            query?: never;
            header?: {
                /** @description Means the same as `dedup_id`: 1 to 255 printable characters. */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "data": {
                 *         "order": 1017
                 *       },
                 *       "id": "1017",
                 *       "source": "/shop",
                 *       "specversion": "1.0",
                 *       "type": "order.created"
                 *     }
                 */
                "application/cloudevents+json": components["schemas"]["CloudEvent"];
                /**
                 * @example {
                 *       "dedup_id": "order-1017",
                 *       "payload": {
                 *         "order": 1017
                 *       },
                 *       "type": "order.created"
                 *     }
                 */
                "application/json": components["schemas"]["PostedEvent"];
            };
        };
        responses: {
            /** @description The same `dedup_id` was posted before, with the same type and payload: the receipt of the first event. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Receipt"];
                };
            };
            /** @description The event is on stable storage. */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "duplicate": false,
                     *       "id": "evt_01m8ehsmgrfwtbwf4mabgv0000",
                     *       "received_at": "2026-11-27T13:05:57.784Z",
                     *       "status": "accepted"
                     *     }
                     */
                    "application/json": components["schemas"]["Receipt"];
                };
            };
        };
    };
    postEvents: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example [
                 *       {
                 *         "data": {
                 *           "order": 1017
                 *         },
                 *         "id": "1017",
                 *         "source": "/shop",
                 *         "specversion": "1.0",
                 *         "type": "order.created"
                 *       }
                 *     ]
                 */
                "application/cloudevents-batch+json": components["schemas"]["CloudEvent"][];
                /**
                 * @example {
                 *       "events": [
                 *         {
                 *           "payload": {
                 *             "order": 1017
                 *           },
                 *           "type": "order.created"
                 *         }
                 *       ]
                 *     }
                 */
                "application/json": components["schemas"]["Batch"];
            };
        };
        responses: {
            /** @description The outcome of each item, in their order. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["BatchResults"];
                };
            };
        };
    };
    showEvent: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                event_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The event, and its state at each endpoint. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["EventWithHistory"];
                };
            };
        };
    };
    eraseEvent: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                event_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The payload is shown nowhere any more. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Erasure"];
                };
            };
        };
    };
    subscribeHook: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "event": "order.created",
                 *       "target_url": "https://example.com/hook"
                 *     }
                 */
                "application/json": components["schemas"]["Subscription"];
            };
        };
        responses: {
            /** @description The subscription. */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Subscribed"];
                };
            };
        };
    };
    listHookSamples: {
        parameters: {
            query?: {
                /** @description Only events of this type, or below this prefix. */
                event?: components["schemas"]["TypePattern"];
                /** @description Maximum number of samples. */
                limit?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The bodies for the newest events, the newest first. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Envelope"][];
                };
            };
        };
    };
    unsubscribeHook: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                hook_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The endpoint of the subscription is deleted. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    listInbox: {
        parameters: {
            query?: {
                /** @description Maximum number of items on the page. */
                limit?: number;
                /** @description The `next_cursor` of the page before; the first page without it. */
                cursor?: string;
                /** @description Seconds to wait for an event with a matching `type` behind the cursor. */
                wait?: number;
                /** @description Only events of these types. */
                type?: components["schemas"]["TypeFilter"];
                /** @description Only events received from this time on. */
                since?: components["schemas"]["Moment"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of events, the oldest first. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["EventPage"];
                };
            };
        };
    };
    listKeys: {
        parameters: {
            query?: {
                /** @description Maximum number of items on the page. */
                limit?: number;
                /** @description The `next_cursor` of the page before; the first page without it. */
                cursor?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of keys, in the order of their creation. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["KeyPage"];
                };
            };
        };
    };
    generateKey: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "organization": "Acme",
                 *       "tier": "free"
                 *     }
                 */
                "application/json": components["schemas"]["KeyOrder"];
            };
        };
        responses: {
            /** @description The key in clear, shown this once. */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["NewKey"];
                };
            };
        };
    };
    rotateKey: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: {
            content: {
                /**
                 * @example {
                 *       "grace_seconds": 86400
                 *     }
                 */
                "application/json": components["schemas"]["Rotation"];
            };
        };
        responses: {
            /** @description The key in clear, shown this once. */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["NewKey"];
                };
            };
        };
    };
    revokeKey: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                key_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The key has ended. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    changeKey: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                key_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "scopes": [
                 *         "read_only"
                 *       ]
                 *     }
                 */
                "application/json": components["schemas"]["KeySettings"];
            };
        };
        responses: {
            /** @description The key. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Key"];
                };
            };
        };
    };
    listOrganizations: {
        parameters: {
            query?: {
                /** @description Maximum number of items on the page. */
                limit?: number;
                /** @description The `next_cursor` of the page before; the first page without it. */
                cursor?: string;
                /** @description Only the organization with this name. */
                name?: string;
                /** @description Only organizations whose names begin in this way. */
                name_prefix?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of organizations, in the order of their creation. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OrganizationPage"];
                };
            };
        };
    };
    createOrganization: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "name": "Acme",
                 *       "tier": "pro"
                 *     }
                 */
                "application/json": components["schemas"]["NewOrganization"];
            };
        };
        responses: {
            /** @description The organization. */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Organization"];
                };
            };
        };
    };
    showOrganization: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                org_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The organization. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Organization"];
                };
            };
        };
    };
    deleteOrganization: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                org_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The deletion has begun; `deletion` shows its progress. When it has ended, the organization does not exist any more. */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Organization"];
                };
            };
        };
    };
    changeOrganization: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                org_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "suspended": true
                 *     }
                 */
                "application/json": components["schemas"]["OrgChange"];
            };
        };
        responses: {
            /** @description The organization. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Organization"];
                };
            };
        };
    };
    createOrganizationKey: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                org_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "name": "shop",
                 *       "scopes": [
                 *         "producer"
                 *       ]
                 *     }
                 */
                "application/json": components["schemas"]["NewOrganizationKey"];
            };
        };
        responses: {
            /** @description The key in clear, shown this once. */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["NewKey"];
                };
            };
        };
    };
    listReplays: {
        parameters: {
            query?: {
                /** @description Maximum number of items on the page. */
                limit?: number;
                /** @description The `next_cursor` of the page before; the first page without it. */
                cursor?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of the last hundred replays, the newest first. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ReplayPage"];
                };
            };
        };
    };
    startReplay: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "only": "failed",
                 *       "since": "1d"
                 *     }
                 */
                "application/json": components["schemas"]["ReplayOrder"];
            };
        };
        responses: {
            /** @description The replay, which goes on. */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Replay"];
                };
            };
        };
    };
    showReplay: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                replay_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The replay. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Replay"];
                };
            };
        };
    };
    cancelReplay: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                replay_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The replay, or a part of it for a key without `deliveries:read`. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Replay"] | components["schemas"]["ReplayCanceled"];
                };
            };
        };
    };
    watchActivity: {
        parameters: {
            query?: {
                /** @description Only activity of events of these types. */
                type?: components["schemas"]["TypeFilter"];
                /** @description Only the attempts to this endpoint, for which the key needs `deliveries:read`. */
                endpoint_id?: components["schemas"]["EndpointId"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A stream of server-sent events: `start`, `event`, `attempt`, `missed` and `end`, each with an object as its data. `x-stream-items` has the schema of each. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/event-stream": string;
                };
            };
        };
    };
    showDefaultEndpoint: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The endpoint. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Endpoint"];
                };
            };
        };
    };
    setDefaultEndpoint: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "url": "https://example.com/hook"
                 *     }
                 */
                "application/json": components["schemas"]["DefaultEndpoint"];
            };
        };
        responses: {
            /** @description The endpoint that there was, changed. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Endpoint"] | components["schemas"]["EndpointChanged"];
                };
            };
            /** @description The new endpoint with its secret. */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Endpoint"];
                };
            };
        };
    };
    deleteDefaultEndpoint: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The endpoint is deleted. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    showCaller: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The caller. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Caller"];
                };
            };
        };
    };
    showManual: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The first page. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/html": string;
                };
            };
        };
    };
    showManualPage: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                page: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The page, or a file that pages use. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "image/svg+xml": string;
                    "text/css": string;
                    "text/html": string;
                    "text/javascript": string;
                };
            };
        };
    };
    showHealth: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The server is healthy. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Health"];
                };
            };
        };
    };
    showLiveness: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The process runs. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["HealthWord"];
                };
            };
        };
    };
    showReadiness: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The server takes requests. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["HealthWord"];
                };
            };
        };
    };
    showMetrics: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Prometheus text, version 0.0.4. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/plain": string;
                };
            };
        };
    };
    showOpenapi: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The OpenAPI document. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": Record<string, unknown>;
                };
            };
        };
    };
    receiveEvent: {
        parameters: {
            query?: never;
            header: {
                /** @description The id of the event, the same at every attempt (Standard Webhooks). */
                "webhook-id": string;
                /** @description The time of the attempt, in seconds since 1970. */
                "webhook-timestamp": string;
                /** @description A signature for each valid secret, with spaces between them: `v1,` and the base64 of an HMAC-SHA256 over `<webhook-id>.<webhook-timestamp>.<body>`, keyed with the bytes behind `whsec_`. */
                "webhook-signature": string;
                /** @description The number of the attempt, from 1. */
                "triggerd-attempt": string;
                /** @description `triggerd/` and the version. */
                "user-agent": string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/cloudevents+json": components["schemas"]["CloudEvent"];
                "application/json": components["schemas"]["Envelope"] | unknown;
            };
        };
        responses: {
            /** @description The endpoint is disabled, and gets nothing more. */
            410: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description `Retry-After` can lengthen the wait to at most 24 hours. */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description `Retry-After` can lengthen the wait to at most 24 hours. */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description The receiver accepts the event. */
            "2XX": {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description A failure; the retry schedule goes on. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    receiveDeliveryDead: {
        parameters: {
            query?: never;
            header: {
                /** @description The id of the event, the same at every attempt (Standard Webhooks). */
                "webhook-id": string;
                /** @description The time of the attempt, in seconds since 1970. */
                "webhook-timestamp": string;
                /** @description A signature for each valid secret, with spaces between them: `v1,` and the base64 of an HMAC-SHA256 over `<webhook-id>.<webhook-timestamp>.<body>`, keyed with the bytes behind `whsec_`. */
                "webhook-signature": string;
                /** @description The number of the attempt, from 1. */
                "triggerd-attempt": string;
                /** @description `triggerd/` and the version. */
                "user-agent": string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["DeliveryDeadEvent"];
            };
        };
        responses: {
            /** @description The endpoint is disabled, and gets nothing more. */
            410: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description `Retry-After` can lengthen the wait to at most 24 hours. */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description `Retry-After` can lengthen the wait to at most 24 hours. */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description The receiver accepts the event. */
            "2XX": {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description A failure; the retry schedule goes on. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    receiveDiskLow: {
        parameters: {
            query?: never;
            header: {
                /** @description The id of the event, the same at every attempt (Standard Webhooks). */
                "webhook-id": string;
                /** @description The time of the attempt, in seconds since 1970. */
                "webhook-timestamp": string;
                /** @description A signature for each valid secret, with spaces between them: `v1,` and the base64 of an HMAC-SHA256 over `<webhook-id>.<webhook-timestamp>.<body>`, keyed with the bytes behind `whsec_`. */
                "webhook-signature": string;
                /** @description The number of the attempt, from 1. */
                "triggerd-attempt": string;
                /** @description `triggerd/` and the version. */
                "user-agent": string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["DiskLowEvent"];
            };
        };
        responses: {
            /** @description The endpoint is disabled, and gets nothing more. */
            410: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description `Retry-After` can lengthen the wait to at most 24 hours. */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description `Retry-After` can lengthen the wait to at most 24 hours. */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description The receiver accepts the event. */
            "2XX": {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description A failure; the retry schedule goes on. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    receiveEndpointDisabled: {
        parameters: {
            query?: never;
            header: {
                /** @description The id of the event, the same at every attempt (Standard Webhooks). */
                "webhook-id": string;
                /** @description The time of the attempt, in seconds since 1970. */
                "webhook-timestamp": string;
                /** @description A signature for each valid secret, with spaces between them: `v1,` and the base64 of an HMAC-SHA256 over `<webhook-id>.<webhook-timestamp>.<body>`, keyed with the bytes behind `whsec_`. */
                "webhook-signature": string;
                /** @description The number of the attempt, from 1. */
                "triggerd-attempt": string;
                /** @description `triggerd/` and the version. */
                "user-agent": string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["EndpointDisabledEvent"];
            };
        };
        responses: {
            /** @description The endpoint is disabled, and gets nothing more. */
            410: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description `Retry-After` can lengthen the wait to at most 24 hours. */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description `Retry-After` can lengthen the wait to at most 24 hours. */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description The receiver accepts the event. */
            "2XX": {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description A failure; the retry schedule goes on. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    receiveEndpointFailing: {
        parameters: {
            query?: never;
            header: {
                /** @description The id of the event, the same at every attempt (Standard Webhooks). */
                "webhook-id": string;
                /** @description The time of the attempt, in seconds since 1970. */
                "webhook-timestamp": string;
                /** @description A signature for each valid secret, with spaces between them: `v1,` and the base64 of an HMAC-SHA256 over `<webhook-id>.<webhook-timestamp>.<body>`, keyed with the bytes behind `whsec_`. */
                "webhook-signature": string;
                /** @description The number of the attempt, from 1. */
                "triggerd-attempt": string;
                /** @description `triggerd/` and the version. */
                "user-agent": string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["EndpointFailingEvent"];
            };
        };
        responses: {
            /** @description The endpoint is disabled, and gets nothing more. */
            410: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description `Retry-After` can lengthen the wait to at most 24 hours. */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description `Retry-After` can lengthen the wait to at most 24 hours. */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description The receiver accepts the event. */
            "2XX": {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description A failure; the retry schedule goes on. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    receiveEndpointRecovered: {
        parameters: {
            query?: never;
            header: {
                /** @description The id of the event, the same at every attempt (Standard Webhooks). */
                "webhook-id": string;
                /** @description The time of the attempt, in seconds since 1970. */
                "webhook-timestamp": string;
                /** @description A signature for each valid secret, with spaces between them: `v1,` and the base64 of an HMAC-SHA256 over `<webhook-id>.<webhook-timestamp>.<body>`, keyed with the bytes behind `whsec_`. */
                "webhook-signature": string;
                /** @description The number of the attempt, from 1. */
                "triggerd-attempt": string;
                /** @description `triggerd/` and the version. */
                "user-agent": string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["EndpointRecoveredEvent"];
            };
        };
        responses: {
            /** @description The endpoint is disabled, and gets nothing more. */
            410: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description `Retry-After` can lengthen the wait to at most 24 hours. */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description `Retry-After` can lengthen the wait to at most 24 hours. */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description The receiver accepts the event. */
            "2XX": {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description A failure; the retry schedule goes on. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    receiveInboxExpired: {
        parameters: {
            query?: never;
            header: {
                /** @description The id of the event, the same at every attempt (Standard Webhooks). */
                "webhook-id": string;
                /** @description The time of the attempt, in seconds since 1970. */
                "webhook-timestamp": string;
                /** @description A signature for each valid secret, with spaces between them: `v1,` and the base64 of an HMAC-SHA256 over `<webhook-id>.<webhook-timestamp>.<body>`, keyed with the bytes behind `whsec_`. */
                "webhook-signature": string;
                /** @description The number of the attempt, from 1. */
                "triggerd-attempt": string;
                /** @description `triggerd/` and the version. */
                "user-agent": string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["InboxExpiredEvent"];
            };
        };
        responses: {
            /** @description The endpoint is disabled, and gets nothing more. */
            410: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description `Retry-After` can lengthen the wait to at most 24 hours. */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description `Retry-After` can lengthen the wait to at most 24 hours. */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description The receiver accepts the event. */
            "2XX": {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description A failure; the retry schedule goes on. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    receiveKeyExpiring: {
        parameters: {
            query?: never;
            header: {
                /** @description The id of the event, the same at every attempt (Standard Webhooks). */
                "webhook-id": string;
                /** @description The time of the attempt, in seconds since 1970. */
                "webhook-timestamp": string;
                /** @description A signature for each valid secret, with spaces between them: `v1,` and the base64 of an HMAC-SHA256 over `<webhook-id>.<webhook-timestamp>.<body>`, keyed with the bytes behind `whsec_`. */
                "webhook-signature": string;
                /** @description The number of the attempt, from 1. */
                "triggerd-attempt": string;
                /** @description `triggerd/` and the version. */
                "user-agent": string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["KeyExpiringEvent"];
            };
        };
        responses: {
            /** @description The endpoint is disabled, and gets nothing more. */
            410: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description `Retry-After` can lengthen the wait to at most 24 hours. */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description `Retry-After` can lengthen the wait to at most 24 hours. */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description The receiver accepts the event. */
            "2XX": {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description A failure; the retry schedule goes on. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
}
export interface streams {
    /** The items of the stream. */
    "GET /api/tail": { event: "attempt"; data: components["schemas"]["TailAttempt"] } | { event: "end"; data: components["schemas"]["TailEnd"] } | { event: "event"; data: components["schemas"]["TailEvent"] } | { event: "missed"; data: components["schemas"]["TailMissed"] } | { event: "start"; data: components["schemas"]["TailStart"] };
}
