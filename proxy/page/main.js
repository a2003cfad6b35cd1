/** The page at `/`: connects the form, the selected video and the gallery with the API. */

import { askAgain } from "./again.js";
import { call, follow, savedKey, saveKey, videoPath } from "./api.js";
import { announce, byId, openDialog, pause, showText } from "./dom.js";
import { showModels, showProblem, showPrompt, showSettings, startForm } from "./form.js";
import { showGallery } from "./gallery.js";
import { snippets } from "./snippets.js";
import { showNothing, showPreview, showVideo } from "./viewer.js";

const NAME = document.title;
const PAGE_SIZE = 24;
const RETRY_MS = 2000;
const REFRESH_MS = 5000;
const FINISHED = ["completed", "failed"];

const videos = new Map(); // id -> Video
let order = []; // ids, the newest first
let starts = 0;
let selected = null;
let models = [];
let watching = null;
let lastAction = null;
let language = "curl";

// ---- What is shown -------------------------------------------------------------------------------

function render() {
  showGallery(order.map((id) => videos.get(id)), selected, select);
  const video = videos.get(selected);
  if (video) showVideo(video, models.find(({ id }) => id === video.model)?.video, actions);
  else showNothing(models[0]?.id, showPrompt);
  document.title = isRunning(selected) ? `${videos.get(selected).progress} % - ${NAME}` : NAME;
}

/** Whether a video is known and not finished. */
function isRunning(id) {
  return videos.has(id) && !FINISHED.includes(videos.get(id).status);
}

function put(video) {
  const before = videos.get(video.id);
  videos.set(video.id, video);
  if (!before) order = [video.id, ...order];
  if (video.id === selected) tell(video, before);
}

/** Announces a change of the selected video, its progress in quarters. */
function tell(video, before) {
  const quarter = Math.floor(video.progress / 25);
  if (video.status === "completed" && before?.status !== "completed") announce("The video is ready.");
  else if (video.status === "failed" && before?.status !== "failed") announce(video.error.message);
  else if (before && quarter > Math.floor(before.progress / 25)) announce(`${video.progress} percent`);
}

function forget(id) {
  videos.delete(id);
  order = order.filter((other) => other !== id);
  if (id === selected) select(null);
  else render();
}

function select(id) {
  if (id === selected && watching) return;
  selected = id;
  history.replaceState(null, "", id ? `#${id}` : location.pathname);
  watching?.abort();
  watching = null;
  if (id) watch(id);
  if (id && videos.get(id)?.status === "completed") showCode({ kind: "download", id });
  render();
}

function showCode(action) {
  lastAction = action;
  byId("code").hidden = false;
  byId("snippet").textContent = snippets(action, { keyed: Boolean(savedKey()) })[language];
}

// ---- Errors --------------------------------------------------------------------------------------

/** Shows an error that belongs to no field; a wrong key opens the dialog for the key. */
function report(error) {
  if (error.name === "AbortError") return;
  if (error.status === undefined) throw error;
  if (error.status === 401) askForKey(savedKey() ? error.message : null);
  else showText(byId("notice"), error.message);
}

function askForKey(problem) {
  showText(byId("key-problem"), problem);
  byId("key").value = "";
  openDialog(byId("key-dialog"), async () => {
    const key = byId("key").value.trim();
    if (!/^[\x21-\x7e]*$/.test(key)) {
      showText(byId("key-problem"), "Key: this is not valid; a key has ASCII characters only.");
      return false;
    }
    saveKey(key);
    return start();
  });
}

// ---- Reading -------------------------------------------------------------------------------------

/** Reads models and videos; returns whether the key was accepted. */
async function start() {
  const run = ++starts;
  watching?.abort();
  watching = null;
  videos.clear();
  order = [];
  byId("code").hidden = true;
  try {
    await readPage(null);
    showText(byId("notice"), null);
  } catch (error) {
    report(error);
    if (error.status !== 401) setTimeout(() => run === starts && start(), RETRY_MS);
    return false;
  }
  readModels(run);
  select(location.hash.startsWith("#video_") ? location.hash.slice(1) : null);
  return true;
}

async function readModels(run) {
  if (run !== starts) return;
  try {
    const { data } = await call("GET", "v1/models");
    models = data.filter(({ video }) => video);
    showModels(models);
    if (models.length) {
      showText(byId("notice"), null);
      return render();
    }
    showText(byId("notice"), "The server is loading its model. Videos can be made in a moment.");
  } catch (error) {
    report(error);
    if (error.status === 401) return;
  }
  setTimeout(readModels, RETRY_MS, run);
}

