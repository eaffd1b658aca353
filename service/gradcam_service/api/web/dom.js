/* Building the page. Text is always set as text: labels come from operators and may hold anything. */

export const $ = (id) => document.getElementById(id);

/** An element with properties (`class`, `on…` and attributes by name; null leaves one out) and children. */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [property, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (property.startsWith("on")) made.addEventListener(property.slice(2), value);
    else made.setAttribute(property, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

/** Options as [value, text, disabled]; what is chosen is among them, whatever else is. */
export function fill(select, options, chosen) {
  const there = chosen === "" || options.some(([value]) => value === chosen);
  const all = there ? options : [...options, [chosen, chosen]];
  select.replaceChildren(...all.map(([value, text, disabled]) => element("option", { value, disabled }, text)));
  select.value = chosen;
}

/** Say beside a control what is wrong with what it is set to; "" once it is mended. */
export function complain(control, text) {
  const said = $(`${control}-error`);
  if (said.textContent === text) return; // an alert is read out at each change
  said.textContent = text;
  $(control)?.setAttribute("aria-invalid", String(text !== ""));
}

/** Tell those who listen instead of looking. */
export function say(text) {
  $("said").textContent = text;
}

function percent(share) {
  const value = 100 * share;
  return `${value >= 99.95 || value < 0.05 ? value.toFixed(0) : value.toFixed(1)} %`;
}

/** A class's probability, or a regressor's value; nothing of what has neither. */
export function strength({ probability, value }) {
  if (probability === undefined && value === undefined) return "";
  return probability === undefined ? String(Number(value.toPrecision(4))) : percent(probability);
}

/** Milliseconds, as many digits as mean something. */
export function duration(ms) {
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms < 10 ? ms.toFixed(1) : ms.toFixed(0)} ms`;
}

/** A number to three digits. */
export function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e-3 && size < 1e5 ? String(Number(value.toPrecision(3))) : value.toExponential(2);
}
