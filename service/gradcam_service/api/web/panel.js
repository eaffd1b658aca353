/* Beside the picture: which model, what it sees, and how that is explained. */

import { $, element, fill, strength } from "./dom.js";
import { chosenMethod, cost, isSlow, methodsOf } from "./methods.js";
import { VALUE, entriesOf } from "./said.js";
import { keyOf } from "./session.js";
import { MOST } from "./state.js";

const STATES = { unloaded: "loads when it is first asked", loading: "loading…", failed: "failed" };

/** One line about a model version: its key, its aliases, and its state unless it is ready. */
function named(model) {
  const aliases = model.aliases.length ? ` (${model.aliases.join(", ")})` : "";
  return `${keyOf(model)}${aliases}${model.state === "ready" ? "" : ` · ${STATES[model.state]}`}`;
}

export function showModels(models, chosen) {
  fill($("model"), models.map((model) => [keyOf(model), named(model)]), chosen);
  const model = models.find((one) => keyOf(one) === chosen);
  const { description, input, classes, weights, device } = model ?? {};
  $("model-description").textContent = description ?? "";
  $("model-note").textContent = input
    ? `${classes} ${entriesOf(model).several} · sees ${input.width} × ${input.height} pixels${made(input)} · ${weights.split("/").at(-1)} · ${device.join(", ")}`
    : "";
}

/** What a model's pixels are made of, unless they are colours of 8 bits in one picture. */
function made({ channels, depth, frames }) {
  const bands = { 1: ["in grey"], 3: [] }[channels] ?? [`of ${channels} bands`];
  const numbers = { 8: [], 16: ["of 16 bits"], float: ["of any numbers"] }[depth];
  const stack = frames ? [`in ${frames} frames`] : [];
  return [...bands, ...numbers, ...stack].map((words) => ` ${words}`).join("");
}

export function showOther(models, chosen, current) {
  const others = models.filter((model) => keyOf(model) !== current);
  fill($("other"), others.map((model) => [keyOf(model), named(model)]), chosen);
  $("other").disabled = !others.length;
  $("other-note").textContent = others.length
    ? ""
    : "There is only this one. A second model or version in the repository can be compared with it.";
}

/** What model, methods and layers there are to choose from. */
export function showHow(detail, state) {
  const option = (method) => {
    if (method.refused) return [method.name, `${method.title} · not for this model`, true];
    return [method.name, method.title + (isSlow(method) ? ` · ${cost(method)}` : "")];
  };
  fill($("method"), methodsOf(state.model).map(option), chosenMethod(state.model));
  const auto = detail?.layer ? `auto: ${shaped(detail.layer)}` : "auto: the last convolutional";
  const layers = [...(detail?.layers ?? [])].reverse();
  fill($("layer"), [["auto", auto], ...layers.map((layer) => [layer.name, shaped(layer)])], state.layer);
  const labels = detail?.labels ?? [];
  if ($("class-names").childElementCount !== labels.length) {
    $("class-names").replaceChildren(...labels.map((label) => element("option", { value: label })));
  }
}

const shaped = (layer) => `${layer.name} · ${layer.shape.join(" × ")}`;

/**
 * The classes and their bars. shown: indices on the stage, in order. actions: {only(index), toggle(index)}.
 * Rows stay where they are while their classes do, and so does the focus.
 */
export function showClasses(predictions, shown, detail, actions) {
  const { one, several } = entriesOf(detail);
  const notes = {
    sigmoid: `Each ${one} is judged by itself, so several can be likely.`,
    softmax: detail?.text?.spoken ? `Each ${one} is scored, and explained, given those before it.` : `The ${several} share 100 % among them.`,
    identity: "Values, no probabilities.",
  };
  $("classes-note").textContent = (predictions.length && notes[detail?.activation]) || "";
  const content = JSON.stringify(predictions);
  if ($("classes").dataset.content !== content) {
    $("classes").dataset.content = content;
    $("classes").replaceChildren(...predictions.map((prediction) => row(prediction, actions)));
  }
  for (const [place, item] of [...$("classes").children].entries()) {
    const chosen = shown.includes(predictions[place].index);
    const [one, plus] = item.querySelectorAll("button");
    one.setAttribute("aria-pressed", String(chosen));
    plus.setAttribute("aria-pressed", String(chosen));
    plus.disabled = chosen ? shown.length === 1 : shown.length >= MOST;
    plus.title = plus.disabled && !chosen ? `${MOST} at most` : "Side by side";
    plus.firstChild.textContent = chosen ? "−" : "+";
  }
}

/** What the classes on the stage may be compared with. */
export function showAgainst(listed, detail, chosen) {
  const { one, several, compared } = entriesOf(detail);
  const known = new Map(listed.map(({ index, label }) => [String(index), label]));
  if (/^\d+$/.test(chosen) && !known.has(chosen)) known.set(chosen, detail?.labels?.[chosen] ?? `${one} ${chosen}`);
  known.delete(VALUE);
  $("against").disabled = !compared;
  fill($("against"), [["", `nothing: the ${one} by itself`], ["rest", `all other ${several}`], ...known], chosen);
}

/** What a model's task calls what is listed, wherever the page speaks of it. */
export function showTask(model) {
  const { one, several, title } = entriesOf(model);
  $("classes-title").textContent = title;
  $("view-classes").textContent = several[0].toUpperCase() + several.slice(1);
  $("another-name").textContent = `Another ${one}`;
  $("against-note").textContent = `Why this ${one} rather than that: what tells them apart, not what they share.`;
  for (const id of ["classes", "another", "against-field", "against-note"]) $(id).hidden = Boolean(model?.text?.spoken); // which has its words
}

function row({ index, label, logit, probability, value }, actions) {
  const bar = element("span", { class: "share", "aria-hidden": "true" });
  bar.style.setProperty("--share", probability ?? 0);
  const text = element("span", { class: "text" }, element("span", {}, label), element("b", {}, strength({ probability, value })));
  const title = logit === undefined ? "a value" : `logit ${logit.toFixed(2)}`;
  const one = element("button", { class: "class", title, onclick: () => actions.only(index) }, text, bar);
  const sign = element("span", { "aria-hidden": "true" }, "+");
  const plus = element("button", { class: "plus", "aria-label": `${label} side by side`, onclick: () => actions.toggle(index) }, sign);
  return element("li", {}, one, plus);
}
