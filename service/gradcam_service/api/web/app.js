/* The page: what people do on it, and what comes of it. */

import * as api from "./api.js";
import { offerCopies } from "./behind.js";
import { $, say } from "./dom.js";
import { centredPalette } from "./maps.js";
import { isRefused } from "./methods.js";
import { example, list, mark, opened, receive } from "./picture.js";
import { asked, labelOf, naming, questions, targets } from "./questions.js";
import { entriesOf, written } from "./said.js";
import { PICTURES, picturesFor, samplesFor } from "./samples.js";
import { ask, describe, isReady, known, look, lookAround, modelOf, otherThan, resolved, session, speaks, textFor } from "./session.js";
import { file } from "./snippets.js";
import { Stage } from "./stage.js";
import { DEFAULT_COLORMAP, MOST, read, write } from "./state.js";
import { blamed, showAll } from "./view.js";

const { state } = session;
let pictures = 0; // that were chosen, so that of two the later is shown, whichever arrives first

const stage = new Stage({
  ask,
  known,
  style: () => ({ ...state, palette: session.palettes[state.colormap] }),
  name: (question) => file(asked(question), questions().filter(known).map(asked)),
  answered(question, answer) {
    refresh();
    say(`${question.title(answer)}: ${answer.explanation.empty ? "the map is empty" : "map shown"}.`);
  },
  failed(error) {
    if (error.code === "unauthorized") return needKey("The key is not, or no longer, accepted.");
    if (!blamed(error)) say(error.message);
    refresh();
  },
  finished: catchUp,
});

/** Change what is wanted, and show it. */
function update(changes) {
  Object.assign(state, changes);
  if (changes.targets) delete session.complaints["class-name"];
  if ("text" in changes) delete session.complaints.text;
  write(state);
  show();
}

/** Bring everything in line with what is wanted. What the stage lacks is asked for. */
async function show() {
  refresh();
  const { model, view, other } = state;
  if (!session.picture) return isReady(model) && describe(model).then(refresh, () => {});
  if (view === "models" && isReady(other) && !session.details.has(other)) await describe(other).catch(() => {});
  stage.show(session.picture, questions());
  refresh(); // what is around the maps tells how many there are
}

/** Now that more is known, of a model say, there may be more to ask. */
function catchUp() {
  refresh();
  if (!session.picture || stage.running) return;
  const wanted = questions();
  const keys = (some) => some.map(({ key }) => key).join();
  const isNew = (question) => !known(question) && !stage.questions.some(({ key }) => key === question.key);
  // The top class is explained before it is known to be that; only then can it be compared with another.
  const isLate = state.view === "classes" && !speaks(state.model) ? wanted.some(isNew) : keys(wanted) !== keys(stage.questions);
  if (isLate) show();
}

/** Everything but the maps that are still to come. */
function refresh() {
  showAll(stage, { only, toggle, choose: chooseWords, give });
  stage.settle();
}

/** Show the same maps in another way, and keep it in the address. Sends nothing. */
function restyle(changes, { keep = true } = {}) {
  Object.assign(state, changes);
  if (keep) write(state);
  stage.restyle();
  refresh();
}

/* ——— classes and models ——— */

function only(index) {
  update({ targets: [index] });
}

function toggle(index) {
  const shown = targets();
  const changed = shown.includes(index) ? shown.filter((one) => one !== index) : [...shown, index];
  if (changed.length && changed.length <= MOST) update({ targets: changed, view: "classes" });
}

/** Words of the caption by their places; none: every word. */
function chooseWords(places) {
  update(places.length ? { targets: places } : { targets: [], view: "classes" });
}

/** Ask something else, or have another caption explained. */
function give(text) {
  update({ text: text.trim(), targets: [] });
}

/** A class by whatever people call it: the service knows, as it does for every client. */
async function another(event) {
  event.preventDefault();
  const { picture } = session;
  const { model } = state;
  if (!picture) return complainOf("class-name", "Choose a picture first.");
  try {
    const { told } = await ask(naming($("class-name").value.trim()));
    if (session.picture !== picture || state.model !== model) return;
    $("class-name").value = "";
    only(told.index);
  } catch (error) {
    if (error.code === "unauthorized") needKey("The key is not, or no longer, accepted.");
    else complainOf("class-name", error.message);
  }
}

/** Say beside a control what is wrong with what was chosen there, until something else is. */
function complainOf(control, text) {
  session.complaints[control] = text;
  refresh();
}

/** Another model: classes of the same labels stay, and so do the method where it can explain that model, and the text. */
async function choose(model) {
  const [labels, option] = [state.targets.map(labelOf), modelOf(state.model)?.text?.option];
  stage.cancel();
  session.complaints = {};
  Object.assign(state, { model, targets: [], against: state.against === "rest" ? "rest" : "", layer: "auto", other: otherThan(model) });
  if (isReady(model)) await describe(model).catch(() => {});
  if (state.model !== model) return;
  const { labels: theirs = [], text } = session.details.get(model) ?? {};
  const kept = labels.map((label) => (speaks(model) ? -1 : theirs.indexOf(label))); // whose labels are no places of words
  if (!kept.includes(-1)) state.targets = kept;
  if (!option || text?.option !== option) state.text = samplesFor(modelOf(model)).texts?.[0] ?? "";
  if (isRefused(model, state.method)) state.method = "";
  const suited = picturesFor(modelOf(model));
  const { example: shown = "" } = session.picture ?? {};
  const misplaced = shown && suited.length && !suited.some(({ name }) => name === shown);
  if (misplaced) await useExample(suited[0]);
  else update({});
}

