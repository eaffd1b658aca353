/* Where pictures come from: examples, files, the clipboard, a drop. */

import { $, element } from "./dom.js";
import { PICTURES, picturesFor } from "./samples.js";

const UNKNOWN = { media_types: ["image/*"], endings: [".tif", ".tiff"], frames: true };

/** What the file dialog offers: what a model takes, and several files unless it is known to take one. */
export function offer({ media_types: types, endings, frames } = UNKNOWN) {
  $("file").multiple = Boolean(frames);
  $("file").accept = [...types, ...endings].join();
}

let counted = 0;

/** Fetch an embedded picture. */
export async function example({ file, name }) {
  const response = await fetch(`web/examples/${file}`);
  const blob = await response.blob();
  return opened([new File([blob], file, { type: blob.type })], { example: name });
}

/**
 * A picture ready to be shown: {id, files, example, url, width, height}; null if this browser can't show it.
 *
 * files: of a picture, or of its frames, oldest first, the newest of which is shown. drawn: what is shown in the place of
 * files that are no pictures to a browser, and their own size: {blob, width, height}.
 */
export async function opened(files, { example = "", drawn } = {}) {
  const image = new Image();
  image.src = URL.createObjectURL(drawn?.blob ?? files.at(-1));
  try {
    await image.decode();
  } catch {
    URL.revokeObjectURL(image.src);
    return null;
  }
  const { width, height } = drawn ?? { width: image.naturalWidth, height: image.naturalHeight };
  return { id: ++counted, files, example, url: image.src, width, height };
}

export function list(choose) {
  $("examples").replaceChildren(
    ...PICTURES.map((one) => {
      const image = element("img", { src: `web/examples/${one.file}`, alt: one.shows, width: 72, height: 72, loading: "lazy" });
      const button = element("button", { "data-example": one.name, "aria-pressed": "false", onclick: () => choose(one) }, image);
      return element("li", {}, button);
    }),
  );
}

/** Offer the examples that a model can make something of, if there are any. */
export function showExamples(model) {
  const names = picturesFor(model).map(({ name }) => name);
  for (const item of $("examples").children) item.hidden = !names.includes(item.firstChild.dataset.example);
  $("examples").hidden = !names.length;
}

/** The frames of one input, oldest first, where they are files of their own. */
export function showFrames({ id, files }) {
  $("frames").hidden = files.length === 1;
  if ($("frames").dataset.of === String(id)) return;
  $("frames").dataset.of = id;
  for (const image of $("frames").querySelectorAll("img")) URL.revokeObjectURL(image.src);
  const frames = files.length === 1 ? [] : files;
  $("frames").replaceChildren(
    ...frames.map((file) => element("li", {}, element("img", { src: URL.createObjectURL(file), alt: file.name, title: file.name }))),
  );
}

/** Mark the example that is shown, if one is. */
export function mark(name) {
  for (const button of $("examples").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.example === name));
  }
}

/** Have `use` called with the files that are opened, dropped or pasted, wherever on the page, in the order of their names. */
export function receive(use) {
  const called = (file) => (file.name ? file : new File([file], "pasted.png", { type: file.type }));
  const given = (list) => [...list].map(called).sort((one, other) => one.name.localeCompare(other.name, undefined, { numeric: true }));
  $("open").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", (event) => {
    const files = given(event.target.files);
    event.target.value = ""; // so that the same file can be opened again
    if (files.length) use(files);
  });
  document.addEventListener("paste", (event) => {
    const files = given(event.clipboardData.files);
    if (!files.length) return;
    event.preventDefault();
    use(files);
  });
  const carries = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    $("drop").hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) $("drop").hidden = true;
  });
  document.addEventListener("drop", (event) => {
    $("drop").hidden = true;
    if (!carries(event)) return;
    event.preventDefault();
    const files = given(event.dataTransfer.files);
    if (files.length) use(files);
  });
}
