// Timelines as text: what they say and what is wrong with them. Reads as
// adastate_core/stream/timeline.py does; tests/golden/timeline_cases.json holds both to it.

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
export const COUNTED = { blend: "chunks", flush: "frames" };
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
        const problem = "The timeline has no prompt";
        problems.push([0, sentence(problem, "write a line such as 0: a red circle moves left")]);
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
        const problem = `it begins with chunk ${starts[i]}, and line ${cues[i - 1].line} with chunk`;
        const remedy = "let it begin later than the line above";
        problems.push([cues[i].line, sentence(`${problem} ${starts[i - 1]}`, remedy)]);
    }
    if (first !== null && starts.length && starts[0] > first) {
        const problem = `it begins with chunk ${starts[0]}, but the first chunk to be made is`;
        const remedy = `add a line that begins with chunk ${first}`;
        problems.push([cues[0].line, sentence(`${problem} ${first}`, remedy)]);
    }
    return problems;
}

class LineError extends Error {
    constructor(problem, remedy) {
        super(sentence(problem, remedy));
    }
}

function sentence(problem, remedy) {
    return `${capital(problem)}. ${capital(remedy)}.`;
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
        const remedy = "begin the line with 4, 6.5s or 1:10, and a transition if you like";
        throw new LineError(`"${short(line.slice(0, colon))}" is not a chunk or a time`, remedy);
    }
    const { number, unit, chunk, how, count } = found.groups;
    if (!clock && chunk && unit) throw both(head);
    if (!clock && !unit && number.includes(".")) {
        const remedy = `write ${number}s if you mean seconds`;
        throw new LineError(`chunk ${number} is not a whole number`, remedy);
    }
    const start = clock ? secondsOf(found.groups.clock) : Number(number);
    const text = strip(line.slice(colon + 1));
    if (!text) throw new LineError("there is no prompt", "write one after the colon");
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
            `"${short(line)}" can be read as a time or as a chunk`,
            "put a colon after a time, as in 1:10: people, or a space before a prompt that begins " +
                "with a number, as in 1: 10 people",
        );
    }
    const colon = seen.indexOf(":");
    if (colon < 0) throw new LineError("there is no colon", "put one between the time and the prompt");
    return colon;
}

function secondsOf(clock) {
    const parts = clock.split(":").map(Number);
    const seconds = parts.pop();
    if (seconds >= 60 || (parts.length === 2 && parts[1] >= 60)) {
        throw new LineError(`${clock} is not a time`, "keep minutes and seconds below 60");
    }
    const [hours, minutes] = parts.length === 2 ? parts : [0, parts[0]];
    return 3600 * hours + 60 * minutes + seconds;
}

function transitionOf(how, count) {
    const name = how ?? "swap";
    if (!TRANSITIONS.includes(name)) {
        throw new LineError(`"${name}" is not a transition`, "use swap, blend, recache or flush");
    }
    const counted = COUNTED[name];
    if (counted && count === undefined) {
        const remedy = `write ${name} 2 for 2 ${counted}, for example`;
        throw new LineError(`${name} has no number`, remedy);
    }
    if (counted && !(Number(count) >= 1 && Number(count) <= MOST)) {
        const remedy = `use 1 to ${MOST} ${counted}`;
        throw new LineError(`${name} ${Number(count)} is out of range`, remedy);
    }
    if (!counted && count !== undefined) {
        throw new LineError(`${name} takes no number`, `write ${name} alone`);
    }
    return { transition: name, count: Number(count ?? 0) };
}

function both(head) {
    return new LineError(`"${short(head)}" is a chunk and a time at once`, "give one of them");
}

function short(text) {
    const words = Array.from(strip(text).replace(BLANKS, " "));
    return words.length <= 40 ? words.join("") : `${words.slice(0, 37).join("")}...`;
}
