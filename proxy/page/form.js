/** The form that makes a video: its fields follow from the description of the model. */

import { byId, make, showText } from "./dom.js";

/** Field of the API -> the element that holds it. */
const INPUTS = {
  prompt: "prompt",
  model: "model",
  input_reference: "image",
  size: "size",
  width: "width",
  height: "height",
  num_frames: "frames",
  seconds: "frames",
  fps: "fps",
  seed: "seed",
  num_inference_steps: "steps",
  guidance_scale: "guidance",
  guidance_scale_2: "guidance-2",
  negative_prompt: "negative",
};
const CUSTOM = "custom";
const LIKE_IMAGE = "image"; // the size that a request with an image and without a size gets
const MAX_SEED = Number.MAX_SAFE_INTEGER;

let models = [];
let image = null;

/** The model whose fields the form shows. */
function model() {
  return models.find(({ id }) => id === byId("model").value) ?? models[0];
}

/** Prepares the form; it calls `submit(body, image)` with the fields that differ from defaults. */
export function startForm(submit) {
  const form = byId("make");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (byId("submit").disabled) return;
    showProblem(null);
    const problem = wrongNumber();
    if (problem) showProblem(problem);
    else submit(body(), image);
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  byId("model").addEventListener("change", showModel);
  byId("size").addEventListener("change", showCustom);
  byId("frames").addEventListener("input", showLength);
  byId("fps").addEventListener("input", showLength);
  startImage();
}

/** Shows the models of the server. Without any the button stays off. */
export function showModels(list) {
  models = list;
  byId("submit").disabled = !models.length;
  if (!models.length) return;
  byId("model").replaceChildren(...models.map(({ id }) => make("option", { value: id }, id)));
  byId("model-field").hidden = models.length < 2;
  showModel();
}

/** Writes the settings of a video into the form. */
export function showSettings(video) {
  if (models.some(({ id }) => id === video.model)) byId("model").value = video.model;
  showModel();
  byId("prompt").value = video.prompt;
  byId("seed").value = video.seed;
  byId("frames").value = video.num_frames;
  if (video.fps !== model().video.fps) byId("fps").value = video.fps;
  if (![...byId("size").options].some(({ value }) => value === video.size)) {
    byId("size").value = CUSTOM;
    [byId("width").value, byId("height").value] = video.size.split("x");
  } else byId("size").value = video.size;
  showCustom();
  showLength();
  byId("prompt").focus();
}

export function showPrompt(text) {
  byId("prompt").value = text;
  byId("prompt").focus();
}

/** Shows an error of the API in words and moves to the field that it names; null clears it. */
export function showProblem(error) {
  for (const input of byId("make").querySelectorAll("[aria-invalid]")) {
    input.removeAttribute("aria-invalid");
  }
  showText(byId("problem"), error?.message);
  if (!error) return;
  const input = byId(fieldOf(error.param));
  if (!input) return byId("problem").focus();
  if (input.closest("details")) byId("more").open = true;
  input.setAttribute("aria-invalid", "true");
  input.setAttribute("aria-describedby", `${input.id === "prompt" ? "prompt-hint " : ""}problem`);
  (input.hidden ? byId("problem") : input).focus();
}

function fieldOf(param) {
  const custom = byId("size").value === CUSTOM;
  if (param === "size" && custom) return "width";
  if ((param === "width" || param === "height") && !custom) return "size";
  return INPUTS[param];
}

function showModel() {
  const can = model().video;
  showText(byId("served"), model().id);
  showSizes();
  for (const id of ["width", "height"]) {
    Object.assign(byId(id), { min: can.size_multiple, step: can.size_multiple, max: can.max_side });
  }
  [byId("width").value, byId("height").value] = can.size.split("x");
  Object.assign(byId("frames"), { max: can.max_frames, step: can.frame_step });
  byId("frames").value = can.num_frames;
  Object.assign(byId("steps"), { min: can.min_steps, max: can.max_steps });
  byId("seed").max = MAX_SEED;
  const defaults = {
    fps: can.fps,
    steps: can.num_inference_steps,
    guidance: can.guidance_scale,
    "guidance-2": can.guidance_scale_2,
    negative: can.negative_prompt,
  };
  for (const [id, value] of Object.entries(defaults)) {
    byId(id).value = "";
    byId(id).placeholder = value ?? "";
  }
  byId("guidance-2-field").hidden = can.guidance_scale_2 === null;
  byId("image-field").hidden = can.input_reference === "refused";
  byId("image-label").textContent =
    can.input_reference === "required" ? "Reference image" : "Reference image (optional)";
  if (can.input_reference === "refused") setImage(null);
  showCustom();
  showLength();
}

