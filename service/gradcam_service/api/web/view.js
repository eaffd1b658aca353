/* Everything around the maps, brought in line with what is wanted and known. Cheap; sends nothing. */

import { hasKey } from "./api.js";
import { showCode, showTiming } from "./behind.js";
import { $, complain, fill } from "./dom.js";
import { highest, paint } from "./maps.js";
import { chosenMethod, meaning, methodOf } from "./methods.js";
import { showAgainst, showClasses, showHow, showModels, showOther, showTask } from "./panel.js";
import { offer, showExamples, showFrames } from "./picture.js";
import { asked, lacksText, listed, named, questions, targets } from "./questions.js";
import { entriesOf } from "./said.js";
import { picturesFor, samplesFor, takesImages } from "./samples.js";
import { known, modelOf, session, speaks } from "./session.js";
import { part } from "./tile.js";
import { showAsking, showCaption } from "./words.js";

/** The control whose setting an error is about, by its code; others are told of on the tile alone. */
const BLAMED = {
  undecodable_image: "picture", too_large: "picture", unfit_input: "picture",
  model_failed: "model", unknown_target: "class-name", bad_option: "text", unsupported_method: "method", too_expensive: "method", unknown_layer: "layer",
};
export const blamed = ({ code }) => BLAMED[code];

/**
 * actions: {only(index), toggle(index), choose(indices), give(text)}, for what is listed, words and texts. stage: what is on
 * it, and whether it runs.
 */
export function showAll(stage, actions) {
  const { state, models, details } = session;
  const detail = details.get(state.model);
  const answer = stage.questions.map(known).find(Boolean);
  showModels(models, state.model);
  showOther(models, state.other, state.model);
  showHow(detail, state);
  const model = modelOf(state.model);
  const shown = state.view === "classes" ? targets() : targets().slice(0, 1);
  const found = listed(shown);
  showTask(model);
  showAsking(model?.text, state.text, samplesFor(model ?? {}).texts ?? [], actions.give);
  showCaption(speaks(state.model) ? found : [], shown, actions.choose);
  showClasses(found, shown, detail, actions);
  showAgainst(found, detail, state.against);
  for (const id of ["looks", "probe-hint"]) $(id).hidden = !session.picture;
  showChoices(stage, detail);
  showPictureNote(answer);
  showLegend(stage, answer);
  showMeaning(detail, answer);
  showSeen(detail, answer);
  showBehind();
  showTrouble(stage);
}

/** What is wrong is said beside the control that is to blame, for as long as it is. */
function showTrouble(stage) {
  const { state, complaints } = session;
  const chosen = modelOf(state.model);
  const found = chosen?.state === "failed" ? { model: `${state.model} can’t be used: ${chosen.reason ?? "it gives no reason."}` } : {};
  for (const { key, model } of questions()) {
    const error = stage.errors.get(key);
    if (error) found[model === state.model ? blamed(error) : "other"] ??= error.message;
  }
  for (const control of ["other", ...new Set(Object.values(BLAMED))]) complain(control, complaints[control] ?? found[control] ?? "");
}

function showChoices(stage, detail) {
  const { state, palettes } = session;
  for (const name of ["view", "show"]) {
    for (const radio of document.querySelectorAll(`input[name=${name}]`)) radio.checked = radio.value === state[name];
  }
  $("opacity").value = Math.round(100 * state.opacity);
  $("opacity").disabled = state.show === "map";
  $("box").checked = state.box;
  $("threshold-field").hidden = !state.box;
  $("threshold").value = Math.round(100 * state.threshold);
  $("threshold-share").textContent = `≥ ${$("threshold").value} % of the maximum`;
  fill($("colormap"), Object.keys(palettes).map((name) => [name, name]), state.colormap);
  $("with-row").hidden = state.view !== "models";
  $("slow-row").hidden = state.view !== "methods";
  const slow = stage.waiting();
  $("slow-run").hidden = !slow.length || stage.running !== null;
  $("slow-run").textContent = `Run the ${slow.length} slow ones too`;
  const refused = (detail?.method_details ?? []).filter((method) => method.refused);
  $("refused").textContent = refused.map((method) => `${method.title} is not for this model: ${method.refused}.`).join(" ");
}

