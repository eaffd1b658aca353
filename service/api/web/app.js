/* The page: what is asked for, put together from its parts. */

import * as api from "./api.js";
import { showCode, showTiming, offerCopies } from "./behind.js";
import { $, duration, fill, percent, say } from "./dom.js";
import { decode, paint } from "./maps.js";
import { cost, isSlow, meaning, title } from "./methods.js";
import { keyOf, showClasses, showHow, showModels, showOther, typed } from "./panel.js";
import { EXAMPLES, example, list, mark, opened, receive } from "./picture.js";
import { file } from "./snippets.js";
import { Stage } from "./stage.js";
import { MOST, read, write } from "./state.js";

const FIRST = [3, 10]; // a first visit sees the cross and the star side by side, which says more than either
const POLLING = 1500; // ms between looks at a model that is loading

let state = read();
let picture = null;
let models = [];
let standard = ""; // the service's default model, name@version
let complaint = ""; // what is wrong with the choice of a model
let palettes = {};
const details = new Map(); // name@version → GET /models/{name}, once it is ready
const describing = new Map(); // name@version → promise of its detail
const answers = new Map(); // question about a picture → answer
const predictions = new Map(); // picture and model → the top classes

const stage = new Stage({
  ask,
  known: (question) => answers.get(remembered(question)),
  style: () => ({ palette: palettes[state.colormap], show: state.show, opacity: state.opacity, box: state.box }),
  name: (question) => file(asked(question), questions().filter(known).map(asked)),
  answered: (question) => {
    refresh();
    const answer = answers.get(remembered(question));
    say(`${question.title(answer)}: ${answer.explanation.empty ? "the map is empty" : "map shown"}.`);
  },
  finished: () => refresh(),
  failed: (question, error) => {
    if (error.code === "unauthorized") return needKey("The key is not, or no longer, accepted.");
    if (["undecodable_image", "too_large"].includes(error.code)) $("picture-error").textContent = error.message;
    else say(error.message);
    if (error.status === 503) refreshModels(); // it may have failed to load, and says why
  },
});

/* ——— questions and answers ——— */

const remembered = ({ model, method, layer, target }) => [picture?.id, model, method, layer, target].join("|");
const known = (question) => answers.has(remembered(question));
const seen = (model) => predictions.get(`${picture?.id}|${model}`);

/** The classes on the stage: those chosen, else the top one as soon as it is known. */
function targets() {
  if (state.targets.length) return state.targets;
  const [top] = seen(state.model) ?? [];
  return top ? [top.index] : [null];
}

/** Every map that the present view wants. */
function questions() {
  const [target] = targets();
  const detail = details.get(state.model);
  if (state.view === "methods") {
    const methods = (detail?.method_details ?? []).filter((method) => !method.refused);
    methods.sort((one, other) => isSlow(one) - isSlow(other));
    return methods.map((method) => question({ method, target, title: () => title(method.name) }));
  }
  const passes = detail?.method_details?.find(({ name }) => name === state.method)?.forward_passes ?? 1;
  const method = { name: state.method, forward_passes: passes };
  if (state.view === "models") {
    const one = question({ method, target, wanted: true, title: () => state.model });
    if (!state.other) return [one];
    const label = labelOf(target);
    const same = details.get(state.other)?.labels?.indexOf(label) ?? -1;
    const layer = details.get(state.other)?.layers?.some(({ name }) => name === state.layer) ? state.layer : "auto";
    const theirs = { model: state.other, layer, target: same >= 0 ? same : null, wanted: true, title: () => state.other };
    return [one, question({ method, ...theirs })];
  }
  return targets().map((index) => question({ method, target: index, wanted: true, title: (answer) => classOf(answer, index) }));
}

/** wanted: whether it was chosen, so that it doesn't wait however long it takes. */
function question({ model = state.model, method, layer = state.layer, target, wanted = false, title }) {
  const made = { model, method: method.name, layer, target, passes: method.forward_passes, title };
  made.key = [model, method.name, layer, target].join("|");
  made.slow = isSlow(method) && !wanted;
  made.note = (answer) => {
    if (!answer) return "";
    const { total } = Object.fromEntries(answer.timing);
    const one = answer.explanation.target;
    const what = { classes: percent(one.probability), methods: "", models: `${one.label} ${percent(one.probability)}` }[state.view];
    return [what, duration(total)].filter(Boolean).join(" · ");
  };
  made.doing = () => {
    const loaded = models.find((one) => keyOf(one) === model)?.state === "ready";
    return loaded ? `Explaining by ${titled(method)}` : `Loading ${model}, which may take a while`;
  };
  return made;
}

