/* One picture with one map over it: drawn, probed, downloaded. */

import { element, say, short } from "./dom.js";
import { paint, place, valueAt } from "./maps.js";

/** Pixels along the longest side of a download. */
export const SHARPEST = 2048;

export class Tile {
  /**
   * picture: {url, image, width, height}. caption: {title, note}. actions: {probe(x, y), name()}: what to do when a
   * place is pointed at (shares of the width and height, or null), and what a download is called.
   */
  constructor(picture, caption, actions) {
    this.picture = picture;
    this.caption = caption;
    this.answer = null;
    this.photo = element("img", { class: "photo", src: picture.url, alt: "" });
    this.heat = element("canvas", { class: "heat" });
    this.seen = element("div", { class: "seen", hidden: true });
    this.box = element("div", { class: "box", hidden: true });
    this.cross = element("div", { class: "cross", hidden: true });
    this.view = element("div", { class: "picture", role: "img", tabindex: "0" }, this.photo, this.heat, this.seen, this.box, this.cross);
    this.cover = element("div", { class: "cover", hidden: true });
    this.heading = element("strong");
    this.note = element("span", { class: "note" });
    this.value = element("span", { class: "value" });
    this.save = element("button", { class: "quiet", hidden: true, onclick: () => this.download(actions.name()) }, "Download PNG");
    this.element = element(
      "figure",
      { class: "tile" },
      element("figcaption", {}, this.heading, this.note),
      element("div", { class: "frame" }, this.view, this.cover),
      element("div", { class: "foot" }, this.value, this.save),
    );
    this.element.style.setProperty("--ratio", picture.width / picture.height);
    this.listen(actions.probe);
    this.label();
  }

  /** Say what is shown. */
  label(caption = this.caption) {
    this.caption = caption;
    this.heading.textContent = this.heading.title = caption.title;
    this.note.textContent = caption.note ?? "";
    const box = this.boxed;
    const where = box ? `; the strongest area is ${box[2] - box[0]} by ${box[3] - box[1]} pixels at ${box[0]}, ${box[1]}` : "";
    this.view.setAttribute("aria-label", `${caption.title}${this.answer ? `: map over the picture${where}` : ""}`);
    this.save.setAttribute("aria-label", `Download PNG of ${caption.title}`);
  }

  /** Put words, and buttons, where the map will be. */
  wait(kind, ...content) {
    this.element.dataset.state = kind;
    this.cover.replaceChildren(...content);
    this.cover.hidden = false;
  }

  /** Show an answer, whose map is {height, width, kind, channels, values}. */
  show(answer, limit, style) {
    this.answer = answer;
    this.element.dataset.state = "done";
    this.cover.hidden = true;
    if (answer.explanation.empty) this.wait("empty", element("p", {}, "This method finds nothing here: the map is zero everywhere."));
    this.save.hidden = false;
    this.resize(limit);
    this.restyle(style);
  }

  /** Draw for a tile of at most so many pixels along its longest side. */
  resize(limit) {
    if (!this.answer || this.limit === limit) return;
    this.limit = limit;
    const size = fitted(this.picture, limit);
    this.heat.width = size.width;
    this.heat.height = size.height;
    this.placed = place(this.answer.map, this.answer.explanation.region, this.picture, size);
  }

  /** style: {palette, show: "overlay" or "map", opacity, box: whether it is shown, threshold}. Sends nothing. */
  restyle(style) {
    if (!this.answer) return;
    this.photo.hidden = style.show === "map";
    this.heat.style.opacity = style.show === "map" ? 1 : style.opacity;
    if (this.painted !== this.placed || this.palette !== style.palette || this.opaque !== (style.show === "map")) {
      [this.painted, this.palette, this.opaque] = [this.placed, style.palette, style.show === "map"];
      const pixels = paint(this.placed, this.answer.map.kind, this.palette, this.opaque);
      this.heat.getContext("2d").putImageData(new ImageData(pixels, this.heat.width), 0, 0);
    }
    if (this.style?.threshold !== style.threshold) this.boxed = this.answer.box(style.threshold);
    this.style = style;
    this.frame(this.seen, style.show === "overlay" ? part(this.answer.explanation.region, this.picture) : null);
    this.frame(this.box, style.box ? this.boxed : null);
    this.label();
  }

