/* What the present view asks: a question for each of its maps. */

import { duration, strength } from "./dom.js";
import { cost, isSlow, methodOf, methodsOf, quickest } from "./methods.js";
import { isReady, known, seen, session } from "./session.js";

/** The classes on the stage: those chosen, else the top one, which is null until it is known. */
export function targets() {
  const { state } = session;
  if (state.targets.length) return state.targets;
  return [seen(state.model)[0]?.index ?? null];
}

/** What has the service say which class a name means: what is shown for it anyway, or what is quick. */
export function naming(name) {
  const { model, method, layer } = session.state;
  return { model, method: isSlow(methodOf(model, method)) ? quickest(model) : method, layer, target: name };
}

function aim(index, against = session.state.against) {
  const other = against === "rest" || against === "" ? against : Number(against);
  return other === "" || index === null || other === index ? index : JSON.stringify({ class: index, against: other });
}

/** What was explained, in a few words; `target` as the API tells of it. */
export function named({ label, against }) {
  if (!against) return label;
  return `${label} rather than ${against === "rest" ? "the rest" : against.map((other) => other.label).join(" or ")}`;
}

/** Every map that the view wants, as `Stage` takes them. */
export function questions() {
  const { state } = session;
  const [target] = targets();
  if (state.view === "methods") {
    const able = methodsOf(state.model).filter((method) => !method.refused).sort((one, other) => isSlow(one) - isSlow(other));
    return able.map((method) => question({ method, target: aim(target), title: () => method.title }));
  }
  const chosen = { method: methodOf(state.model, state.method), waits: false }; // however slow it is
  if (state.view === "models") {
    const ours = question({ ...chosen, target: aim(target), title: () => state.model });
    return state.other ? [ours, question({ ...chosen, ...inOther(target), title: () => state.other })] : [ours];
  }
  return targets().map((index) => {
    const label = (answer) => (answer ? named(answer.explanation.target) : labelOf(index));
    return question({ ...chosen, target: aim(index), title: label });
  });
}

/** The other model, and its class of the same label and its layer of the same name, where it has them. */
function inOther(target) {
  const { state, details } = session;
  const detail = details.get(state.other);
  const indexOf = (label) => detail?.labels?.indexOf(label) ?? -1;
  const same = indexOf(labelOf(target));
  const against = ["", "rest"].includes(state.against) ? state.against : indexOf(labelOf(Number(state.against)));
  const layer = detail?.layers?.some(({ name }) => name === state.layer) ? state.layer : "auto";
  return { model: state.other, layer, target: same >= 0 ? aim(same, against === -1 ? "" : against) : null };
}

/** waits: whether, if it is slow, it waits until it is asked for. */
function question({ model = session.state.model, method, layer = session.state.layer, target, waits = true, title: named }) {
  const how = method.forward_passes === 1 ? method.title : `${method.title}, ${cost(method)}`;
  return {
    key: [model, method.name, layer, target].join("|"),
    model,
    method: method.name,
    layer,
    target,
    slow: waits && isSlow(method),
    cost: cost(method),
    title: named,
    note: (answer) => (answer ? note(answer) : ""),
    doing: () => (isReady(model) ? `Explaining by ${how}` : `Loading ${model}, which may take a while`),
  };
}

/** What is said beside a tile's title. */
function note({ timing, explanation: { target } }) {
  const time = duration(Object.fromEntries(timing).total);
  const share = strength(target);
  return { classes: `${share} · ${time}`, methods: time, models: `${named(target)} ${share} · ${time}` }[session.state.view];
}

export function labelOf(index) {
  if (index === null) return "the top class";
  return session.details.get(session.state.model)?.labels?.[index] ?? `class ${index}`;
}

export function classes(shown) {
  const { state } = session;
  const top = seen(state.model);
  const others = shown.filter((index) => index !== null && !top.some((one) => one.index === index));
  const found = others.map((target) => known({ ...state, target: aim(target) })?.explanation.target).filter(Boolean);
  return [...top, ...found];
}

export function asked(question) {
  const { target } = known(question).explanation;
  const { model, method, layer } = question;
  return { model, method, layer, target: target.against ? question.target : target.index, label: named(target) };
}