const titled = (method) => (method.forward_passes === 1 ? title(method.name) : `${title(method.name)}, ${cost(method)}`);
const classOf = (answer, index) => answer?.explanation.target.label ?? labelOf(index);
const labelOf = (index) => details.get(state.model)?.labels?.[index] ?? (index === null ? "the top class" : `class ${index}`);

/** Ask the service, whose model may have to be loaded first. */
async function ask(question, signal) {
  const about = picture;
  await loaded(question.model, about, signal);
  const answer = await api.explain(about.blob, question, signal);
  answer.map = decode(answer.explanation.map);
  const place = (target) => [about.id, question.model, question.method, question.layer, target].join("|");
  answers.set(place(question.target), answer);
  answers.set(place(answer.explanation.target.index), answer);
  predictions.set(`${about.id}|${question.model}`, answer.predictions);
  return answer;
}

/** Wait until a model is ready, and know everything about it. */
async function loaded(model, about, signal) {
  if (details.has(model)) return;
  if (models.find((one) => keyOf(one) === model)?.state === "ready") {
    describe(model).then(refresh, () => {}); // beside the answer, not before it
    return;
  }
  await api.predict(about.blob, model, signal);
  await refreshModels();
  await describe(model);
}

/** Get to know a model, once however many ask. */
function describe(model) {
  if (!describing.has(model)) {
    const learn = async () => {
      const detail = await api.model(model);
      if (detail.state === "ready") details.set(model, detail);
    };
    describing.set(model, learn().finally(() => describing.delete(model)));
  }
  return describing.get(model);
}

/* ——— showing ——— */

/** Change what is wanted, and show it. */
function update(changes) {
  Object.assign(state, changes);
  write(state, standard);
  show();
}

/** Bring everything in line with the state. What the stage lacks is asked for. */
function show() {
  refresh();
  if (!picture) return;
  const wanted = questions();
  if (wanted.length) stage.show(picture, wanted);
  else if (state.view === "methods") loadedThen(state.model, show);
}

/** Once a model is known, go on; say so where it can't be. */
async function loadedThen(model, then) {
  const about = picture;
  try {
    await loaded(model, about);
    if (!details.has(model)) await describe(model);
    if (details.has(model)) then();
  } catch (error) {
    complaint = error.message;
    refreshModels();
  }
}

/** Everything but the maps: cheap, sends nothing. */
function refresh() {
  const detail = details.get(state.model);
  showModels(models, state.model, complaint);
  showOther(models, state.other, state.model);
  showHow(detail, state);
  const shown = state.view === "classes" ? targets() : targets().slice(0, 1);
  showClasses(rows(shown), shown, detail?.activation, { only, toggle });
  showChoices();
  showNotes(detail);
  showBehind();
  for (const question of stage.questions) if (known(question)) stage.settle(question);
}

/** The top classes, and whichever else is on the stage. */
function rows(shown) {
  const top = seen(state.model) ?? [];
  const others = shown.filter((index) => index !== null && !top.some((one) => one.index === index));
  const found = others.map((target) => answers.get(remembered({ ...state, target }))?.explanation.target);
  return [...top, ...found.filter(Boolean).map(({ index, label, logit, probability }) => ({ index, label, logit, probability }))];
}

function showChoices() {
  for (const name of ["view", "show"]) {
    for (const radio of document.querySelectorAll(`input[name=${name}]`)) radio.checked = radio.value === state[name];
  }
  $("opacity").value = Math.round(100 * state.opacity);
  $("opacity").disabled = state.show === "map";
  $("box").checked = state.box;
  fill($("colormap"), Object.keys(palettes).map((name) => [name, name]), state.colormap);
  $("with-row").hidden = state.view !== "models";
  const slow = state.view === "methods" ? questions().filter((one) => one.slow && !known(one)) : [];
  $("slow-row").hidden = state.view !== "methods";
  $("slow-run").hidden = !slow.length || stage.running !== null;
  $("slow-run").textContent = `Run the ${slow.length} slow ones too`;
  const refused = (details.get(state.model)?.method_details ?? []).filter((method) => method.refused);
  $("refused").textContent = refused.map((method) => `${title(method.name)} is not for this model: ${method.refused}`).join(" ");
}

