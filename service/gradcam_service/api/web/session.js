/* What is wanted and what is known, for as long as the page is open. */

import * as api from "./api.js";
import { boxes } from "./box.js";
import { decode } from "./maps.js";
import { chosenMethod } from "./methods.js";
import { again, entries, entriesOf, entry } from "./said.js";
import { read } from "./state.js";

const POLLING = 1500; // ms between looks at a model that is loading

export const session = {
  state: read(),
  picture: null, // of `picture.opened`
  models: [], // as GET /models lists them
  standard: "", // the service's default model, name@version
  complaints: {}, // control → what is wrong with what was chosen there
  palettes: {}, // name → {unsigned, signed}, each 256 colours, RGB
  details: new Map(), // name@version → GET /models/{name}, once it is ready
  changed: () => {}, // called when more is known
};

const answers = new Map(); // question about a picture → answer
const said = new Map(); // picture, model and text → what the model says: entries
const describing = new Map(); // name@version → promise of its detail

export const keyOf = (model) => `${model.name}@${model.version}`;

/** What GET /models tells of a model; undefined if there is none of that key. */
export const modelOf = (key) => session.models.find((one) => keyOf(one) === key);

export const isReady = (key) => modelOf(key)?.state === "ready";

/** Whether a model answers in words, of which each is explained. */
export const speaks = (key) => Boolean(modelOf(key)?.text?.spoken);

const place = (picture, { model, text }) => [picture?.id, model, text].join("|");
const about = (picture, question) => [place(picture, question), question.method, question.layer, question.target].join("|");

export const known = (question) => answers.get(about(session.picture, question));

export const seen = (model) => said.get(place(session.picture, { model, text: session.state.text })) ?? [];

/** Another picture from now on. */
export function look(picture) {
  if (session.picture) URL.revokeObjectURL(session.picture.url);
  answers.clear();
  said.clear();
  session.picture = picture;
}

/**
 * Ask the service, whose model may have to be loaded first. Of what was asked of no word in particular, every word's
 * answer is known then, and the first one is returned.
 */
export async function ask(question, signal) {
  const { picture } = session;
  await loaded(question.model, picture, signal);
  const asked = { ...question, method: question.method || chosenMethod(question.model), text: textFor(question) };
  const found = await api.explain(picture.files, asked, signal);
  const of = entriesOf(modelOf(question.model));
  const listed = entries(found[0].result, of);
  for (const [at, answer] of found.entries()) {
    answer.map = decode(answer.explanation);
    answer.box = boxes(answer.map, answer.explanation.region, picture, modelOf(question.model).input);
    const { method, target } = answer.explanation;
    const told = entry(target, of);
    const { probability, value } = listed.find(({ index }) => index === told.index) ?? {};
    answer.told = { ...told, probability: told.probability ?? probability, value: told.value ?? value };
    const explained = again(told, of, question.target);
    for (const by of [question.method, method]) {
      answers.set(about(picture, { ...question, method: by, target: explained }), answer);
      if (at === 0) answers.set(about(picture, { ...question, method: by }), answer);
    }
  }
  said.set(place(picture, question), listed);
  return found[0];
}

/** A question's text, for a model that takes such: {option, written}, or null. */
export function textFor({ model, text }) {
  const optionOf = (key) => modelOf(key)?.text?.option;
  const option = optionOf(model);
  return option && text && option === optionOf(session.state.model) ? { option, written: text } : null;
}

async function loaded(model, picture, signal) {
  if (session.details.has(model)) return;
  if (isReady(model)) {
    describe(model).then(session.changed, () => {}); // beside the answer, not before it
    return;
  }
  const failed = await api.predict(picture.files, model, signal).then(() => null, (error) => error);
  await lookAgain(); // it may have failed to load, or refuse the picture
  if (failed && (failed.name === "AbortError" || !isReady(model))) throw failed; // else it lacks a text, or will say it again
  await describe(model);
}

export function describe(model) {
  if (!describing.has(model)) {
    const learn = async () => {
      const detail = await api.model(model);
      if (detail.state === "ready") session.details.set(model, detail);
    };
    describing.set(model, learn().finally(() => describing.delete(model)));
  }
  return describing.get(model);
}

/** See which models there are. */
export async function lookAround() {
  const listed = await api.models();
  session.models = listed.models;
  session.standard = resolved(listed.default) ?? "";
  if (session.models.some((one) => one.state === "loading")) setTimeout(lookAgain, POLLING);
}

export async function lookAgain() {
  await lookAround().catch(() => {});
  session.changed();
}

/** The version, as name@version, that a reference means; undefined if there is none. */
export function resolved(reference) {
  const [name, wanted] = reference.split("@");
  const versions = session.models.filter((one) => one.name === name);
  const found = wanted
    ? versions.find((one) => one.version === wanted || one.aliases.includes(wanted))
    : (versions.findLast((one) => one.state === "ready") ?? versions.at(-1));
  return found && keyOf(found);
}

/** What a model is compared with unless something is chosen: one that is known to take the same pictures, if there is one. */
export function otherThan(model) {
  const others = session.models.filter((one) => keyOf(one) !== model);
  if (others.some((one) => keyOf(one) === session.state.other)) return session.state.other;
  const bands = modelOf(model)?.input?.channels;
  const best = others.find((one) => one.input?.channels === bands) ?? others.find((one) => one.state !== "failed") ?? others[0];
  return best ? keyOf(best) : "";
}