/** Shows the sizes, and selects the one that a request without a size gets. */
function showSizes() {
  const can = model().video;
  byId("size").replaceChildren(
    ...(image ? [make("option", { value: LIKE_IMAGE }, "Like the image")] : []),
    ...can.sizes.map((size) => make("option", { value: size }, size.replace("x", " × "))),
    make("option", { value: CUSTOM }, "Other size"),
  );
  byId("size").value = image ? LIKE_IMAGE : can.size;
}

function showCustom() {
  byId("custom").hidden = byId("size").value !== CUSTOM;
}

function showLength() {
  const frames = Number(byId("frames").value);
  const fps = Number(byId("fps").value) || model().video.fps;
  const text = `${(frames / fps).toFixed(1)} s, ${frames} frame${frames === 1 ? "" : "s"}`;
  byId("length").textContent = text;
  byId("frames").setAttribute("aria-valuetext", text);
}

/** Returns a problem of a number that the browser finds invalid, or null. */
function wrongNumber() {
  for (const [param, id] of Object.entries(INPUTS)) {
    const input = byId(id);
    if (input.validity.badInput || (id === "seed" && Number(input.value) > MAX_SEED)) {
      const most = id === "seed" ? ` up to ${MAX_SEED}` : "";
      return { param, message: `${param}: this is not valid; it must be a number${most}` };
    }
  }
  return null;
}

function body() {
  const can = model().video;
  const text = (id) => byId(id).value.trim();
  const number = (id) => (text(id) === "" ? undefined : Number(text(id)));
  const custom = byId("size").value === CUSTOM;
  const size = custom ? `${text("width")}x${text("height")}` : byId("size").value;
  const frames = Number(byId("frames").value);
  const fields = {
    prompt: byId("prompt").value,
    model: model() === models[0] ? undefined : model().id,
    size: size === (image ? LIKE_IMAGE : can.size) ? undefined : size,
    num_frames: frames === can.num_frames ? undefined : frames,
    fps: number("fps"),
    seed: number("seed"),
    num_inference_steps: number("steps"),
    guidance_scale: number("guidance"),
    guidance_scale_2: can.guidance_scale_2 === null ? undefined : number("guidance-2"),
    negative_prompt: byId("negative").value || undefined,
  };
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

function startImage() {
  const [drop, input] = [byId("drop"), byId("image")];
  input.addEventListener("change", () => input.files[0] && setImage(input.files[0]));
  byId("image-remove").addEventListener("click", () => (setImage(null), input.focus()));
  drop.addEventListener("dragover", (event) => (event.preventDefault(), drop.classList.add("over")));
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    takeImage(event.dataTransfer);
  });
  document.addEventListener("paste", (event) => takeImage(event.clipboardData));
}

function takeImage(data) {
  const file = [...data.files].find(({ type }) => type.startsWith("image/"));
  if (file && !byId("image-field").hidden) setImage(file);
}

function setImage(file) {
  const view = byId("image-view");
  if (image) URL.revokeObjectURL(view.src);
  image = file;
  if (!file) byId("image").value = "";
  const chosen = document.activeElement === byId("image");
  view.hidden = byId("image-remove").hidden = !file;
  byId("image").hidden = Boolean(file);
  if (file && chosen) byId("image-remove").focus();
  const size = byId("size").value;
  showSizes();
  if (![LIKE_IMAGE, model().video.size].includes(size)) byId("size").value = size;
  showCustom();
  byId("image-hint").textContent = file?.name ?? "Drop or paste an image, or choose a file.";
  if (file) {
    view.src = URL.createObjectURL(file);
    view.alt = `The reference image ${file.name}`;
  } else view.removeAttribute("src");
}
