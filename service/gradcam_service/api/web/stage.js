/* The stage: one tile for each map that is compared, and the work of getting them. */

import { $, element } from "./dom.js";
import { Tile } from "./tile.js";

const AT_ONCE = 3; // requests; the service batches what arrives together

/**
 * A question on the stage: {key, model, method, layer, target, title, slow: whether it waits until it is asked for,
 * cost, note, doing: words about it}. `ask(question, signal)` answers it; `known(question)` is its answer if it has been.
 */
export class Stage {
  constructor({ ask, known, style, name, answered, failed, finished }) {
    Object.assign(this, { ask, known, style, name, answered, failed, finished });
    this.tiles = new Map();
    this.errors = new Map(); // by question, until it is asked again
    this.questions = [];
    this.running = null;
    $("cancel").addEventListener("click", () => this.cancel());
  }

  /** Show these questions about a picture, and answer those that don't wait. */
  async show(picture, questions) {
    this.cancel();
    if (picture !== this.picture) {
      this.tiles.clear();
      this.errors.clear();
    }
    this.picture = picture;
    this.questions = questions;
    const keep = new Set(questions.map(({ key }) => key));
    for (const key of this.tiles.keys()) if (!keep.has(key)) this.tiles.delete(key);
    for (const question of questions) if (!this.tiles.has(question.key)) this.tiles.set(question.key, this.tile(question));
    const wanted = questions.map(({ key }) => this.tiles.get(key).element);
    const present = [...$("tiles").children];
    if (wanted.length !== present.length || wanted.some((one, i) => one !== present[i])) $("tiles").replaceChildren(...wanted);
    $("tiles").dataset.count = questions.length;
    this.settle();
    await this.run(questions.filter((question) => !question.slow && !this.known(question)));
  }

  /** Answer these, a few at once, with progress and a way to stop. */
  async run(questions) {
    if (!questions.length) return;
    this.cancel();
    const running = (this.running = new AbortController());
    const waiting = [...questions];
    for (const question of questions) {
      this.errors.delete(question.key);
      this.wait(question, "busy", element("p", {}, "…"));
    }
    const stop = this.progress(questions);
    const work = async () => {
      while (waiting.length && !running.signal.aborted) {
        await this.answer(waiting.shift(), running);
        stop.step();
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    for (const question of waiting) this.cancelled(question, running);
    stop.end();
    if (this.running === running) this.running = null;
    this.finished();
  }

  /** Stop what is running. */
  cancel() {
    this.running?.abort();
    this.running = null;
  }

  restyle() {
    for (const tile of this.tiles.values()) tile.restyle(this.style());
  }

  async answer(question, running) {
    try {
      const answer = await this.ask(question, running.signal);
      this.answered(question, answer);
    } catch (error) {
      if (error.name === "AbortError") this.cancelled(question, running);
      else {
        this.errors.set(question.key, error);
        this.offer(question, error.message, "error", error.mayPass ? "Try again" : "");
        this.failed(error);
      }
    }
  }

  /** Offer to run it after all, unless what runs now is something else. */
  cancelled(question, running) {
    if (this.running === null || this.running === running) this.offer(question, "Cancelled.");
  }

  /** Those that wait until they are asked for. */
  waiting() {
    return this.questions.filter((question) => question.slow && !this.known(question));
  }

  /** Bring every tile up to date with what is known. */
  settle() {
    for (const question of this.questions) this.settleOne(question);
  }

  settleOne(question) {
    const tile = this.tiles.get(question.key);
    const answer = this.known(question);
    tile.label({ title: question.title(answer), note: question.note(answer) });
    if (answer) tile.show(answer, this.sharpness(), this.style());
    else if (question.slow && !tile.element.dataset.state) this.offer(question, `Takes ${question.cost}.`, "slow", "Run");
  }

  sharpness() {
    const side = this.questions.length <= 1 ? 640 : this.questions.length <= 4 ? 440 : 280;
    return Math.min(1024, side * Math.min(window.devicePixelRatio || 1, 2));
  }

  offer(question, text, kind = "cancelled", action = "Run it") {
    const again = { onclick: () => this.run([question]), "aria-label": `${action}: ${question.title()}` };
    this.wait(question, kind, element("p", {}, text), ...(action ? [element("button", again, action)] : []));
  }

  wait(question, kind, ...content) {
    this.tiles.get(question.key)?.wait(kind, ...content);
  }

  tile(question) {
    const probe = (place) => [...this.tiles.values()].map((tile) => [tile.caption.title, tile.probe(place)])
      .filter(([, text]) => text).map(([title, text]) => (this.tiles.size > 1 ? `${title}: ${text}` : text)).join("; ");
    return new Tile(this.picture, { title: question.title() }, { probe, name: () => this.name(question) });
  }

  /** The line that says what is being worked on, and for how long. */
  progress(questions) {
    const start = performance.now();
    let done = 0;
    const many = questions.length > 1;
    const bar = $("progress-bar");
    const tell = () => {
      const seconds = (performance.now() - start) / 1000;
      if (many) Object.assign(bar, { max: questions.length, value: done });
      else bar.removeAttribute("value");
      const what = many ? `${done} of ${questions.length} maps` : questions[0].doing();
      $("progress-text").textContent = `${what} · ${seconds < 10 ? seconds.toFixed(1) : seconds.toFixed(0)} s`;
    };
    const appear = setTimeout(() => { // what is quick needs no words
      tell();
      $("progress").hidden = false;
    }, 250);
    const ticking = setInterval(tell, 100);
    this.ended?.();
    const end = () => {
      clearTimeout(appear);
      clearInterval(ticking);
      if (this.ended === end) $("progress").hidden = true;
    };
    this.ended = end;
    return { end, step: () => (done += 1) };
  }
}
