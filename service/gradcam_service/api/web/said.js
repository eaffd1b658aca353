/* What a model says of a picture, whatever its task, as entries of one kind: as GET /models tells of them in `entries`. */

/** In the place of an index, what a result says beside its entries: of an agent, the value of the state. */
export const VALUE = "value";

/** What a classifier says, and what is said of a model that isn't loaded, of which nothing else is known. */
const CLASSES = { one: "class", several: "classes", title: "What it sees", member: "predictions", target: "", beside: "", compared: true };

/** What the entries of a model are called, where they are and how they are asked for. model: of GET /models, or undefined. */
export const entriesOf = (model) => model?.entries ?? CLASSES;

/**
 * A result's entries, in its order: {index, label, logit, probability, value}, of which some are undefined. The index of a
 * caption's word is its place in it.
 */
export function entries(result, of) {
  const listed = of.member.split(".").reduce((found, name) => found?.[name], result) ?? [];
  const said = listed.map((told) => entry(told, of));
  const isBeside = of.beside && result.value !== undefined;
  return isBeside ? [...said, { index: VALUE, label: of.beside, value: result.value }] : said;
}

/** What the API tells of a target, or of an entry, as an entry; of a contrast with what it is `against`. */
export function entry(told, { target, beside }) {
  if (told.output) return { index: VALUE, label: beside, value: told.value };
  const { index = told[target], label = told[target], logit, log_probability, value, against } = told;
  const probability = told.probability ?? (log_probability === undefined ? undefined : Math.exp(log_probability));
  return { index, label, logit, probability, value, against };
}

/** An entry's index as a request writes it; null for none. */
export function written(index, { target }) {
  if (index === VALUE) return JSON.stringify({ output: VALUE });
  return target && index !== null ? JSON.stringify({ [target]: index }) : index;
}

/** An entry as a request writes it; a contrast, and what a plugin tells of in its own way, as it was `asked` for. */
export function again({ index, against }, of, asked) {
  return against || index === undefined ? asked : written(index, of);
}
