/* What each method is, in the service's own words. */

import { modelOf, session } from "./session.js";

/** From here on a method is run in comparisons only when it is asked for. */
const SLOW = 10; // forward passes

const READ = { unsigned: "Coloured", signed: "Red for it, blue against it", signed_colour: "Grey is zero" };

/** A model's methods; until it has told them, the one by this name. */
export function methodsOf(model, name = "gradcam") {
  return session.details.get(model)?.method_details ?? [{ name, title: name, forward_passes: 1 }];
}

export const methodOf = (model, name) => methodsOf(model, name).find((method) => method.name === name) ?? { name, title: name, forward_passes: 1 };

/** One sentence: what the colours of a method's map mean for a target. */
export function meaning({ kind, summary }, target) {
  return summary ? `${READ[kind]}: ${summary.replace("{target}", () => target)}.` : "";
}

/** The name of the method that takes the fewest forward passes of those that explain this model. */
export function quickest(model) {
  const able = methodsOf(model).filter((method) => !method.refused);
  return able.reduce((best, one) => (one.forward_passes < best.forward_passes ? one : best)).name;
}

/** The method that is wanted, or another where it is known that it can't explain this model. */
export function able(model, wanted) {
  const methods = modelOf(model)?.methods ?? [wanted];
  return [wanted, "gradcam"].find((name) => methods.includes(name)) ?? methods[0];
}

export const isSlow = (method) => method.forward_passes > SLOW;

export const cost = (method) => (method.forward_passes === 1 ? "1 forward pass" : `${method.forward_passes} forward passes`);