function showNotes(detail) {
  const drawn = state.model.startsWith("scenes@") && picture && !picture.scene;
  $("picture-note").hidden = !drawn && Boolean(picture);
  if (drawn) {
    const shapes = detail?.labels?.join(", ") ?? "twelve shapes";
    $("picture-note").textContent = `${state.model} knows only drawn shapes (${shapes}). On other pictures it looks for those; choose another model for photographs.`;
  }
  const answer = stage.questions.map((question) => answers.get(remembered(question))).find(Boolean);
  const signed = answer?.map.signed;
  const several = state.view !== "classes" || targets().length > 1;
  const label = several ? "the class" : answer?.explanation.target.label;
  $("meaning").textContent = !answer ? "" : state.view === "methods"
    ? `Every map answers for “${answer.explanation.target.label}” in its own way; each is scaled to its own maximum.`
    : meaning(state.method, label ?? "the class").replace("“the class”", several && state.view === "classes" ? "each class" : "the class");
  const context = $("legend").getContext("2d");
  const levels = Uint8ClampedArray.from({ length: 256 }, (_, level) => level);
  const covered = new Uint8ClampedArray(256).fill(255);
  if (palettes[state.colormap]) {
    const pixels = paint({ levels, covered }, false, palettes[state.colormap], state.show === "map");
    context.putImageData(new ImageData(pixels, 256), 0, 0);
  }
  $("legend").parentElement.hidden = !answer || (signed && state.view !== "methods");
  const alone = stage.questions.length === 1 && answer;
  $("legend-high").textContent = alone ? `most, ${Number(answer.explanation.max.toPrecision(3))}` : "most in each map";
  const shape = answer && detail?.layers?.find(({ name }) => name === answer.explanation.layer)?.shape;
  $("grid").textContent = shape ? `${shape[1]} × ${shape[2]} cells, ${shape[0]} features in each` : "a few cells";
}

function showBehind() {
  const done = picture ? questions().filter(known) : [];
  $("request").hidden = !done.length;
  if (!done.length) return;
  const first = done[0];
  const answer = answers.get(remembered(first));
  showTiming(answer, `${title(first.method)} for ${answer.explanation.target.label}`);
  showCode({
    asked: done.map(asked),
    picture: { name: picture.name, example: Boolean(picture.example) },
    colormap: state.colormap,
    opacity: state.opacity,
    show: state.show,
    needsKey: api.hasKey(),
    origin: new URL(".", location.href).href,
  });
}

/** A question as its own command would ask it. */
function asked(question) {
  const { index, label } = answers.get(remembered(question)).explanation.target;
  return { model: question.model, method: question.method, layer: question.layer, target: index, label };
}

/* ——— what people do ——— */

function only(index) {
  update({ targets: [index] });
}

function toggle(index) {
  const shown = targets();
  const changed = shown.includes(index) ? shown.filter((one) => one !== index) : [...shown, index];
  if (changed.length && changed.length <= MOST) update({ targets: changed, view: "classes" });
}

/** Another model: classes by the same label stay, and methods and layers that it has too. */
async function choose(model) {
  const labels = targets().map(labelOf);
  complaint = "";
  stage.cancel();
  Object.assign(state, { model, targets: [], layer: "auto", other: otherThan(model) });
  if (models.find((one) => keyOf(one) === model)?.state === "ready" && !details.has(model)) await describe(model).catch(() => {});
  const detail = details.get(model);
  if (detail) {
    const kept = state.targets.length ? [] : labels.map((label) => detail.labels.indexOf(label)).filter((index) => index >= 0);
    if (kept.length === labels.length) state.targets = kept;
    if (!detail.methods.includes(state.method)) state.method = "gradcam";
  }
  update({});
}

/** What a model is compared with unless something is chosen: one that is ready, if there is one. */
function otherThan(model) {
  const others = models.filter((one) => keyOf(one) !== model);
  if (others.some((one) => keyOf(one) === state.other)) return state.other;
  const best = others.find((one) => one.state === "ready") ?? others.find((one) => one.state !== "failed") ?? others[0];
  return best ? keyOf(best) : "";
}

async function use(found, changes) {
  $("picture-error").textContent = "";
  if (picture) URL.revokeObjectURL(picture.url);
  answers.clear();
  predictions.clear();
  picture = found;
  mark(found.example);
  update(changes);
}

async function useExample(one) {
  try {
    await use(await example(one), { picture: one.name, targets: [] });
  } catch {
    $("picture-error").textContent = "The example can’t be fetched: the service can’t be reached.";
  }
}

/** A picture of one's own. What this browser can't show, the service gets to see all the same: it knows best why. */
async function useFile(blob) {
  $("picture-error").textContent = "";
  const found = await opened(blob, blob.name || "pasted.png");
  if (found) return use(found, { picture: "own", targets: [] });
  try {
    await api.predict(blob, state.model);
    $("picture-error").textContent = "The service reads this picture, but this browser can’t show it. A JPEG or PNG of it would work.";
  } catch (error) {
    $("picture-error").textContent = error.message;
  }
}

