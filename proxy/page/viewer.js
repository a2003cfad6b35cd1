/** The selected video: its progress, its player or its error, and what can be done with it. */

import { fileUrl } from "./api.js";
import { byId, make } from "./dom.js";

const FAILURES = {
  cancelled: "Cancelled",
  interrupted: "Interrupted",
  out_of_memory: "Out of memory",
  storage_error: "Not stored",
  timeout: "Timed out",
};
/** Prompts that show what a model can do, by the name of the model. */
const EXAMPLES = {
  shapes: [
    "a red circle moves right on a white background",
    "a blue square grows on a black background",
    "a green cross moves up on a grey background",
  ],
};
const ANY_MODEL = ["A calico cat plays a piano on a stage", "Waves break on a beach at sunset"];

const quiet = matchMedia("(prefers-reduced-motion: reduce)");
let shown = null; // the video, or the name of the model while there is none
let objectUrl = null;
let began = null; // where the progress of the shown video was first seen, to estimate the rest

/** Shows what to do first. `model` is the name of the served model, if it is known. */
export function showNothing(model, use) {
  if (shown === String(model)) return;
  reset(String(model));
  const examples = (EXAMPLES[model] ?? ANY_MODEL).map((text) =>
    make("li", {}, make("button", { type: "button", onclick: () => use(text) }, text)),
  );
  byId("viewer").append(
    make("h2", {}, "Describe a video"),
    make("p", {}, "Write a prompt and press “Make video”. Or begin with one of these:"),
    make("ul", { class: "examples" }, ...examples),
  );
}

/**
 * Shows a video. `can` is what its model can do, if it is known, and `actions` has the functions
 * behind its buttons.
 */
export function showVideo(video, can, actions) {
  if (shown?.id === video.id && shown.status === video.status) {
    shown = video;
    offer(can);
    if (video.status === "in_progress") showProgress(video);
    return;
  }
  const had = byId("viewer").contains(document.activeElement);
  reset(video);
  const parts = { completed: player, failed: failure }[video.status] ?? running;
  const details = make("div", { class: "details" },
    make("h2", { class: "prompt" }, video.prompt), facts(video), buttons(video, actions));
  byId("viewer").append(parts(video), details);
  offer(can);
  if (video.status === "in_progress") showProgress(video);
  if (had) byId("viewer").querySelector("button")?.focus();
}

/** Shows a preview of a running video. It owns the object URL, and revokes it in the end. */
export function showPreview(id, url) {
  if (shown?.id !== id || shown.status !== "in_progress") return URL.revokeObjectURL(url);
  const [image, before] = [byId("preview"), objectUrl];
  objectUrl = url;
  image.onload = () => {
    image.hidden = false;
    image.parentElement.classList.add("previewed");
  };
  Object.assign(image, { alt: `Preview: ${shown.prompt}`, src: url });
  if (before) URL.revokeObjectURL(before);
}

function reset(video) {
  if (objectUrl) URL.revokeObjectURL(objectUrl);
  [shown, objectUrl, began] = [video, null, null];
  byId("viewer").replaceChildren();
  byId("viewer").classList.remove("beside");
}

function frame(video, kind, ...children) {
  const [width, height] = video.size.split("x").map(Number);
  const element = make("div", { class: `frame ${kind}` }, ...children);
  element.style.aspectRatio = `${width} / ${height}`;
  byId("viewer").classList.toggle("beside", width < 1.4 * height);
  return element;
}

function running(video) {
  const waiting = video.status === "queued";
  return frame(
    video,
    "running",
    make("img", { id: "preview", alt: "", hidden: true }),
    make("div", { class: "status" },
      make("p", { id: "state" }, waiting ? "Waiting for its turn" : "Starting"),
      make("progress", { id: "progress", max: 100, "aria-label": "Progress of the video" }),
      make("p", { id: "left", class: "hint" })),
  );
}

function showProgress({ progress }) {
  const now = performance.now();
  began ??= { progress, now };
  byId("progress").value = progress;
  byId("state").textContent = `${progress} %`;
  const [done, seconds] = [progress - began.progress, (now - began.now) / 1000];
  const left = done > 5 && seconds > 2 ? ((100 - progress) * seconds) / done : null;
  byId("left").textContent = left === null ? "" : `about ${duration(left)} left`;
}

function duration(seconds) {
  return seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.round(seconds / 60)} min`;
}

function player(video) {
  const state = make("p", { class: "hint" }, "Loading the video");
  const box = frame(video, "player", state);
  fileUrl(video.id, "video").then(
    (url) => {
      if (shown?.id !== video.id) return URL.revokeObjectURL(url);
      objectUrl = url;
      const element = make("video", {
        "aria-label": `Video: ${video.prompt}`,
        autoplay: !quiet.matches,
        controls: true,
        loop: true,
        muted: true,
        playsInline: true,
        src: url,
      });
      box.replaceChildren(element);
      Object.assign(byId("download"), { href: url, hidden: false });
    },
    (error) => (state.textContent = error.message),
  );
  return box;
}

function failure(video) {
  const { code, message } = video.error;
  return frame(
    video,
    code === "cancelled" ? "ended" : "failed",
    make("p", { id: "state" }, FAILURES[code] ?? "Failed"),
    make("p", { class: "hint" }, message, make("br"), make("code", {}, code)),
  );
}

function facts(video) {
  const took = video.inference_time_s;
  const rows = {
    Size: video.size.replace("x", " × "),
    Length: `${video.seconds} s, ${video.num_frames} frames`,
    Seed: String(video.seed),
    Model: video.model,
    ...(took === null ? {} : { "Made in": `${took < 10 ? took.toFixed(1) : Math.round(took)} s` }),
  };
  const pairs = Object.entries(rows).map(([name, value]) =>
    make("div", {}, make("dt", {}, name), make("dd", {}, value)),
  );
  return make("dl", { class: "facts" }, ...pairs);
}

function buttons(video, actions) {
  const button = (text, onclick, kind = "") =>
    make("button", { type: "button", class: kind, onclick: () => onclick(video) }, text);
  const again = (text, kind) =>
    make("button", { type: "button", id: kind, onclick: () => actions.again(kind, video) }, text);
  const list = {
    completed: [
      make("a", { id: "download", class: "button primary", download: `${video.id}.mp4`,
        hidden: true, onclick: () => actions.downloaded(video) }, "Download"),
      again("Remix", "remix"),
      again("Edit", "edit"),
      again("Extend", "extension"),
    ],
    failed: [],
  }[video.status] ?? [button("Cancel", actions.cancel, "primary")];
  return make("div", { class: "actions" }, ...list, button("Reuse settings", actions.copy),
    button("Delete", actions.remove));
}

/** Shows the buttons of what a model can do. */
function offer(can) {
  for (const [id, able] of [["edit", can?.edits], ["extension", can?.extends]]) {
    if (byId(id)) byId(id).hidden = !able;
  }
}
