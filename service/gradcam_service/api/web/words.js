/* Text above the maps: what is asked of a model, and the words of what it says, each of which can be clicked. */

import { $, element, strength } from "./dom.js";

/** The field for a model's text. option: `text` of GET /models; written: what is there; texts: to click. */
export function showAsking(option, written, texts, ask) {
  $("asking").hidden = !option;
  if (!option) return;
  const { label, action, back } = option;
  $("text-name").textContent = label;
  $("text-ask").textContent = action;
  $("text").required = option.required;
  $("text-back").hidden = !back || !written;
  $("text-back").textContent = back;
  if ($("asking").dataset.written !== written) $("text").value = $("asking").dataset.written = written;
  if ($("texts").dataset.of === texts.join()) return;
  $("texts").dataset.of = texts.join();
  $("texts").replaceChildren(...texts.map((text) => element("li", {}, element("button", { type: "button", onclick: () => ask(text) }, text))));
}

/**
 * A caption as buttons, and one for all of its words. words: entries; shown: places of those on the stage; choose(places).
 * Buttons stay where they are while the words do, and so does the focus.
 */
export function showCaption(words, shown, choose) {
  $("caption").hidden = !words.length;
  const content = JSON.stringify(words);
  if ($("caption").dataset.content !== content) {
    $("caption").dataset.content = content;
    $("caption").replaceChildren(...words.map((word) => wordButton(word, choose)), element("button", { class: "every", onclick: () => choose([]) }, "Every word"));
  }
  const all = shown.length === words.length;
  for (const [place, button] of [...$("caption").children].entries()) {
    button.setAttribute("aria-pressed", String(place === words.length ? all : !all && shown.includes(place)));
  }
}

function wordButton({ index, label, logit, probability }, choose) {
  const title = `${strength({ probability })} after the words before it, logit ${logit.toFixed(2)}`;
  return element("button", { class: "word", title, onclick: () => choose([index]) }, label);
}
