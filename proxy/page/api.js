/** Calls the HTTP API with the key of this tab, which is kept in sessionStorage only. */

const KEY = "triton-video-key";

/** The address of the server, with a slash at its end. */
export const BASE = new URL(".", document.baseURI).href;

/** An error response of the API, or with status 0 a server that cannot be reached. */
export class ApiError extends Error {
  constructor(status, { message, code = null, param = null }) {
    super(message);
    Object.assign(this, { status, code, param });
  }
}

export function savedKey() {
  return sessionStorage.getItem(KEY) ?? "";
}

export function saveKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

/** Sends a request and returns its answer. Throws ApiError for every answer but 2xx. */
export async function send(method, path, { json, form, signal } = {}) {
  const headers = savedKey() ? { authorization: `Bearer ${savedKey()}` } : {};
  if (json) headers["content-type"] = "application/json";
  const body = json ? JSON.stringify(json) : form;
  let answer;
  try {
    answer = await fetch(BASE + path, { method, headers, body, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { message: "The server cannot be reached. Is it running?" });
  }
  if (answer.ok) return answer;
  throw new ApiError(answer.status, await errorOf(answer));
}

/** Sends a request and returns the object in its answer. */
export async function call(method, path, options) {
  return (await send(method, path, options)).json();
}

/** The path of a video, of one of its files or of one of its actions. */
export function videoPath(id, rest = "") {
  return `v1/videos/${encodeURIComponent(id)}${rest}`;
}

/** Returns a file of a video as an object URL, which the caller revokes. */
export async function fileUrl(id, variant) {
  const answer = await send("GET", videoPath(id, `/content?variant=${variant}`));
  return URL.createObjectURL(await answer.blob());
}

/**
 * Calls `seen` with the video now and after each change, and `preview` with the object URL of each
 * preview, until the stream ends. EventSource cannot send a key, so the events are read from a plain
 * request.
 */
export async function follow(id, { seen, preview }, signal) {
  const answer = await send("GET", videoPath(id, "/events?previews=true"), { signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let [rest, event] = ["", ""];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const [, field, text] = line.match(/^(data|event): ?(.*)$/) ?? [];
      if (field === "event") event = text;
      else if (field === "data" && event === "preview") preview(imageUrl(JSON.parse(text)));
      else if (field === "data") seen(JSON.parse(text));
      else if (line === "") event = "";
    }
  }
}

function imageUrl({ b64_json: encoded }) {
  const bytes = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
  return URL.createObjectURL(new Blob([bytes], { type: "image/webp" }));
}

async function errorOf(answer) {
  try {
    const { error } = await answer.json();
    const wait = Number(answer.headers.get("retry-after"));
    if (wait) error.message += ` Wait ${wait} seconds.`;
    return error;
  } catch {
    return { message: `The server answered with status ${answer.status}.` };
  }
}