/* ——— models and keys ——— */

/** Look at the models again, and again while one is loading. */
async function refreshModels() {
  const listed = await api.models().catch(() => null);
  if (!listed) return;
  models = listed.models;
  refresh();
  if (models.some((one) => one.state === "loading")) setTimeout(refreshModels, POLLING);
}

function needKey(complaint) {
  $("main").hidden = true;
  $("key").hidden = false;
  $("key-error").textContent = complaint;
  $("key-value").focus();
}

/** The version that a reference in the address means. */
function resolved(reference) {
  const [name, wanted] = reference.split("@");
  const versions = models.filter((one) => one.name === name);
  const found = wanted
    ? versions.find((one) => one.version === wanted || one.aliases.includes(wanted))
    : (versions.findLast((one) => one.state === "ready") ?? versions.at(-1));
  return found && keyOf(found);
}

/** Begin, or begin again when the address or the key has changed. */
async function start() {
  try {
    const listed = await api.models();
    models = listed.models;
    standard = resolved(listed.default) ?? "";
  } catch (error) {
    if (error.code === "unauthorized") return needKey(api.hasKey() ? "That key is not accepted." : "");
    $("main").hidden = false;
    $("model-error").textContent = error.message;
    return;
  }
  $("key").hidden = true;
  $("main").hidden = false;
  complaint = state.model && !resolved(state.model) ? `There is no model ${state.model} here; this is the default.` : "";
  state.model = resolved(state.model) ?? standard;
  state.other = (state.other && resolved(state.other)) || otherThan(state.model);
  if (!palettes[state.colormap]) state.colormap = "turbo";
  const one = EXAMPLES.find(({ name }) => name === state.picture);
  if (models.some((model) => model.state === "loading")) setTimeout(refreshModels, POLLING);
  if (one) {
    const first = one.name === EXAMPLES[0].name && !location.hash && state.model.startsWith("scenes@");
    await use(await example(one), first ? { targets: FIRST } : {});
  } else if (state.picture === "own" && !picture) {
    refresh();
    $("picture-note").hidden = false;
    $("picture-note").textContent = "Whoever shared this address used a picture of their own, which it doesn’t hold. Open, drop or paste one.";
  } else {
    update({});
  }
}

function wire() {
  list(useExample);
  receive(useFile);
  offerCopies();
  const on = (id, event, act) => $(id).addEventListener(event, (happened) => act(happened.target));
  on("views", "change", ({ value }) => update({ view: value }));
  on("shows", "change", ({ value }) => restyle({ show: value }));
  on("opacity", "input", ({ value }) => restyle({ opacity: value / 100 }, { keep: false })); // on its way
  on("opacity", "change", ({ value }) => restyle({ opacity: value / 100 }));
  on("colormap", "change", ({ value }) => restyle({ colormap: value }));
  on("box", "change", ({ checked }) => restyle({ box: checked }));
  on("model", "change", ({ value }) => choose(value));
  on("other", "change", ({ value }) => update({ other: value }));
  on("method", "change", ({ value }) => update({ method: value }));
  on("layer", "change", ({ value }) => update({ layer: value }));
  on("slow-run", "click", () => stage.run(stage.questions.filter((one) => one.slow && !known(one))));
  $("skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address holds the view
    $("stage").focus();
  });
  $("another").addEventListener("submit", (event) => {
    event.preventDefault();
    const labels = details.get(state.model)?.labels ?? [];
    const index = typed($("class-name").value, labels);
    $("class-error").textContent = index === null ? `${state.model} has no class of that name or number.` : "";
    if (index === null) return;
    $("class-name").value = "";
    only(index);
  });
  $("key").addEventListener("submit", (event) => {
    event.preventDefault();
    api.useKey($("key-value").value.trim());
    $("key-value").value = "";
    start();
  });
  window.addEventListener("hashchange", () => {
    state = read();
    start();
  });
}

/** Show the same maps in another way, and keep it in the address. Sends nothing. */
function restyle(changes, { keep = true } = {}) {
  Object.assign(state, changes);
  if (keep) write(state, standard);
  stage.restyle();
  refresh();
}

async function begin() {
  const tables = await (await fetch("web/palettes.json")).json();
  const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  palettes = Object.fromEntries(Object.entries(tables).map(([name, text]) => [name, bytes(text)]));
  wire();
  await start();
}

begin();
