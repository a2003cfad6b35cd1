/** The dialog that makes another video of a finished one: a remix, an edit or an extension. */

import { call, videoPath } from "./api.js";
import { byId, openDialog, showText } from "./dom.js";

const KINDS = {
  remix: {
    title: "Remix",
    hint: "A new video with the same settings, another prompt and a new seed.",
    submit: "Make remix",
  },
  edit: {
    title: "Edit",
    hint: "A new video with the motion and layout of this one, from another prompt.",
    submit: "Make edit",
  },
  extension: {
    title: "Extend",
    hint: "A longer video: this one, and after it what the prompt describes.",
    submit: "Make extension",
  },
};

/**
 * Asks for the prompt of another video of `video`, and makes it. `made` gets the new video, and the
 * action that made it: `kind`, the `id` of the source, and the `body` of the request.
 */
export function askAgain(kind, video, made) {
  const { title, hint, submit } = KINDS[kind];
  byId("again-title").textContent = title;
  byId("again-hint").textContent = hint;
  byId("again-submit").textContent = submit;
  byId("again-prompt").value = video.prompt;
  byId("strength-field").hidden = kind !== "edit";
  showStrength();
  showText(byId("again-problem"), null);
  openDialog(byId("again-dialog"), async () => {
    const [id, body] = [video.id, bodyOf(kind, video.id)];
    try {
      made(await call("POST", pathOf(kind, id), { json: body }), { kind, id, body });
      return true;
    } catch (error) {
      showText(byId("again-problem"), error.message);
      return false;
    }
  });
}

/** The path of the request that makes a video of the one with this id. */
export function pathOf(kind, id) {
  return kind === "remix" ? videoPath(id, "/remix") : `v1/videos/${kind}s`;
}

function bodyOf(kind, id) {
  const prompt = byId("again-prompt").value;
  if (kind === "remix") return { prompt };
  const strength = kind === "edit" ? { strength: Number(byId("strength").value) } : {};
  return { prompt, video: { id }, ...strength };
}

function showStrength() {
  byId("strength-value").textContent = byId("strength").value;
}

byId("strength").addEventListener("input", showStrength);
