/* The service's public HTTP API, as this page uses it. */

let key = "";

/** Use this API key from now on. It is kept here, in memory, and nowhere else. */
export function useKey(value) {
  key = value;
}

export function hasKey() {
  return key !== "";
}

/** What the service, or the way to it, said was wrong; `code` as in the API, or "unreachable". */
export class Problem extends Error {
  constructor(code, detail, status = 0) {
    super(detail);
    this.code = code;
    this.status = status;
  }

  /** Whether the same may be answered another time: nothing was wrong with what was asked. */
  get mayPass() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

async function call(path, options = {}) {
  const headers = { ...options.headers };
  if (key) headers.Authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("unreachable", "The service can’t be reached. Is it running, and is this device online?");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  const detail = body.detail ?? `The service answered ${response.status} ${response.statusText}.`;
  throw new Problem(body.code ?? "http", detail, response.status);
}

/** Every model version and its state. */
export async function models(signal) {
  return (await call("models", { signal })).json();
}

/** One model version: its labels, layers and methods. */
export async function model(reference, signal) {
  return (await call(`models/${encodeURIComponent(reference)}`, { signal })).json();
}

/** Have a model answer without an explanation, which loads it where it isn't loaded yet. */
export async function predict(files, reference, signal) {
  const query = new URLSearchParams({ model: reference, timeout_ms: "600000" });
  await send(`predict?${query}`, files, signal);
}

/**
 * Files that a model takes, as the service draws them: {blob, width, height}, which are the files' own where the drawing is
 * smaller. question: {model, method, target, text}, the method any that explains the model.
 */
export async function drawn(files, { model, method, target, text }) {
  const query = asking({ model, method, target, text }, { output: "overlay", alpha: "0", max_side: "4096" });
  const [result] = (await (await send(`explain?${query}`, files)).json()).results;
  const [{ overlay, image_size: [width, height] }] = result.explanations;
  return { blob: new Blob([bytesOf(overlay.data)], { type: overlay.media_type }), width, height };
}

/**
 * What a model sees in a picture, and where it looks for one class, or for each word of a caption.
 *
 * files: of a picture, or of its frames, oldest first. question: {model, method, layer, target, text}; an empty method
 * means the model's own; a target is a class's index or JSON text, null means the top-1 class or every word; text is
 * {option, written}, null for none.
 * Returns a list of {result, explanation, warnings, model, timing: [[stage, ms]], roundTrip: ms}.
 */
export async function explain(files, question, signal) {
  const start = performance.now();
  const response = await send(`explain?${asking(question, { output: "map" })}`, files, signal);
  const { results: [result], model } = await response.json();
  const { explanations, warnings = [] } = result;
  const timing = serverTiming(response.headers.get("Server-Timing") ?? "");
  const shared = { result, warnings, model, timing, roundTrip: performance.now() - start };
  if (!explanations.length) throw new Problem("empty", "The model says nothing of this picture.");
  return explanations.map((explanation) => ({ ...shared, explanation }));
}

/** Options of a request as a query; what is empty is the service's to choose. */
function asking({ model, method, layer, target, text }, others) {
  const query = new URLSearchParams({ model, ...others, timeout_ms: "600000" });
  if (text) query.set(text.option, text.written);
  for (const [name, value] of Object.entries({ method, layer, target })) if ((value ?? "") !== "") query.set(name, value);
  return query;
}

function send(path, files, signal) {
  const [file] = files;
  if (files.length === 1) {
    const type = file.type.startsWith("image/") ? file.type : "application/octet-stream";
    return call(path, { method: "POST", body: file, headers: { "Content-Type": type }, signal });
  }
  const body = new FormData();
  for (const frame of files) body.append("frames", frame);
  return call(path, { method: "POST", body, signal });
}

/** What is written as base64. */
export const bytesOf = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

function serverTiming(header) {
  return [...header.matchAll(/([a-z]+);dur=([0-9.]+)/g)].map(([, stage, ms]) => [stage, Number(ms)]);
}
