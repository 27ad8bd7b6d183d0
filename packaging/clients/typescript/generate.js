// Makes the files of `src` that follow from the OpenAPI document. `node generate.js DIRECTORY`
// writes them into this directory.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import openapi, { astToString } from "openapi-typescript";

const HEAD = "// Made by generate.js from docs/openapi.json.\n\n";
const source = new URL("../../../docs/openapi.json", import.meta.url);
const target = process.argv[2] ?? new URL("src", import.meta.url).pathname;

const document = JSON.parse(readFileSync(source, "utf8"));
const { schemas, securitySchemes } = document.components;
const codes = schemas.ProblemCode.enum;
for (const schema of Object.values(schemas)) {
  // Of rules about members together, only those about required members become types.
  if (!schema.properties) continue;
  if (schema === schemas.PostedEvent) {
    // A client has one name for the type of an event, and requires it.
    delete schema.properties.event_type;
    schema.properties.type = schema.properties.type.anyOf[0];
    schema.required.push("type");
  }
  for (const { required = [] } of schema.allOf ?? []) {
    schema.required = [...(schema.required ?? []), ...required];
  }
  delete schema.allOf;
  delete schema.anyOf;
  delete schema.oneOf;
}
const schemaAt = ({ $ref }) => schemas[$ref.split("/").at(-1)];
/** Returns the members that every value of the schema has. */
const requiredOf = (schema) => {
  if (schema.$ref) return requiredOf(schemaAt(schema));
  const choices = schema.anyOf ?? schema.oneOf;
  if (!choices) return schema.required ?? [];
  const [first, ...others] = choices.map(requiredOf);
  return first.filter((name) => others.every((other) => other.includes(name)));
};
// Each status that is an answer, with its media types and its members.
const JSON_TYPE = "application/json";
const answers = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, { responses }]) => {
    const forms = Object.entries(responses)
      .filter(([status, { content }]) => status.startsWith("2") || content?.[JSON_TYPE])
      .map(([status, { content = {} }]) => {
        const json = content[JSON_TYPE];
        const kinds = Object.keys(content).join(" ");
        const members = json ? requiredOf(json.schema) : [];
        // An older server may lack a later member, so one is enough to know the answer by.
        const known = members.includes("next_cursor") ? members : members.slice(0, 1);
        const form = json ? [JSON_TYPE, ...known] : kinds ? [kinds] : [];
        return `${status}: ${JSON.stringify(form).replaceAll(",", ", ")}`;
      });
    return `  "${method.toUpperCase()} ${path}": { ${forms.join(", ")} },\n`;
  }),
);
// Refusals are error classes, and the client reads the headers.
document.components = { schemas, securitySchemes };
for (const operation of Object.values(document.paths).flatMap(Object.values)) {
  operation.responses = Object.fromEntries(
    Object.entries(operation.responses)
      .filter(([status]) => status.startsWith("2"))
      .map(([status, { headers: _, ...response }]) => [status, response]),
  );
}
const streams = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).flatMap(([method, { responses }]) => {
    const items = responses["200"]?.content?.["text/event-stream"]?.schema["x-stream-items"];
    return items ? [[`${method.toUpperCase()} ${path}`, Object.entries(items)]] : [];
  }),
);
const schemaOf = ({ $ref }) => `components["schemas"]["${$ref.split("/").at(-1)}"]`;
const unions = streams.map(([route, items]) => {
  const union = items.map(([name, of]) => `{ event: "${name}"; data: ${schemaOf(of)} }`);
  return `    /** The items of the stream. */\n    "${route}": ${union.join(" | ")};\n`;
});
const types = astToString(await openapi(document, { emptyObjectsUnknown: true }));
writeFileSync(
  join(target, "schema.ts"),
  `${HEAD}${types}export interface streams {\n${unions.join("")}}\n`,
);

const answersType = "Record<string, Record<number, readonly string[]>>";
writeFileSync(
  join(target, "answers.ts"),
  `${HEAD}/** The answers of each route by their status: the media types, and the members of the JSON\n` +
    " * object. An answer without content has none of both. */\n" +
    `export const answers: ${answersType} = {\n${answers.join("")}};\n`,
);

const classOf = (code) =>
  `${code.replace(/(^|_)([a-z])/g, (_, _before, letter) => letter.toUpperCase())}Error`;
const classes = codes.map(
  (code) =>
    `/** The problem \`${code}\`, which \`docs/problems.md\` explains. */\n` +
    `export class ${classOf(code)} extends ProblemError {\n` +
    `  override readonly name: string = "${classOf(code)}";\n}\n`,
);
const rows = codes.map((code) => `  ${code}: ${classOf(code)},\n`).join("");
const table = `export const byCode: Record<string, typeof ProblemError> = {\n${rows}};\n`;
const imports = 'import { ProblemError } from "./errors.js";\n\n';
writeFileSync(join(target, "problems.ts"), `${HEAD}${imports}${classes.join("\n")}\n${table}`);
