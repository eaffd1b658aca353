/* What is shown, as commands that anyone can run. */

import { DEFAULT_COLORMAP } from "./state.js";
import { SHARPEST } from "./tile.js";

const KEY = "GRADCAM_API_KEY"; // as for the command line and the load test
const USUAL_SIDE = 1024; // pixels of the longest side, above which the API reduces pictures where nothing is said

/**
 * asked: [{model, method, layer, target: index or JSON text, label, text: {option, written} or null}], everything on the stage.
 * picture: {files, example: whether this service has it, width, height}. view: {show, opacity, colormap, box, threshold}, how
 * it is shown.
 * Where a key is needed, it is named and never written out.
 */
export function curl({ asked, picture, view, needsKey, origin }) {
  const lines = [...(needsKey ? [`# put your API key into ${KEY} first`] : []), ...boxless(view)];
  const key = needsKey ? `-H "Authorization: Bearer $${KEY}" ` : "";
  const names = picture.files.map(({ name }) => name);
  if (picture.example) lines.push(`curl -sSf ${origin}web/examples/${names[0]} -o ${names[0]}`);
  for (const one of asked) {
    const options = [...names.map((name) => [part(names), `@${attached(name)}`]), ...question(one), ...drawing(view, picture)];
    const fields = options.map(([name, value]) => `-F ${quoted(`${name}=${value}`)}`).join(" ");
    lines.push(`curl -sSf -H 'Accept: image/png' ${key}\\\n  ${fields} \\\n  ${origin}explain -o ${quoted(file(one, asked))}`);
  }
  return lines.join("\n");
}

/** A program that asks the same. */
export function python({ asked, picture, view, needsKey, origin }) {
  const names = picture.files.map(({ name }) => name);
  const dictionary = (options) => `{${options.map(([name, value]) => `"${name}": ${literal(String(value))}`).join(", ")}}`;
  const key = needsKey ? `, "Authorization": f"Bearer {os.environ['${KEY}']}"` : "";
  return [
    ...(needsKey ? ["import os"] : []),
    "from pathlib import Path",
    "",
    "import httpx",
    "",
    ...boxless(view),
    `service = ${literal(origin)}`,
    `headers = {"Accept": "image/png"${key}}`,
    `view = ${dictionary(drawing(view, picture))}`,
    "questions = [",
    ...asked.map((one) => `    (${literal(file(one, asked))}, ${dictionary(question(one))}),`),
    "]",
    picture.example
      ? `picture = [("image", httpx.get(service + "web/examples/${names[0]}").content)]`
      : `picture = [("${part(names)}", Path(name).read_bytes()) for name in ${literal(names)}]`,
    "for file, question in questions:",
    `    asked = {"files": picture, "data": question | view, "headers": headers, "timeout": 600}`,
    `    answer = httpx.post(service + "explain", **asked).raise_for_status()`,
    `    Path(file).write_bytes(answer.content)`,
    "",
  ].join("\n");
}

/** What the parts of a form with these files are called. */
const part = (names) => (names.length === 1 ? "image" : "frames");

/** What the service draws on no picture, and where it is. */
function boxless({ box, threshold }) {
  return box ? [`# the box is in the JSON that boxes=true and threshold=${threshold} return without Accept`] : [];
}

/** What is asked, as names and values of options. */
function question({ model, method, layer, target, text }) {
  return [["model", model], ...(text ? [[text.option, text.written]] : []), ["method", method], ...(layer === "auto" ? [] : [["layer", layer]]), ["target", target]];
}

/** How it is drawn, as names and values of options. */
function drawing({ show, opacity, colormap }, { width, height }) {
  const drawn =
    show === "map"
      ? [["output", "heatmap"], ["blend", "even"]]
      : [["output", "overlay"], ["blend", "level"], ["alpha", opacity], ["outline", true]];
  if (colormap !== DEFAULT_COLORMAP) drawn.push(["colormap", colormap]);
  const side = Math.max(width, height);
  return side > USUAL_SIDE ? [...drawn, ["max_side", SHARPEST]] : drawn;
}

/** A file name that tells what of the stage it is. */
export function file(one, asked) {
  const differs = (name) => asked.some((other) => other[name] !== one[name]);
  const parts = [one.label, ...["method", "model"].filter(differs).map((name) => one[name])];
  return `${parts.join("-").replaceAll(/[^\p{L}\p{N}._@-]+/gu, "_") || "map"}.png`;
}

/** A file's name as curl's -F reads it, which takes ; and , for its own. */
function attached(name) {
  return /[;,"\\]/.test(name) ? `"${name.replaceAll(/["\\]/g, "\\$&")}"` : name;
}

/** For a POSIX shell. */
function quoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** For Python: JSON's strings are its too. */
const literal = (text) => JSON.stringify(text);
