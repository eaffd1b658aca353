"use strict";
const find = (selector) => document.querySelector(selector);
const { id, questions } = JSON.parse(find("#content").textContent);
const kept = `study-${id}`;
const END = questions.length;

/** One filling of the page: answers by the question's number, and the place of the question that is shown, −1 before. */
const anew = () => {
    const bytes = [...crypto.getRandomValues(new Uint8Array(8))];
    const filling = bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
    return { filling, participant: "", answers: {}, place: -1 };
};

function recalled() {
    try {
        return JSON.parse(localStorage.getItem(kept)) ?? anew();
    } catch {
        return anew();
    }
}

function keep() {
    try {
        localStorage.setItem(kept, JSON.stringify(state));
    } catch {
        find("#forgetful").hidden = false;
    }
}

let state = recalled();

function element(name, properties, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
}

function show(place) {
    state.place = place;
    keep();
    const section = place < 0 ? "begin" : place < END ? "question" : "end";
    for (const each of document.querySelectorAll("section")) each.hidden = each.id !== section;
    if (section === "question") ask(questions[place], String(place + 1));
    const answered = Object.keys(state.answers).length;
    find("#begin input").value = state.participant;
    find("#count").textContent = `${answered} of ${END} questions are answered.`;
    find("#go-on").hidden = answered === END;
    find("progress").value = answered;
    find(`#${section} h1`).focus();
    scrollTo(0, 0);
}

function ask(question, number) {
    find("#question h1").textContent = `Question ${number} of ${END}`;
    find("#prompt").textContent = question.prompt;
    find("#back").disabled = number === "1";
    find("#pictures").replaceChildren(...question.pictures.map(([caption, uri]) =>
        element("figure", {}, element("figcaption", { textContent: caption }),
            element("img", { src: uri, alt: caption ? "" : "The map that is asked about" }))));
    find("#answers").replaceChildren(...question.answers.map((answer, place) => {
        const checked = state.answers[number] === answer;
        const radio = element("input", { type: "radio", name: "answer", value: answer, required: true, checked });
        radio.addEventListener("change", () => {
            state.answers[number] = answer;
            keep();
        });
        return element("label", {}, radio, element("kbd", { textContent: place + 1, ariaHidden: "true" }), answer);
    }));
}

function firstOpen() {
    const place = questions.findIndex((_, each) => !(String(each + 1) in state.answers));
    return place < 0 ? END : place;
}

function save(kind, type, text) {
    const url = URL.createObjectURL(new Blob([text], { type }));
    element("a", { href: url, download: `answers-${id}-${state.filling}.${kind}` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
}

const head = () => ({ study: id, filling: state.filling, participant: state.participant, saved: new Date().toISOString() });

function asJson() {
    return `${JSON.stringify({ ...head(), answers: state.answers }, null, 2)}\n`;
}

function asCsv() {
    const quoted = (value) => `"${String(value).replaceAll('"', '""')}"`;
    const { study, filling, participant, saved } = head();
    const rows = Object.entries(state.answers).map((answer) => [study, filling, participant, saved, ...answer]);
    const lines = [["study", "filling", "participant", "saved", "question", "answer"], ...rows];
    return lines.map((line) => `${line.map(quoted).join(",")}\r\n`).join("");
}

find("#begin form").addEventListener("submit", (event) => {
    event.preventDefault();
    state.participant = event.target.participant.value.trim();
    show(firstOpen());
});
find("#question form").addEventListener("submit", (event) => {
    event.preventDefault();
    show(state.place + 1);
});
find("#back").addEventListener("click", () => show(state.place - 1));
find("#stop").addEventListener("click", () => show(END));
find("#go-on").addEventListener("click", () => show(firstOpen()));
find("#json").addEventListener("click", () => save("json", "application/json", asJson()));
find("#csv").addEventListener("click", () => save("csv", "text/csv", asCsv()));
find("#anew").addEventListener("click", () => {
    if (!confirm("Have you saved your answers? This page forgets them.")) return;
    state = anew();
    show(-1);
});
document.addEventListener("keydown", (event) => {
    if (find("#question").hidden || event.ctrlKey || event.altKey || event.metaKey) return;
    const radio = /^[1-9]$/.test(event.key) && document.querySelectorAll("#answers input")[event.key - 1];
    if (!radio) return;
    radio.click();
    radio.focus();
});
show(state.place);
