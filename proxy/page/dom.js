/**
 * Small helpers for the document. Text from people and from the server is only ever set as text,
 * never as HTML: the Content-Security-Policy of this page refuses anything else.
 */

/** Returns the element with this id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Creates an element: properties by name, `class` and attributes with a dash, then children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") element.className = value;
    else if (name.includes("-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** Shows `text` in an element, or hides the element where there is none. */
export function showText(element, text) {
  element.hidden = !text;
  element.textContent = text ?? "";
}

/** Reads `text` to users of screen readers. */
export function announce(text) {
  byId("announcer").textContent = text;
}

/** Waits for `milliseconds`; an abort of `signal` ends the wait early. */
export function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

/** Opens a dialog whose form calls `submit`; the dialog closes when that returns true. */
export function openDialog(dialog, submit) {
  const form = dialog.querySelector("form");
  const button = form.querySelector("button:not([type])");
  form.onsubmit = async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    button.disabled = true;
    const done = await submit().finally(() => (button.disabled = false));
    if (done) dialog.close();
  };
  dialog.querySelector("[data-close]").onclick = () => dialog.close();
  if (!dialog.open) dialog.showModal();
}
