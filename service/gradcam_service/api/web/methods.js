/* What each method is, in the service's own words. */

import { modelOf, session } from "./session.js";

/** From here on a method is run in comparisons only when it is asked for. */
const SLOW = 10; // forward passes

const READ = { unsigned: "Coloured", signed: "Red for it, blue against it", signed_colour: "Grey is zero" };

/** A model's methods; until it has told them, the one by this name. */
export function methodsOf(model, name = chosenMethod(model)) {
  return session.details.get(model)?.method_details ?? [unknown(name)];
}

export const methodOf = (model, name) => methodsOf(model, name).find((method) => method.name === name) ?? unknown(name);

const unknown = (name) => ({ name, title: name || "its own method", forward_passes: 1 });

/** One sentence: what the colours of a method's map mean for a target. */
export function meaning({ kind, summary }, target) {
  return summary ? `${READ[kind]}: ${summary.replace("{target}", () => target)}.` : "";
}

/** The name of the method that takes the fewest forward passes of those that explain this model. */
export function quickest(model) {
  const able = methodsOf(model).filter((method) => !method.refused);
  return able.reduce((best, one) => (one.forward_passes < best.forward_passes ? one : best)).name;
}

/** The method that is chosen, else the model's own, or another where that can't explain it; empty until that is known. */
export function chosenMethod(model) {
  if (session.state.method) return session.state.method;
  const { method = "", methods = [method] } = modelOf(model) ?? {};
  return methods.includes(method) ? method : (methods[0] ?? "");
}

/** Whether a method is known not to explain a model. */
export const isRefused = (model, method) => modelOf(model)?.methods?.includes(method) === false;

export const isSlow = (method) => method.forward_passes > SLOW;

export const cost = (method) => (method.forward_passes === 1 ? "1 forward pass" : `${method.forward_passes} forward passes`);
