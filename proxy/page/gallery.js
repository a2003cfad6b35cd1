/** The videos of the key, newest first. */

import { fileUrl } from "./api.js";
import { byId, make } from "./dom.js";

const cards = new Map(); // id -> the parts of its card
const visible = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) loadThumbnail(target);
}, { rootMargin: "400px" });

/** Shows `videos` in this order; `select(id)` is called for the one that is chosen. */
export function showGallery(videos, selected, select) {
  const list = byId("gallery");
  for (const [id, card] of cards) if (!videos.some((video) => video.id === id)) drop(id, card);
  videos.forEach((video, index) => {
    const card = cards.get(video.id) ?? add(video, select);
    if (list.children[index] !== card.item) list.insertBefore(card.item, list.children[index]);
    update(card, video, video.id === selected);
  });
  byId("gallery-empty").hidden = videos.length > 0;
}

function add(video, select) {
  const picture = make("img", { alt: "", hidden: true });
  const state = make("span", { class: "state" });
  const cover = make("span", { class: "cover" }, picture, state);
  const prompt = make("span", { class: "clamp" }, video.prompt);
  const button = make("button", { type: "button", onclick: () => select(video.id) }, cover, prompt);
  const card = { item: make("li", {}, button), button, picture, state, cover, status: null };
  cards.set(video.id, card);
  return card;
}

function update(card, video, current) {
  if (current) card.button.setAttribute("aria-current", "true");
  else card.button.removeAttribute("aria-current");
  card.state.textContent = {
    queued: "queued",
    in_progress: `${video.progress} %`,
    completed: `${Number(video.seconds).toFixed(1)} s`,
    failed: video.error?.code === "cancelled" ? "cancelled" : "failed",
  }[video.status];
  if (card.status === video.status) return;
  card.status = video.status;
  card.cover.dataset.status = video.status;
  if (video.status === "completed") {
    card.picture.dataset.id = video.id;
    visible.observe(card.cover);
  }
}

async function loadThumbnail(cover) {
  visible.unobserve(cover);
  const picture = cover.querySelector("img");
  try {
    picture.src = await fileUrl(picture.dataset.id, "thumbnail");
    picture.hidden = false;
  } catch {
    // The card shows the prompt; the player reports why the files cannot be read.
  }
}

function drop(id, card) {
  visible.unobserve(card.cover);
  if (card.picture.src) URL.revokeObjectURL(card.picture.src);
  card.item.remove();
  cards.delete(id);
}
