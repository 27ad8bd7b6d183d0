// The types of requests and answers by route, such as "GET /api/events/{event_id}".
import type { components, paths, streams } from "./schema.js";

export type Schemas = components["schemas"];

type RouteOf<P extends keyof paths> = {
  [M in keyof paths[P]]-?: paths[P][M] extends { responses: unknown }
    ? `${Uppercase<M & string>} ${P}`
    : never;
}[keyof paths[P]];

type AnyRoute = { [P in keyof paths]: RouteOf<P> }[keyof paths];

/** The routes whose answer is a stream of items. */
export type StreamRoute = keyof streams;

/** An item of a stream. */
export type StreamItem<R extends StreamRoute> = streams[R];

/** Every other route. */
export type Route = Exclude<AnyRoute, StreamRoute>;

type OperationOf<R extends AnyRoute> = R extends `${infer M} ${infer P extends keyof paths}`
  ? Lowercase<M> extends keyof paths[P]
    ? paths[P][Lowercase<M>]
    : never
  : never;

type PartsOf<O> = O extends { parameters: infer X extends object }
  ? Pick<X, Extract<"path" | "query" | "header", keyof X>>
  : never;

type BodyOf<O> = O extends { requestBody: { content: { "application/json": infer B } } }
  ? { body: B }
  : O extends { requestBody?: infer X }
    ? [NonNullable<X>] extends [{ content: { "application/json": infer B } }]
      ? { body?: [NonNullable<X>] extends [never] ? never : B }
      : unknown
    : unknown;

/** What a route takes: `path`, `query`, `header` and `body`. */
export type Input<R extends AnyRoute> = PartsOf<OperationOf<R>> & BodyOf<OperationOf<R>>;

type ContentOf<A> = A extends { content: infer C }
  ? C extends { "application/json": infer J }
    ? J
    : string
  : undefined;

type AnswersOf<O> = O extends { responses: infer A }
  ? { [S in keyof A]: ContentOf<A[S]> }[keyof A]
  : never;

/** What a route answers. */
export type Answer<R extends Route> = AnswersOf<OperationOf<R>>;

type Page = { data: unknown[]; next_cursor: string };

/** The routes that answer pages. */
export type ListRoute = {
  [R in Route]: Answer<R> extends Page ? R : never;
}[Route];

/** The items of a list. */
export type Item<R extends ListRoute> = Answer<R> extends { data: (infer I)[] } ? I : never;
