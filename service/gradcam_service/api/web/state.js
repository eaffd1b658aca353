/* What is shown, and the address bar that holds it, so that a view can be shared. */

import { VALUE } from "./said.js";

/** Its own colours are for unsigned maps alone: signed ones are drawn as where no colormap is asked for. */
export const DEFAULT_COLORMAP = "turbo";

const DEFAULTS = {
  picture: "", // name of an example, or "own"; empty: one that the model knows
  model: "", // name@version, always in the address; what opens one without it is the service's default
  method: "", // empty: the model's own
  text: "", // question to the model, or caption in the place of its own
  layer: "auto",
  targets: [], // class indices, or places of a caption's words; empty: the top-1 class, every word
  against: "", // what they are compared with: "", "rest" (all others) or a class index, as text
  view: "classes",
  other: "", // model compared with
  show: "overlay",
  opacity: 0.85,
  colormap: DEFAULT_COLORMAP,
  box: false,
  threshold: 0.15, // share of the maximum, of what is in the box
};

const CHOICES = { view: ["classes", "methods", "models"], show: ["overlay", "map"] };

/** The most classes side by side. */
export const MOST = 4;

/** What the address bar says, defaults for what it doesn't or says wrongly. */
export function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  const state = { ...DEFAULTS };
  for (const [name, value] of given) {
    if (["picture", "model", "method", "text", "layer", "other", "colormap"].includes(name)) state[name] = value;
    if (CHOICES[name]?.includes(value)) state[name] = value;
  }
  if (given.has("targets")) state.targets = indices(given.get("targets"));
  if (/^(rest|\d{1,6})$/.test(given.get("against"))) state.against = given.get("against");
  for (const [name, least] of [["opacity", 0], ["threshold", 0.01]]) {
    const share = Number(given.get(name) ?? NaN);
    if (share >= least && share <= 1) state[name] = share;
  }
  state.box = given.get("box") === "1";
  return state;
}

function indices(text) {
  const found = text.split(",").filter((part) => part === VALUE || /^\d{1,6}$/.test(part));
  return [...new Set(found)].slice(0, MOST).map((part) => (part === VALUE ? part : Number(part)));
}

/** Put into the address bar whatever differs from the defaults, and the model, which may not be the default tomorrow. */
export function write(state) {
  const query = new URLSearchParams();
  const implied = { ...DEFAULTS, other: state.view === "models" ? "" : state.other };
  for (const [name, initial] of Object.entries(implied)) {
    const value = state[name];
    if (String(value) === String(initial)) continue;
    query.set(name, value === true ? "1" : String(value));
  }
  const text = query.toString().replaceAll("%2C", ",").replaceAll("%40", "@");
  history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
}
