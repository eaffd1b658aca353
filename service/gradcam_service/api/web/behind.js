/* Behind the view: where the time went, and how to ask the same. */

import { $, duration, element, say } from "./dom.js";
import { curl, python } from "./snippets.js";

const STAGES = {
  read: "reading the request",
  decode: "decoding the picture",
  queue: "waiting for the batch",
  forward: "forward pass",
  backward: "gradient and map",
  render: "packing the map",
};

/** answer: one of `api.explain`. */
export function showTiming({ timing, roundTrip }, about) {
  const total = Object.fromEntries(timing).total ?? 0;
  const stages = timing.filter(([stage]) => stage in STAGES);
  const rest = Math.max(0, total - stages.reduce((sum, [, ms]) => sum + ms, 0));
  const parts = [...stages, ["rest", rest]];
  $("timing-total").textContent = `${about}: ${duration(total)} in the service, ${duration(roundTrip)} until it was here.`;
  $("timing-bar").replaceChildren(
    ...parts.map(([stage, ms]) => {
      const part = element("span", { "data-stage": stage });
      part.style.setProperty("--ms", ms);
      return part;
    }),
  );
  $("timing-stages").replaceChildren(
    ...parts.map(([stage, ms]) =>
      element("div", { "data-stage": stage }, element("dt", {}, STAGES[stage] ?? "the rest"), element("dd", {}, duration(ms))),
    ),
  );
}

/** shown: as `snippets.curl` and `snippets.python` take it. */
export function showCode(shown) {
  $("curl").textContent = curl(shown);
  $("python").textContent = python(shown);
  const own = !shown.picture.example;
  $("share-note").textContent = own
    ? "The address bar holds this view, but not your picture: who opens it is asked for one."
    : "The address bar holds this view: who opens it sees the same.";
}

/** Make the buttons copy. */
export function offerCopies() {
  const offer = (button, text, what) => $(button).addEventListener("click", () => copy($(button), text(), what));
  offer("copy-curl", () => $("curl").textContent, "curl");
  offer("copy-python", () => $("python").textContent, "Python");
  offer("share", () => location.href, "the address");
}

async function copy(button, text, what) {
  const before = button.dataset.text ?? button.textContent;
  button.dataset.text = before;
  try {
    await navigator.clipboard.writeText(text); // absent where the page comes over plain HTTP from another host
    button.textContent = "Copied";
    say(`Copied ${what}.`);
  } catch {
    button.textContent = "Select and copy it by hand";
    say("This browser lets no page copy here. Select the text and copy it by hand.");
  }
  setTimeout(() => (button.textContent = before), 2500);
}
