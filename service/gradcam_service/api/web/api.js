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
export async function predict(picture, reference, signal) {
  const query = new URLSearchParams({ model: reference, timeout_ms: "600000" });
  await send(`predict?${query}`, picture, signal);
}

/**
 * A file that a model takes, as the service draws it: {blob, width, height}, which are the file's own where the drawing is
 * smaller. `method` is any that explains the model.
 */
export async function drawn(file, { model, method }) {
  const query = new URLSearchParams({ model, method, output: "overlay", alpha: "0", max_side: "4096", timeout_ms: "600000" });
  const [result] = (await (await send(`explain?${query}`, file)).json()).results;
  const [{ overlay, image_size: [width, height] }] = result.explanations;
  return { blob: new Blob([bytesOf(overlay.data)], { type: overlay.media_type }), width, height };
}

/**
 * What a model sees in a picture, and where it looks for one class.
 *
 * question: {model, method, layer, target}; a target is a class's index or JSON text, null means the top-1 class.
 * Returns {predictions, explanation, warnings, model, timing: [[stage, ms]], roundTrip: ms}.
 */
export async function explain(picture, question, signal) {
  const query = new URLSearchParams({ model: question.model, method: question.method, layer: question.layer });
  query.set("output", "map");
  query.set("timeout_ms", "600000");
  if (question.target !== null) query.set("target", question.target);
  const start = performance.now();
  const response = await send(`explain?${query}`, picture, signal);
  const body = await response.json();
  const [result] = body.results;
  return {
    predictions: result.predictions,
    explanation: result.explanations[0],
    warnings: result.warnings ?? [],
    model: body.model,
    timing: serverTiming(response.headers.get("Server-Timing") ?? ""),
    roundTrip: performance.now() - start,
  };
}

function send(path, picture, signal) {
  const type = picture.type.startsWith("image/") ? picture.type : "application/octet-stream";
  return call(path, { method: "POST", body: picture, headers: { "Content-Type": type }, signal });
}

/** What is written as base64. */
export const bytesOf = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

function serverTiming(header) {
  return [...header.matchAll(/([a-z]+);dur=([0-9.]+)/g)].map(([, stage, ms]) => [stage, Number(ms)]);
}
