/**
 * The curl command and the Python program that do what the page has just done. Neither contains
 * the key: both read OPENAI_API_KEY, as OpenAI's SDKs do.
 */

import { pathOf } from "./again.js";
import { BASE } from "./api.js";

// The SDK's own methods refuse the id of a video.
const POSTED = ["edit", "extension"];
const SDK_FIELDS = ["prompt", "model", "size", "seconds", "input_reference"];

/**
 * Returns `{curl, python}` for an action: `{kind: "create", body, image}`,
 * `{kind: "remix" | "edit" | "extension", id, body}` or
 * `{kind: "cancel" | "delete" | "download", id}`.
 */
export function snippets(action, { keyed }) {
  return {
    curl: curl(action, keyed),
    python: [...client(action, keyed), ...PYTHON[action.kind](action)].join("\n"),
  };
}

function curl(action, keyed) {
  const url = `${BASE}v1/videos`;
  const of = action.id && `${url}/${action.id}`;
  const lines = {
    create: () => [`curl -sS ${shell(url)}`, ...data(action)],
    remix: () => again(action),
    edit: () => again(action),
    extension: () => again(action),
    cancel: () => [`curl -sS -X POST ${shell(`${of}/cancel`)}`],
    delete: () => [`curl -sS -X DELETE ${shell(of)}`],
    download: () => [`curl -sS -f ${shell(`${of}/content`)}`, `-o ${shell(`${action.id}.mp4`)}`],
  }[action.kind]();
  if (keyed) lines.splice(1, 0, '-H "Authorization: Bearer $OPENAI_API_KEY"');
  return lines.join(" \\\n  ");
}

function again({ kind, id, body }) {
  return [`curl -sS ${shell(BASE + pathOf(kind, id))}`, ...data({ body })];
}

/** The options of curl for a body: JSON, or a form where there is an image. */
function data({ body, image }) {
  if (!image) {
    return ["-H 'Content-Type: application/json'", `-d ${shell(jsonText(body))}`];
  }
  const fields = Object.entries(body).map(([name, value]) => `--form-string ${shell(`${name}=${value}`)}`);
  // Quoted for curl, which reads ";" and "," in a bare file name.
  const path = image.replace(/[\\"]/g, "\\$&");
  return [...fields, `-F ${shell(`input_reference=@"${path}"`)}`];
}

/** A body as JSON, on several lines if it is long. */
function jsonText(body) {
  const text = JSON.stringify(body);
  return text.length < 70 ? text : JSON.stringify(body, null, 2).replaceAll("\n", "\n    ");
}

const PYTHON = {
  create({ body, image }) {
    const extra = Object.entries(body).filter(([name]) => !SDK_FIELDS.includes(name));
    const given = Object.entries(body).filter(([name]) => SDK_FIELDS.includes(name));
    const lines = given.map(([name, value]) => `    ${name}=${python(value)},`);
    if (image) lines.push(`    input_reference=open(${python(image)}, "rb"),`);
    if (extra.length) {
      const pairs = extra.map(([name, value]) => `${python(name)}: ${python(value)}`);
      lines.push(`    extra_body={${pairs.join(", ")}},`);
    }
    return ["video = client.videos.create_and_poll(", ...lines, ")", ...SAVE];
  },
  remix: ({ id, body }) => [
    `video = client.videos.remix(${python(id)}, prompt=${python(body.prompt)})`,
    ...POLL,
    ...SAVE,
  ],
  edit: posted,
  extension: posted,
  cancel: ({ id }) => [`client.post(${python(`/videos/${id}/cancel`)}, cast_to=object)`],
  delete: ({ id }) => [`client.videos.delete(${python(id)})`],
  download: ({ id }) => [
    `client.videos.download_content(${python(id)}).write_to_file(${python(`${id}.mp4`)})`,
  ],
};

const POLL = ["video = client.videos.poll(video.id)"];
const SAVE = ['client.videos.download_content(video.id).write_to_file(f"{video.id}.mp4")'];

function posted({ kind, id, body }) {
  const path = pathOf(kind, id).replace(/^v1/, "");
  return [
    `body = ${python(body)}`,
    `video = client.post(${python(path)}, cast_to=Video, body=body)`,
    ...POLL,
    ...SAVE,
  ];
}

function client({ kind }, keyed) {
  const key = keyed ? "" : ', api_key="none"';
  return [
    "from openai import OpenAI",
    ...(POSTED.includes(kind) ? ["from openai.types import Video"] : []),
    "",
    `client = OpenAI(base_url=${python(`${BASE}v1`)}${key})${keyed ? "  # and OPENAI_API_KEY" : ""}`,
  ];
}

/** Quotes text for a POSIX shell. */
function shell(text) {
  return /^[\w:/.,=@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** A value without null and booleans as a Python literal: for these JSON is one. */
function python(value) {
  return JSON.stringify(value);
}
