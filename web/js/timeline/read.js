// Timelines as text: what they say and what is wrong with them. Reads as
// adastate_core/stream/timeline.py does; tests/golden/timeline_cases.json holds both to it.

import { later, tr } from "../words.js";

/**
 * @typedef {object} Cue
 * @property {number} line number of its line, from 1
 * @property {number} start chunk, or seconds
 * @property {boolean} in_seconds which of the two
 * @property {string} text the prompt
 * @property {"swap"|"blend"|"recache"|"flush"} transition
 * @property {number} count chunks of a blend, frames of a flush, else 0
 * @property {number} from where its head begins in the line, without blanks
 * @property {number} to where its head ends in the line, before the colon and blanks before it
 * @property {number} at where its prompt begins in the line, after the colon
 */

/** @typedef {[line: number, sentence: string]} Problem line 0 is the whole timeline */

/** @typedef {{chunk_frames: number, time_stride: number, fps: number}} Pace */

export const TRANSITIONS = ["swap", "blend", "recache", "flush"];
/** What the number of a transition counts. */
export const COUNTED = { blend: later("chunks"), flush: later("frames") };
export const MOST = 64;

// Python's blanks and ends of lines, which are not quite JavaScript's.
const S =
    "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";
const LINE_END = /\r\n|[\n\v\f\r\x1c-\x1e\x85\u2028\u2029]/g;
const BLANKS = new RegExp(`${S}+`, "g");
const OUTER_BLANKS = new RegExp(`^${S}+|${S}+$`, "g");

// All of these are matched against what `plain` makes of a line.
const HOW = `(?:${S}+(?<how>[a-z]+)(?:${S}+(?<count>[0-9]{1,9}))?)?`;
const HEAD = new RegExp(
    `^(?<chunk>chunk${S}+)?(?<number>[0-9]{1,9}(?:\\.[0-9]{1,9})?)${S}*(?<unit>s?)${HOW}$`,
);
const CLOCK = "[0-9]{1,9}(?::[0-9]{2}){1,2}(?:\\.[0-9]{1,9})?";
const CLOCK_LINE = new RegExp(`^${S}*(?<clock>${CLOCK})${S}*s?${HOW}${S}*:(?![0-9])`);
const DOUBTFUL = new RegExp(
    `^${S}*[0-9]+${S}*:(?:[0-9]{2}(?![\\p{L}\\p{N}_])|[0-9]+[:.,][0-9]|[0-9]+${S}*` +
        `(?:s|sec|m|min|h)?(?:${S}+(?:swap|recache)|${S}+(?:blend|flush)${S}+[0-9]+)?${S}*:)`,
    "u",
);
const CHUNK_CLOCK = new RegExp(`^${S}*chunk${S}+${CLOCK}${S}*s?${HOW}${S}*:`);

/** Return the lines of a text, each with the characters that end it. */
export function linesOf(text) {
    const lines = [];
    let begin = 0;
    for (const found of text.matchAll(LINE_END)) {
        lines.push({ text: text.slice(begin, found.index), end: found[0] });
        begin = found.index + found[0].length;
    }
    if (begin < text.length) lines.push({ text: text.slice(begin), end: "" });
    return lines;
}

/** Return a text without blanks at both ends. */
export function strip(text) {
    return text.replace(OUTER_BLANKS, "");
}

/**
 * Read what can be read of a timeline.
 * @param {string} text
 * @returns {{cues: Cue[], problems: Problem[]}}
 */
export function readTimeline(text) {
    const cues = [];
    const problems = [];
    linesOf(text).forEach(({ text: line }, index) => {
        const bare = strip(line);
        if (!bare || bare.startsWith("#")) return;
        try {
            cues.push({ line: index + 1, ...readLine(line) });
        } catch (error) {
            if (!(error instanceof LineError)) throw error;
            problems.push([index + 1, error.message]);
        }
    });
    if (!cues.length && !problems.length) {
        const problem = tr("The timeline has no prompt");
        const remedy = tr("write a line such as 0: a red circle moves left");
        problems.push([0, sentence(problem, remedy)]);
    }
    return { cues, problems };
}

/**
 * Return the chunk of a moment.
 * @param {Pace} pace
 * @param {number} seconds
 */
export function chunkAt(pace, seconds) {
    const frame = Math.floor(seconds * pace.fps + 1e-6);
    const first = pace.time_stride * (pace.chunk_frames - 1) + 1;
    if (frame < first) return 0;
    return 1 + Math.floor((frame - first) / (pace.time_stride * pace.chunk_frames));
}

/**
 * Return when a chunk of a stream begins in its video.
 * @param {Pace} pace
 * @param {number} chunk
 */
export function secondsAt(pace, chunk) {
    if (chunk <= 0) return 0;
    return (chunk * pace.chunk_frames * pace.time_stride - (pace.time_stride - 1)) / pace.fps;
}

/** Return the chunk that a cue begins with. */
export function chunkOf(cue, pace) {
    return cue.in_seconds ? chunkAt(pace, cue.start) : cue.start;
}

/**
 * Return what is wrong with the order of lines.
 * @param {Cue[]} cues
 * @param {Pace} pace
 * @param {number|null} first number of the first chunk to be made, where it is known
 * @returns {Problem[]}
 */
