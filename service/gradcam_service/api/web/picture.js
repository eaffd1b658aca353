/* Where pictures come from: examples, files, the clipboard, a drop. */

import { $, element } from "./dom.js";

/** The embedded pictures; a `scene` is drawn, for the embedded model `scenes`. */
export const EXAMPLES = [
  { name: "camera", shows: "photograph of a man behind a camera on a tripod", scene: false },
  { name: "coffee", shows: "photograph of a cup of coffee", scene: false },
  { name: "cat", shows: "photograph of a cat", scene: false },
  { name: "cross-star", shows: "a cross and a star", scene: true },
  { name: "lightning-cross-arrow", shows: "a lightning bolt, a cross and an arrow", scene: true },
  { name: "fish-star", shows: "a fish and a star", scene: true },
  { name: "triangle-star-lightning", shows: "a triangle, a star and a lightning bolt", scene: true },
];

/** Whether a model, as GET /models lists it, knows what is drawn and no photographs. */
export const knowsScenes = ({ name, source }) => (source ? source === "zoo" : name === "scenes");

/** The examples that a model can make something of: none where it takes bands. */
export function examplesFor(model) {
  const takes = [1, 3].includes(model.input?.channels ?? 3);
  return EXAMPLES.filter(({ scene }) => takes && scene === knowsScenes(model));
}

/** What the file dialog offers: the browser knows no endings of some of the types that a model takes. */
export function offer(types) {
  const endings = { "image/*": ".tif,.tiff", "application/x-npy": ".npy", "application/dicom": ".dcm" };
  $("file").accept = types.flatMap((type) => [type, endings[type] ?? []].flat()).join();
}

let counted = 0;

/** Fetch an embedded picture by its name. */
export async function example({ name, scene }) {
  const response = await fetch(`web/examples/${name}.jpg`);
  return opened(await response.blob(), `${name}.jpg`, { example: name, scene });
}

/**
 * A picture ready to be shown: {id, blob, name, example, scene, url, width, height}; null if this browser can't.
 * `drawn` is what is shown of a file that is no picture to a browser, and the file's own size: {blob, width, height}.
 */
export async function opened(blob, name, { example = "", scene = false, drawn } = {}) {
  const image = new Image();
  image.src = URL.createObjectURL(drawn?.blob ?? blob);
  try {
    await image.decode();
  } catch {
    URL.revokeObjectURL(image.src);
    return null;
  }
  const { width, height } = drawn ?? { width: image.naturalWidth, height: image.naturalHeight };
  return { id: ++counted, blob, name, example, scene, url: image.src, width, height };
}

export function list(choose) {
  $("examples").replaceChildren(
    ...EXAMPLES.map((one) => {
      const image = element("img", { src: `web/examples/${one.name}.jpg`, alt: one.shows, width: 72, height: 72 });
      const button = element("button", { "data-example": one.name, "aria-pressed": "false", onclick: () => choose(one) }, image);
      return element("li", {}, button);
    }),
  );
}

/** Mark the example that is shown, if one is. */
export function mark(name) {
  for (const button of $("examples").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.example === name));
  }
}

/** Have `use` called with every file that is opened, dropped or pasted, wherever on the page. */
export function receive(use) {
  $("open").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    event.target.value = ""; // so that the same file can be opened again
    if (file) use(file);
  });
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (!file) return;
    event.preventDefault();
    use(file);
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
    const [file] = event.dataTransfer.files;
    if (file) use(file);
  });
}
