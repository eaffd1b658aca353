/* What the present view asks: a question for each of its maps. */

import { duration, strength } from "./dom.js";
import { chosenMethod, cost, isSlow, methodOf, methodsOf, quickest } from "./methods.js";
import { VALUE, again, entriesOf, written } from "./said.js";
import { isReady, known, modelOf, seen, session, speaks, textFor } from "./session.js";

/** What is on the stage: what was chosen, else the top class or every word, which is null until it is known. */
export function targets() {
  const { state } = session;
  if (state.targets.length) return state.targets;
  const said = seen(state.model);
  if (!speaks(state.model)) return [said[0]?.index ?? null];
  if (state.view !== "classes") return [said.at(-1)?.index ?? 0]; // which mostly is of a thing
  return said.length ? said.map(({ index }) => index) : [null];
}

/** Whether the model answers nothing before something is asked of it. */
export const lacksText = () => Boolean(modelOf(session.state.model)?.text?.required) && !session.state.text;

/** What has the service say which class a name means: what is shown for it anyway, or what is quick. */
export function naming(name) {
  const { model, layer, text } = session.state;
  const method = chosenMethod(model);
  return { model, method: isSlow(methodOf(model, method)) ? quickest(model) : method, layer, text, target: name };
}

function aim(index, against = session.state.against, model = session.state.model) {
  const of = entriesOf(modelOf(model));
  const other = against === "rest" || against === "" ? against : Number(against);
  const isAlone = index === null || index === VALUE || !of.compared || other === "" || other === index;
  return isAlone ? written(index, of) : JSON.stringify({ class: index, against: other });
}

/** What was explained, in a few words. */
export function named({ told: { label, against } }) {
  if (!against) return label;
  return `${label} rather than ${against === "rest" ? "the rest" : against.map((other) => other.label).join(" or ")}`;
}

/** Every map that the view wants, as `Stage` takes them. */
export function questions() {
  const { state } = session;
  const [target] = targets();
  if (lacksText()) return [];
  if (state.view === "methods") {
    const able = methodsOf(state.model).filter((method) => !method.refused).sort((one, other) => isSlow(one) - isSlow(other));
    return able.map((method) => question({ method, target: aim(target), title: () => method.title }));
  }
  const chosen = { method: methodOf(state.model, chosenMethod(state.model)), waits: false }; // however slow it is
  if (state.view === "models") {
    const ours = question({ ...chosen, target: aim(target), title: () => state.model });
    return state.other ? [ours, question({ ...chosen, ...inOther(target), title: () => state.other })] : [ours];
  }
  return targets().map((index) => {
    const label = (answer) => (answer && !isEvery(index) ? named(answer) : labelOf(index));
    return question({ ...chosen, target: aim(index), title: label });
  });
}

/** Whether nothing was chosen of a model that answers in words, so that every one is explained. */
const isEvery = (index) => index === null && speaks(session.state.model);

/** The other model, and its class of the same label and its layer of the same name, where it has them. */
function inOther(target) {
  const { state, details } = session;
  const detail = details.get(state.other);
  const indexOf = (label) => detail?.labels?.indexOf(label) ?? -1;
  const same = target === null ? -1 : indexOf(labelOf(target));
  const against = ["", "rest"].includes(state.against) ? state.against : indexOf(labelOf(Number(state.against)));
  const layer = detail?.layers?.some(({ name }) => name === state.layer) ? state.layer : "auto";
  const word = speaks(state.other) ? written(labelOf(target), entriesOf(modelOf(state.other))) : null;
  return { model: state.other, layer, target: same < 0 ? null : (word ?? aim(same, against === -1 ? "" : against, state.other)) };
}

/** waits: whether, if it is slow, it waits until it is asked for. */
function question({ model = session.state.model, method, layer = session.state.layer, target, waits = true, title: named }) {
  const { text } = session.state;
  const how = method.forward_passes === 1 ? method.title : `${method.title}, ${cost(method)}`;
  return {
    key: [model, method.name, layer, target, text].join("|"),
    model,
    method: method.name,
    layer,
    target,
    text,
    slow: waits && isSlow(method),
    cost: cost(method),
    title: named,
    note: (answer) => (answer ? note(answer) : ""),
    doing: () => (isReady(model) ? `Explaining by ${how}` : `Loading ${model}, which may take a while`),
  };
}

/** What is said beside a tile's title. */
function note(answer) {
  const { model, view } = session.state;
  const time = duration(Object.fromEntries(answer.timing).total);
  const share = strength(answer.told);
  const classes = speaks(model) ? share : `${share} · ${time}`; // all words' time is the same
  return { classes, methods: time, models: `${named(answer)} ${share} · ${time}` }[view];
}

export function labelOf(index) {
  const { model } = session.state;
  const { one } = entriesOf(modelOf(model));
  if (index === null) return speaks(model) ? `every ${one}` : `the top ${one}`;
  const told = seen(model).find((said) => said.index === index)?.label;
  return told ?? (speaks(model) ? undefined : session.details.get(model)?.labels?.[index]) ?? `${one} ${index}`;
}

/** What there is to choose from: what the model says, and what else was asked for. */
export function listed(shown) {
  const { state } = session;
  const top = seen(state.model);
  const others = shown.filter((index) => index !== null && !top.some((one) => one.index === index));
  const found = others.map((index) => known({ ...state, method: chosenMethod(state.model), target: aim(index) })?.told);
  return [...top, ...found.filter(Boolean)];
}

export function asked(question) {
  const answer = known(question);
  const { model, layer } = question;
  const label = speaks(model) ? `${answer.told.index}-${named(answer)}` : named(answer); // a word may be there twice
  const target = again(answer.told, entriesOf(modelOf(model)), question.target);
  return { model, method: answer.explanation.method, layer, target, label, text: textFor(question) };
}
