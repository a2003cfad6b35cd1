/** The API reference at `/docs`, made from openapi.json. */

import { BASE, call } from "./api.js";
import { byId, make, showText } from "./dom.js";

const METHODS = ["get", "post", "delete"];

let schemas = {};

/** Follows a reference to a named schema. */
function resolve(schema = {}) {
  return schema.$ref ? schemas[schema.$ref.split("/").at(-1)] : schema;
}

/** Renders a description, in which words between double backquotes are code. */
function prose(text = "") {
  const parts = text.split("``");
  return parts.map((part, index) => (index % 2 ? make("code", {}, part) : part));
}

/** Describes the values of a schema in a few words, such as "integer, 1 to 120". */
function kind(schema = {}) {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.anyOf) return schema.anyOf.map(kind).join(" or ");
  if (schema.enum) return schema.enum.join(", ");
  if (schema.const !== undefined) return `"${schema.const}"`;
  if (schema.type === "array") return `list of ${kind(schema.items)}`;
  if (schema.format === "binary") return "file";
  const least = schema.minimum ?? schema.exclusiveMinimum;
  const most = schema.maximum ?? schema.maxLength;
  const range = [
    least === undefined ? "" : schema.minimum === undefined ? `over ${least}` : `from ${least}`,
    most === undefined ? "" : `up to ${most}${schema.maxLength ? " characters" : ""}`,
  ];
  return [schema.type ?? "any", ...range].filter(Boolean).join(" ");
}

function table(title, rows) {
  if (!rows.length) return [];
  const line = ({ name, required, schema, description }) =>
    make("tr", {},
      make("td", {}, make("code", {}, name), required ? " (required)" : ""),
      make("td", {}, kind(schema)),
      make("td", {}, ...prose(description ?? resolve(schema).description)));
  const head = ["Name", "Value", "Meaning"].map((text) => make("th", { scope: "col" }, text));
  return [
    make("h3", {}, title),
    make("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": title },
      make("table", {},
        make("thead", {}, make("tr", {}, ...head)),
        make("tbody", {}, ...rows.map(line)))),
  ];
}

function fields(schema) {
  const { properties = {}, required = [] } = resolve(schema);
  return Object.entries(properties).map(([name, field]) => ({
    name, schema: field, description: field.description, required: required.includes(name),
  }));
}

function answers(responses) {
  const row = ([status, { description, content = {} }]) => {
    const [[type, { schema } = {}] = []] = Object.entries(content);
    const what = type === "application/json" ? schema : undefined;
    const name = status === "default" ? "other" : status;
    return { name, schema: what ?? { type: type ?? "empty" }, description };
  };
  return table("Answers", Object.entries(responses).map(row));
}

function operation(path, method, described) {
  const content = described.requestBody?.content ?? {};
  const body = (content["application/json"] ?? Object.values(content)[0])?.schema;
  const forms = content["multipart/form-data"] ? "Body, as JSON or as a form" : "Body";
  const open = location.hash === `#${described.operationId}`;
  return make("details", { class: "card operation", id: described.operationId, open },
    make("summary", {},
      make("code", {}, make("span", { class: "method" }, method.toUpperCase()), path),
      make("span", {}, ...prose(described.description))),
    make("div", { class: "body" },
      ...(described.security ? [] : [make("p", { class: "hint" }, "Needs no key.")]),
      ...table("Parameters", described.parameters ?? []),
      ...(body ? table(forms, fields(body)) : []),
      ...answers(described.responses)));
}

function object([name, schema]) {
  return make("details", { class: "card operation" },
    make("summary", {}, make("code", {}, name), make("span", {}, ...prose(schema.description))),
    make("div", { class: "body" }, ...table("Keys", fields(schema))));
}

async function show() {
  byId("base").textContent = `${BASE}v1`;
  const page = await call("GET", "openapi.json");
  schemas = page.components.schemas;
  const groups = new Map();
  for (const [path, item] of Object.entries(page.paths)) {
    for (const method of METHODS.filter((name) => item[name])) {
      const [tag] = item[method].tags;
      groups.set(tag, [...(groups.get(tag) ?? []), [path, method, item[method]]]);
    }
  }
  const videosFirst = ([a], [b]) => (b === "videos") - (a === "videos");
  for (const [tag, operations] of [...groups].reverse().sort(videosFirst)) {
    // Operations that are never carried out come last.
    const rank = ([path, , { responses }]) => (responses[200] ? path : `~${path}`);
    operations.sort((a, b) => (rank(a) < rank(b) ? -1 : rank(a) > rank(b) ? 1 : 0));
    byId("reference").append(make("h2", {}, tag), ...operations.map((each) => operation(...each)));
  }
  const objects = Object.entries(schemas).filter(([, schema]) => schema.properties);
  byId("reference").append(make("h2", {}, "objects"), ...objects.map(object));
}

show().catch((error) => showText(byId("notice"), error.message));