export function orderProblems(cues, pace, first = null) {
    const starts = cues.map((cue) => chunkOf(cue, pace));
    const problems = [];
    for (let i = 1; i < cues.length; i += 1) {
        if (starts[i] > starts[i - 1]) continue;
        const said = { chunk: starts[i], line: cues[i - 1].line, other: starts[i - 1] };
        const problem = tr("it begins with chunk <chunk>, and line <line> with chunk <other>", said);
        const remedy = tr("let it begin later than the line above");
        problems.push([cues[i].line, sentence(problem, remedy)]);
    }
    if (first !== null && starts.length && starts[0] > first) {
        const problem = tr(
            "it begins with chunk <chunk>, but the first chunk to be made is <first>",
            { chunk: starts[0], first },
        );
        const remedy = tr("add a line that begins with chunk <first>", { first });
        problems.push([cues[0].line, sentence(problem, remedy)]);
    }
    return problems;
}

class LineError extends Error {
    constructor(problem, remedy) {
        super(sentence(problem, remedy));
    }
}

function sentence(problem, remedy) {
    return tr("<problem>. <remedy>.", { problem: capital(problem), remedy: capital(remedy) });
}

function capital(text) {
    return text.slice(0, 1).toUpperCase() + text.slice(1);
}

/** Return a line in lower case with plain digits and colons, each at its place. */
function plain(line) {
    return line.replace(/[A-Z\uff10-\uff19\uff0e\uff1a]/g, (one) =>
        one <= "Z" ? one.toLowerCase() : String.fromCharCode(one.charCodeAt(0) - 0xfee0),
    );
}

function readLine(line) {
    const seen = plain(line);
    const clock = CLOCK_LINE.exec(seen);
    const colon = clock ? clock[0].length - 1 : headEnd(seen, line);
    const head = strip(seen.slice(0, colon));
    const found = clock ?? HEAD.exec(head);
    if (!found) {
        const remedy = tr("begin the line with 4, 6.5s or 1:10, and a transition if you like");
        const said = short(line.slice(0, colon));
        throw new LineError(tr('"<text>" is not a chunk or a time', { text: said }), remedy);
    }
    const { number, unit, chunk, how, count } = found.groups;
    if (!clock && chunk && unit) throw both(head);
    if (!clock && !unit && number.includes(".")) {
        const remedy = tr("write <number>s if you mean seconds", { number });
        throw new LineError(tr("chunk <number> is not a whole number", { number }), remedy);
    }
    const start = clock ? secondsOf(found.groups.clock) : Number(number);
    const text = strip(line.slice(colon + 1));
    if (!text) throw new LineError(tr("there is no prompt"), tr("write one after the colon"));
    const from = seen.search(/[a-z0-9]/);
    return {
        start,
        in_seconds: Boolean(clock || unit),
        text,
        ...transitionOf(how, count),
        from,
        to: from + head.length,
        at: colon + 1,
    };
}

function headEnd(seen, line) {
    if (CHUNK_CLOCK.test(seen)) throw both(line);
    if (DOUBTFUL.test(seen)) {
        throw new LineError(
            tr('"<text>" can be read as a time or as a chunk', { text: short(line) }),
            tr(
                "put a colon after a time, as in 1:10: people, or a space before a prompt that " +
                    "begins with a number, as in 1: 10 people",
            ),
        );
    }
    const colon = seen.indexOf(":");
    if (colon < 0) {
        throw new LineError(tr("there is no colon"), tr("put one between the time and the prompt"));
    }
    return colon;
}

function secondsOf(clock) {
    const parts = clock.split(":").map(Number);
    const seconds = parts.pop();
    if (seconds >= 60 || (parts.length === 2 && parts[1] >= 60)) {
        const remedy = tr("keep minutes and seconds below 60");
        throw new LineError(tr("<text> is not a time", { text: clock }), remedy);
    }
    const [hours, minutes] = parts.length === 2 ? parts : [0, parts[0]];
    return 3600 * hours + 60 * minutes + seconds;
}

function transitionOf(how, count) {
    const name = how ?? "swap";
    if (!TRANSITIONS.includes(name)) {
        const remedy = tr("use swap, blend, recache or flush");
        throw new LineError(tr('"<name>" is not a transition', { name }), remedy);
    }
    const counted = COUNTED[name];
    if (counted && count === undefined) {
        const said = { name, things: tr(counted) };
        const remedy = tr("write <name> 2 for 2 <things>, for example", said);
        throw new LineError(tr("<name> has no number", said), remedy);
    }
    if (counted && !(Number(count) >= 1 && Number(count) <= MOST)) {
        const remedy = tr("use 1 to <most> <things>", { most: MOST, things: tr(counted) });
        const said = { name, count: Number(count) };
        throw new LineError(tr("<name> <count> is out of range", said), remedy);
    }
    if (!counted && count !== undefined) {
        const problem = tr("<name> takes no number", { name });
        throw new LineError(problem, tr("write <name> alone", { name }));
    }
    return { transition: name, count: Number(count ?? 0) };
}

function both(head) {
    const problem = tr('"<text>" is a chunk and a time at once', { text: short(head) });
    return new LineError(problem, tr("give one of them"));
}

function short(text) {
    const words = Array.from(strip(text).replace(BLANKS, " "));
    return words.length <= 40 ? words.join("") : `${words.slice(0, 37).join("")}...`;
}