/** Reads the videos after the id `after`, or with null the newest ones. */
async function readPage(after) {
  const [run, first] = [starts, order.length === 0];
  const query = `limit=${PAGE_SIZE}${after ? `&after=${encodeURIComponent(after)}` : ""}`;
  const { data, has_more: more } = await call("GET", `v1/videos?${query}`);
  if (run !== starts) return; // another key was entered meanwhile
  const known = order;
  data.forEach(put);
  const fresh = data.map(({ id }) => id).filter((id) => !known.includes(id));
  order = after ? [...known, ...fresh] : [...fresh, ...known];
  if (after || first) byId("gallery-more").hidden = !more;
}

/** Follows a video until it is finished or deleted, across restarts of the server. */
async function watch(id) {
  const { signal } = (watching = new AbortController());
  for (let wait = RETRY_MS / 4; !signal.aborted; wait = Math.min(2 * wait, 4 * RETRY_MS)) {
    try {
      const seen = (video) => {
        put(video);
        render();
        showText(byId("notice"), null);
      };
      await follow(id, { seen, preview: (url) => showPreview(id, url) }, signal);
      if (videos.has(id) && !isRunning(id)) return;
    } catch (error) {
      if (error.status === 404) return forget(id);
      if (!signal.aborted) report(error.status === undefined ? offline() : error);
      if (error.status === 401) return;
    }
    await pause(wait, signal);
  }
}

function offline() {
  return { status: 0, message: "The connection to the server was lost. Trying again." };
}

/** Reads the newest videos again: those of other tabs, and those that are not followed. */
async function refresh() {
  if ((document.hidden && !isRunning(selected)) || byId("key-dialog").open) return;
  try {
    await readPage(null);
    render();
  } catch {
    // The stream of the selected video, or the next action, reports it.
  }
}

/** A hidden tab polls: browsers open six connections to a server, and a stream takes one. */
function changeVisibility() {
  if (!isRunning(selected)) return;
  watching?.abort();
  if (!document.hidden) watch(selected);
}

// ---- Doing ---------------------------------------------------------------------------------------

async function create(body, image) {
  byId("submit").disabled = true;
  try {
    begun(await call("POST", "v1/videos", image ? { form: formOf(body, image) } : { json: body }));
    showCode({ kind: "create", body, image: image?.name });
  } catch (error) {
    if (error.status === 401) report(error);
    else showProblem(error);
  } finally {
    byId("submit").disabled = false;
  }
}

function formOf(body, image) {
  const form = new FormData();
  for (const [name, value] of Object.entries(body)) form.append(name, value);
  form.append("input_reference", image, image.name);
  return form;
}

function begun(video) {
  put(video);
  select(video.id);
  announce("The video is queued.");
}

const actions = {
  async cancel({ id }) {
    try {
      put(await call("POST", videoPath(id, "/cancel")));
      showCode({ kind: "cancel", id });
      render();
    } catch (error) {
      report(error);
    }
  },
  copy: showSettings,
  downloaded: ({ id }) => showCode({ kind: "download", id }),
  again: (kind, video) =>
    askAgain(kind, video, (made, action) => {
      begun(made);
      showCode(action);
    }),
  remove({ id, prompt }) {
    byId("delete-what").textContent = prompt;
    openDialog(byId("delete-dialog"), async () => {
      try {
        await call("DELETE", videoPath(id));
      } catch (error) {
        if (error.status !== 404) report(error);
      }
      forget(id);
      showCode({ kind: "delete", id });
      announce("The video is deleted.");
      setTimeout(() => byId("gallery-title").focus());
      return true;
    });
  },
};

async function copyCode() {
  getSelection().selectAllChildren(byId("snippet"));
  try {
    await navigator.clipboard.writeText(byId("snippet").textContent);
    announce("Copied.");
  } catch {
    announce("The code is selected; copy it with the keyboard.");
  }
}

// ---- Start ---------------------------------------------------------------------------------------

startForm(create);
byId("copy").addEventListener("click", copyCode);
byId("change-key").addEventListener("click", () => askForKey(null));
byId("gallery-more").addEventListener("click", () => readPage(order.at(-1)).then(render, report));
for (const button of document.querySelectorAll("[data-language]")) {
  button.addEventListener("click", () => {
    language = button.dataset.language;
    for (const other of document.querySelectorAll("[data-language]")) {
      other.setAttribute("aria-pressed", String(other === button));
    }
    showCode(lastAction);
  });
}
addEventListener("hashchange", () => {
  if (location.hash.startsWith("#video_")) select(location.hash.slice(1));
});
document.addEventListener("visibilitychange", changeVisibility);
setInterval(refresh, REFRESH_MS);
start();
