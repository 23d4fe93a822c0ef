// Edits of a timeline's text. Each returns the new text and leaves all other lines as they are.

import { COUNTED, MOST, chunkAt, chunkOf, linesOf, readTimeline, secondsAt, strip } from "./read.js";

/** @typedef {import("./read.js").Cue} Cue */
/** @typedef {import("./read.js").Pace} Pace */

/**
 * Return how a line's head is written.
 * @param {Pick<Cue, "start"|"in_seconds"|"transition"|"count">} cue
 * @param {string} [form] the head as it was, whose way of writing is kept
 */
export function headOf({ start, in_seconds, transition = "swap", count = 0 }, form = "") {
    const when = in_seconds ? writeSeconds(start, form) : `${chunkWord(form)}${Math.round(start)}`;
    if (transition === "swap") return when;
    return COUNTED[transition] ? `${when} ${transition} ${count}` : `${when} ${transition}`;
}

/**
 * Return a text that says these cues, one a line.
 * @param {Cue[]} cues
 */
export function writeTimeline(cues) {
    return cues.map((cue) => `${headOf(cue)}: ${cue.text}`).join("\n");
}

/** Let a line begin with another chunk, in the way it is written. */
export function moveLine(text, line, chunk, pace) {
    return changeLine(text, line, (cue) => {
        if (chunk === chunkOf(cue, pace)) return cue;
        return { ...cue, start: cue.in_seconds ? timeOf(pace, chunk) : chunk };
    });
}

/** Change the transition of a line. */
export function setTransition(text, line, transition, count) {
    const kept = COUNTED[transition] ? Math.min(MOST, Math.max(1, Math.round(count) || 1)) : 0;
    return changeLine(text, line, (cue) => ({ ...cue, transition, count: kept }));
}

/** Change the prompt of a line; an empty one leaves it as it was. */
export function setPrompt(text, line, prompt) {
    const words = oneLine(prompt);
    const cue = cueOf(text, line);
    if (!cue || !words || words === cue.text) return text;
    return replaceLine(text, line, (old) => {
        const after = old.slice(cue.at);
        const blanks = after.slice(0, after.indexOf(cue.text));
        // A prompt that begins with a number must not become part of a time.
        return old.slice(0, cue.at) + (blanks || " ") + words;
    });
}

/** Replace a whole line, as where it could not be read. */
export function setLine(text, line, words) {
    return replaceLine(text, line, () => oneLine(words));
}

/** Remove a line. */
export function deleteLine(text, line) {
    const lines = linesOf(text);
    const [gone] = lines.splice(line - 1, 1);
    // The end of the last line goes, not that of the one that was removed.
    if (gone && lines.length && !gone.end) lines.at(-1).end = "";
    return joined(lines);
}

/**
 * Add a line that begins with a chunk, after those that begin earlier.
 * @returns {{text: string, line: number}}
 */
export function addLine(text, chunk, prompt, pace) {
    const { cues } = readTimeline(text);
    const before = cues.filter((cue) => chunkOf(cue, pace) < chunk).at(-1);
    const model = before ?? cues[0];
    const form = model ? linesOf(text)[model.line - 1].text.slice(model.from, model.to) : "";
    const in_seconds = model?.in_seconds ?? false;
    const start = in_seconds ? timeOf(pace, chunk) : chunk;
    const head = headOf({ start, in_seconds }, form);
    const lines = linesOf(text);
    const next = cues.find((cue) => chunkOf(cue, pace) >= chunk);
    const at = before ? before.line : next ? next.line - 1 : lines.length;
    const end = lines.find((line) => line.end)?.end ?? "\n";
    if (at > 0 && !lines[at - 1].end) lines[at - 1].end = end;
    const last = at === lines.length;
    lines.splice(at, 0, { text: `${head}: ${oneLine(prompt)}`, end: last ? "" : end });
    return { text: joined(lines), line: at + 1 };
}

/** Return the shortest time, to a hundredth where that is enough, at which a chunk begins. */
export function timeOf(pace, chunk) {
    const exact = secondsAt(pace, chunk);
    for (const digits of [1, 2, 3, 6, 9]) {
        const scale = 10 ** digits;
        const seconds = Math.ceil(exact * scale - 1e-9) / scale;
        if (chunkAt(pace, seconds) === chunk) return seconds;
    }
    return exact;
}

function changeLine(text, line, change) {
    const cue = cueOf(text, line);
    if (!cue) return text;
    const changed = change(cue);
    if (same(changed, cue)) return text;
    return replaceLine(text, line, (old) => {
        const head = headOf(changed, old.slice(cue.from, cue.to));
        const rest = old.slice(cue.to);
        // "1:10 people": what follows the colon of a chunk must not make it a time.
        const glued = /^[^:\uff1a]*[:\uff1a][0-9\uff10-\uff19]/.test(rest);
        return old.slice(0, cue.from) + head + (glued ? rest.replace(/[:\uff1a]/, ": ") : rest);
    });
}

function same(one, other) {
    return ["start", "in_seconds", "transition", "count"].every((key) => one[key] === other[key]);
}

function cueOf(text, line) {
    return readTimeline(text).cues.find((cue) => cue.line === line);
}

function replaceLine(text, line, change) {
    const lines = linesOf(text);
    if (lines[line - 1]) lines[line - 1].text = change(lines[line - 1].text);
    return joined(lines);
}

function joined(lines) {
    return lines.map((line) => line.text + line.end).join("");
}

function oneLine(text) {
    return strip(linesOf(text).map((line) => strip(line.text)).join(" "));
}

function chunkWord(form) {
    return /^chunk\b/i.test(form) ? `${form.slice(0, 5)} ` : "";
}

function writeSeconds(start, form) {
    const seconds = Number(start.toFixed(9));
    if (!/^[0-9\uff10-\uff19]+[:\uff1a]/.test(form)) return `${plainNumber(seconds)}s`;
    const whole = Math.floor(seconds);
    const rest = seconds - whole;
    const part = rest > 5e-10 ? plainNumber(Number(rest.toFixed(9))).slice(1) : "";
    const two = (number) => String(number).padStart(2, "0");
    const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60)];
    const long = form.split(/[:\uff1a]/).length > 2;
    const front = long ? `${hours}:${two(minutes % 60)}` : String(minutes);
    return `${front}:${two(whole % 60)}${part}`;
}

/** Write a number without an exponent. */
function plainNumber(number) {
    return number.toFixed(9).replace(/\.?0+$/, "") || "0";
}
