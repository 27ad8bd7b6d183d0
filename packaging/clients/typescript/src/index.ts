export { Client, type ClientOptions, type ConsumeOptions } from "./client.js";
export { ConnectionFailedError, ProblemError, type SentRequest, TriggerdError } from "./errors.js";
export * from "./problems.js";
export type {
  Answer,
  Input,
  Item,
  ListRoute,
  Route,
  Schemas,
  StreamItem,
  StreamRoute,
} from "./routes.js";