  /** Lay an element along edges, x0, y0, x1, y1 in the picture's pixels, or hide it where there are none. */
  frame(frame, edges) {
    frame.hidden = !edges;
    if (!edges) return;
    const { width, height } = this.picture;
    const [left, top, right, bottom] = [edges[0] / width, edges[1] / height, 1 - edges[2] / width, 1 - edges[3] / height];
    for (const [side, share] of Object.entries({ left, top, right, bottom })) frame.style[side] = `${100 * share}%`;
  }

  /** Read the map at a place, shares of the width and height, or stop where it is null. Returns what is read. */
  probe(place) {
    this.cross.hidden = !place || !this.answer;
    this.value.textContent = "";
    if (!place || !this.answer) return "";
    this.cross.style.left = `${100 * place.x}%`;
    this.cross.style.top = `${100 * place.y}%`;
    const [x, y] = [place.x * this.picture.width, place.y * this.picture.height];
    const found = valueAt(this.answer.map, this.answer.explanation.region, x, y);
    const peak = this.answer.explanation.max;
    const share = found.length === 1 && peak > 0 ? `, ${Math.round((100 * found[0]) / peak)} % of the maximum` : "";
    const text = found.length ? `${found.map(short).join(" / ")}${share}` : "not seen by the model";
    this.value.textContent = text;
    return `${text}, at ${Math.floor(x)}, ${Math.floor(y)}`;
  }

  listen(probe) {
    const within = (share) => Math.min(Math.max(share, 0), 0.9999);
    this.view.addEventListener("pointermove", (event) => {
      const frame = this.view.getBoundingClientRect();
      probe({ x: within((event.clientX - frame.left) / frame.width), y: within((event.clientY - frame.top) / frame.height) });
    });
    this.view.addEventListener("pointerleave", () => probe(null));
    this.view.addEventListener("blur", () => probe(null));
    let at = { x: 0.5, y: 0.5 };
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    this.view.addEventListener("keydown", (event) => {
      const step = steps[event.key];
      if (!step || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      const far = event.shiftKey ? 8 : 1;
      at = { x: within(at.x + (step[0] * far) / 64), y: within(at.y + (step[1] * far) / 64) };
      say(probe(at));
    });
  }

  /** Save what is seen, at the picture's own size. */
  download(name) {
    const size = fitted(this.picture, SHARPEST);
    const { map, explanation } = this.answer;
    const canvas = Object.assign(element("canvas"), size);
    const context = canvas.getContext("2d");
    const placed = place(map, explanation.region, this.picture, size);
    const heat = Object.assign(element("canvas"), size);
    const opaque = this.style.show === "map";
    heat.getContext("2d").putImageData(new ImageData(paint(placed, map.kind, this.style.palette, opaque), size.width), 0, 0);
    if (!opaque) {
      context.drawImage(this.photo, 0, 0, size.width, size.height);
      context.globalAlpha = this.style.opacity;
    }
    context.drawImage(heat, 0, 0);
    context.globalAlpha = 1;
    const scale = size.width / this.picture.width;
    const seen = !opaque && part(explanation.region, this.picture);
    if (seen) { // as the service draws it: dashes on the outermost pixels
      const [x0, y0, x1, y1] = seen.map((edge) => Math.ceil(edge * scale - 0.5));
      outline(context, [x0 + 0.5, y0 + 0.5, x1 - 0.5, y1 - 0.5], 1, 1, [3, 3]);
    }
    if (this.style.box && this.boxed) outline(context, this.boxed.map((edge) => edge * scale), 2, 4, []);
    canvas.toBlob((blob) => {
      const link = element("a", { href: URL.createObjectURL(blob), download: name });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    });
  }
}

/** What the model saw of a picture, as x0, y0, x1, y1 in its pixels; null where that is all of it. */
export function part([x0, y0, x1, y1], { width, height }) {
  const edges = [Math.max(x0, 0), Math.max(y0, 0), Math.min(x1, width), Math.min(y1, height)];
  const missing = edges[0] + edges[1] + width - edges[2] + height - edges[3];
  return missing >= 1 ? edges : null;
}

/** White lines on black ones, widths in pixels, the white ones dashed. */
function outline(context, [x0, y0, x1, y1], white, black, dashes) {
  for (const [strokeStyle, lineWidth, pattern] of [["black", black, []], ["white", white, dashes]]) {
    Object.assign(context, { strokeStyle, lineWidth });
    context.setLineDash(pattern);
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
  }
}

function fitted({ width, height }, limit) {
  const scale = limit / Math.max(width, height);
  return { width: Math.max(1, Math.round(width * Math.min(scale, 1))), height: Math.max(1, Math.round(height * Math.min(scale, 1))) };
}