function showPictureNote(answer) {
  const { state, picture } = session;
  const model = modelOf(state.model);
  const notes = (answer?.warnings ?? []).map((warning) => `The model may not see this picture as it was meant: ${warning}.`);
  offer(model?.input);
  if (model) showExamples(model);
  if (picture) showFrames(picture);
  const { knows } = samplesFor(model ?? {});
  if (!picture && state.picture === "own") {
    notes.push("Whoever shared this address used a picture of their own, which it doesn’t hold. Open, drop or paste one.");
  } else if (!picture && model && !picturesFor(model).length) {
    notes.push(`${state.model} ${wanted(model.input)}`);
  } else if (picture && knows && !picturesFor(model).some(({ name }) => name === picture.example)) {
    notes.push(`${state.model} knows only ${knows}. What it says of other pictures means nothing; choose another model for photographs.`);
  } else if (lacksText()) {
    notes.push("Ask something about this picture, above the place where the map will be.");
  }
  $("picture-note").hidden = !notes.length;
  $("picture-note").textContent = notes.join(" ");
}

/** What to open for a model that no example is for. */
function wanted(input) {
  const { channels, frames, media_types: types, endings } = input;
  if (!takesImages(input)) return `takes no pictures, but ${types.join(", ")}. Open a file of that${endings.length ? ` (${endings.join(", ")})` : ""}.`;
  if (frames) return `takes ${frames} frames as one picture. Open as many files together, whose names say their order, or an animation of them.`;
  return `takes ${channels} bands, which none of the examples has. Open a TIFF or .npy file of as many.`;
}

function showLegend(stage, answer) {
  const { state, palettes } = session;
  const palette = palettes[state.colormap];
  $("scale").hidden = !answer || !palette;
  if ($("scale").hidden) return;
  const several = stage.questions.length > 1;
  const kind = state.view === "methods" ? "unsigned" : answer.map.kind;
  const first = kind === "unsigned" ? 0 : 1; // signed maps have levels from 1 on, so that 128 is their middle
  const channels = kind === "signed_colour" ? 3 : 1;
  const levels = Uint8ClampedArray.from({ length: 256 * channels }, (_, i) => Math.max(Math.floor(i / channels), first));
  const pixels = paint({ levels, covered: new Uint8ClampedArray(256).fill(255) }, kind, palette, state.show === "map");
  $("legend").getContext("2d").putImageData(new ImageData(pixels, 256), 0, 0);
  const [low, high] = { unsigned: ["least", "most"], signed: ["against", "for"], signed_colour: ["lowers", "raises"] }[kind];
  const end = Number((kind === "unsigned" ? answer.explanation.max : highest(answer.map)).toPrecision(3));
  $("legend-low").textContent = kind === "unsigned" || several ? low : `${low}, −${end}`;
  $("legend-high").textContent = several ? `${high} in each map` : `${high}, ${end}`;
}

function showMeaning(detail, answer) {
  const { state } = session;
  const label = answer && named(answer);
  const several = state.view === "classes" && targets().length > 1;
  const { one } = entriesOf(detail);
  if (!answer) $("meaning").textContent = "";
  else if (state.view !== "methods") $("meaning").textContent = meaning(methodOf(state.model, chosenMethod(state.model)), several ? `each ${one}` : `“${label}”`);
  else $("meaning").textContent = `Every map answers for “${label}” in its own way; each is scaled to its own maximum; of signed ones, blue speaks against it and red for it.`;
  const shape = answer && detail?.layers?.find(({ name }) => name === answer.explanation.layer)?.shape;
  $("grid").textContent = shape ? `${shape[1]} × ${shape[2]} cells, ${shape[0]} features in each` : "a few cells";
}

/** What the model doesn't see of the picture, and why. */
function showSeen(detail, answer) {
  const seen = answer && part(answer.explanation.region, session.picture);
  const { resize, crop } = detail?.preprocess ?? {};
  const steps = Object.entries({ resize, crop }).filter(([, size]) => size).map(([step, size]) => `${step} ${[size].flat().join(" × ")}`);
  $("seen").textContent = seen ? `The model sees only what is outlined: ${steps.join(", ")}.` : "";
}

function showBehind() {
  const { state, picture } = session;
  const done = picture ? questions().filter(known) : [];
  $("request").hidden = !done.length;
  if (!done.length) return;
  const answer = known(done[0]);
  const what = speaks(state.model) && targets().length > 1 ? "every word" : named(answer);
  showTiming(answer, `${methodOf(done[0].model, done[0].method).title} for ${what}`);
  showCode({
    asked: done.map(asked),
    picture,
    view: state,
    needsKey: hasKey(),
    origin: new URL(".", location.href).href,
  });
}
