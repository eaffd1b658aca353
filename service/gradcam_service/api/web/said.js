/* What a model says of a picture, whatever its task, as entries of one kind; and what each task calls them. */

/** Of an agent, in the place of an index: the value of the state. */
export const VALUE = "value";

const OF_VALUE = { index: VALUE, label: "value of the state" };

const CLASSES = { one: "class", several: "classes", title: "What it sees" };
const TASKS = {
  regression: { one: "value", several: "values", title: "What it sees" },
  captioning: { one: "word", several: "words", title: "What it says" },
  vqa: { one: "answer", several: "answers", title: "What it answers" },
  policy: { one: "action", several: "actions", title: "What it would do" },
};

/** What the entries of a task are called; of one that isn't known, or not yet, classes. */
export const called = (task) => TASKS[task] ?? CLASSES;

/** Options of requests that give a model its text, and the words of their fields. */
const TEXTS = {
  question: { label: "Question", action: "Ask" },
  caption: { label: "Another caption", action: "Explain", back: "The model’s own" },
};

export const fieldOf = (option) => TEXTS[option] ?? { label: option, action: "Ask" };

/**
 * A result's entries, in its order: {index, label, logit, probability, value}, of which some are undefined. The index of a
 * caption's word is its place in it.
 */
export function entries({ predictions, answers, actions, value, caption }) {
  const listed = predictions ?? answers ?? actions ?? caption?.words.map(entry) ?? [];
  return value === undefined ? listed : [...listed, { ...OF_VALUE, value }];
}

/** What the API tells of a target, or of a word, as an entry; of a contrast with what it is `against`. */
export function entry(told) {
  if (told.output) return { ...OF_VALUE, value: told.value };
  if (told.word === undefined) return told;
  return { index: told.index, label: told.word, logit: told.logit, probability: Math.exp(told.log_probability) };
}

/** An entry's index as a request writes it; null for none. */
export function written(index, isWord) {
  if (index === VALUE) return JSON.stringify({ output: VALUE });
  return isWord && index !== null ? JSON.stringify({ word: index }) : index;
}

/** What the API tells of a target as a request writes it; of a contrast, and what a plugin tells, it was `asked` for. */
export function again(told, asked) {
  const { index, against } = entry(told);
  return against || index === undefined ? asked : written(index, "word" in told);
}