/* ——— pictures ——— */

function use(picture, changes) {
  session.complaints = { model: session.complaints.model };
  look(picture);
  mark(picture.example);
  update(changes);
}

async function useExample(one, changes = { picture: one.name, targets: [] }) {
  const turn = ++pictures;
  try {
    const found = await example(one);
    if (turn === pictures) use(found, changes);
  } catch {
    complainOf("picture", "The example can’t be fetched: the service can’t be reached.");
  }
}

/** A picture of one's own, or its frames. What this browser can't show, the service draws, or says what is wrong with it. */
async function useFiles(files) {
  const turn = ++pictures;
  const { depth = 8, frames } = modelOf(state.model)?.input ?? {};
  const isOdd = depth !== 8 || (frames && files.length === 1); // browsers show no contrast of 12 bits in 16, and play animations
  const question = { ...naming(""), target: speaks(state.model) ? written(0, entriesOf(modelOf(state.model))) : null }; // one will do
  try {
    const found = (!isOdd && (await opened(files))) || (await opened(files, { drawn: await api.drawn(files, { ...question, text: textFor(question) }) }));
    if (turn === pictures) use(found, { picture: "own", targets: [] });
  } catch (error) {
    if (turn === pictures) complainOf("picture", error.message);
  }
}

/* ——— beginning ——— */

function needKey(complaint) {
  $("main").hidden = true;
  $("key").hidden = false;
  $("key-error").textContent = complaint;
  $("key-value").focus();
}

/** Begin, or begin again when the address or the key has changed. */
async function start() {
  try {
    await lookAround();
  } catch (error) {
    if (error.code === "unauthorized") return needKey(api.hasKey() ? "That key is not accepted." : "");
    $("main").hidden = false;
    complainOf("model", error.message);
    return;
  }
  $("key").hidden = true;
  $("main").hidden = false;
  const chosen = state.model && resolved(state.model);
  session.complaints = state.model && !chosen ? { model: `There is no model ${state.model} here; this is the default.` } : {};
  state.model = chosen || session.standard;
  state.other = (state.other && resolved(state.other)) || otherThan(state.model);
  if (!session.palettes[state.colormap]) state.colormap = DEFAULT_COLORMAP;
  const model = modelOf(state.model);
  const samples = samplesFor(model);
  state.text ||= samples.texts?.[0] ?? "";
  if (state.picture === "own") return update({});
  const one = PICTURES.find(({ name }) => name === state.picture) ?? picturesFor(model)[0];
  if (!one) return update({});
  await useExample(one, { picture: one.name, targets: location.hash ? state.targets : (samples.targets ?? []) });
}

function wire() {
  list(useExample);
  receive(useFiles);
  offerCopies();
  const on = (id, event, act) => $(id).addEventListener(event, (happened) => act(happened.target));
  on("views", "change", ({ value }) => update({ view: value }));
  on("shows", "change", ({ value }) => restyle({ show: value }));
  on("opacity", "input", ({ value }) => restyle({ opacity: value / 100 }, { keep: false })); // on its way
  on("opacity", "change", ({ value }) => restyle({ opacity: value / 100 }));
  on("colormap", "change", ({ value }) => restyle({ colormap: value }));
  on("threshold", "input", ({ value }) => restyle({ threshold: value / 100 }, { keep: false }));
  on("threshold", "change", ({ value }) => restyle({ threshold: value / 100 }));
  on("box", "change", ({ checked }) => restyle({ box: checked }));
  on("model", "change", ({ value }) => choose(value));
  on("other", "change", ({ value }) => update({ other: value }));
  on("method", "change", ({ value }) => update({ method: value }));
  on("against", "change", ({ value }) => update({ against: value }));
  on("layer", "change", ({ value }) => update({ layer: value }));
  on("slow-run", "click", () => stage.run(stage.waiting()));
  on("class-name", "input", () => complainOf("class-name", ""));
  on("text-back", "click", () => give(""));
  $("another").addEventListener("submit", another);
  $("asking").addEventListener("submit", (event) => {
    event.preventDefault();
    give($("text").value);
  });
  $("skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address holds the view
    $("stage").focus();
  });
  $("key").addEventListener("submit", (event) => {
    event.preventDefault();
    api.useKey($("key-value").value.trim());
    $("key-value").value = "";
    start();
  });
  window.addEventListener("hashchange", () => {
    Object.assign(state, read());
    start();
  });
}

async function begin() {
  session.changed = catchUp;
  const tables = await (await fetch("web/palettes.json")).json();
  for (const [name, text] of Object.entries(tables)) {
    session.palettes[name] = { unsigned: api.bytesOf(text), signed: centredPalette(api.bytesOf(text)) };
  }
  session.palettes[DEFAULT_COLORMAP].signed = session.palettes.coolwarm.signed; // as where no colormap is asked for
  wire();
  await start();
}

begin();
