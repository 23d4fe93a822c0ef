// Where things stand on the time axis. Knows nothing of the page.

import { chunkOf, secondsAt } from "./read.js";

/** Pixels of a chunk below which the track scrolls instead of shrinking. */
const LEAST = 7;
const LABEL = 46;
const STEPS = [1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2000, 5000];
const SECONDS = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];

/**
 * @typedef {object} Block
 * @property {import("./read.js").Cue} cue
 * @property {number} begin the chunk it begins with
 * @property {number} end the chunk after its last
 * @property {number|null} next line of the block that follows
 */

/**
 * Return the blocks of a timeline, from left to right.
 * @param {import("./read.js").Cue[]} cues
 * @param {import("./read.js").Pace} pace
 * @param {number} end the chunk after the last that will be made
 * @returns {Block[]}
 */
export function blocksOf(cues, pace, end) {
    const sorted = cues
        .map((cue) => ({ cue, begin: chunkOf(cue, pace) }))
        .sort((one, other) => one.begin - other.begin || one.cue.line - other.cue.line);
    return sorted.map(({ cue, begin }, i) => {
        const next = sorted[i + 1];
        const stop = next ? next.begin : Math.max(end, begin + 2);
        return { cue, begin, end: Math.max(stop, begin), next: next?.cue.line ?? null };
    });
}

/** Return the chunks between which a block may begin, its neighbours being where they are. */
export function roomOf(blocks, index) {
    const before = blocks[index - 1];
    const after = blocks[index + 1];
    const least = before ? before.begin + 1 : 0;
    return [least, Math.max(least, after ? after.begin - 1 : Number.MAX_SAFE_INTEGER)];
}

/** Return the block that a chunk is made under: the last that has begun. */
export function blockAt(blocks, chunk) {
    return blocks.filter((block) => block.begin <= chunk).at(-1) ?? blocks[0] ?? null;
}

/**
 * Return the scale of an axis.
 * @param {number} chunks how many it shows
 * @param {number} width pixels there are
 */
export function scaleOf(chunks, width) {
    return Math.max(LEAST, width / Math.max(1, chunks));
}

/** Return the numbered chunks of a ruler. */
export function chunkTicks(chunks, scale) {
    const step = STEPS.find((one) => one * scale >= LABEL / 2) ?? STEPS.at(-1);
    const ticks = [];
    for (let chunk = 0; chunk < chunks; chunk += step) ticks.push({ at: chunk, text: `${chunk}` });
    return ticks;
}

/** Return the seconds of a ruler, each at its place in chunks. */
export function secondTicks(chunks, scale, pace) {
    const long = (pace.chunk_frames * pace.time_stride) / pace.fps;
    const step = SECONDS.find((one) => (one / long) * scale >= LABEL) ?? 3600;
    const ticks = [];
    const end = secondsAt(pace, chunks);
    for (let i = 0; i * step < end; i += 1) {
        ticks.push({ at: placeOf(pace, i * step), text: clock(i * step, step) });
    }
    return ticks;
}

/** Return the place of a moment on the axis, in chunks. */
export function placeOf(pace, seconds) {
    const frames = seconds * pace.fps;
    const first = pace.time_stride * (pace.chunk_frames - 1) + 1;
    const long = pace.time_stride * pace.chunk_frames;
    return frames < first ? frames / first : 1 + (frames - first) / long;
}

/** Write seconds as on a clock where there are minutes of them. */
export function clock(seconds, step = 0.1) {
    if (seconds < 60) return `${seconds.toFixed(step < 1 && seconds % 1 ? 1 : 0)}s`;
    const whole = Math.round(seconds);
    const two = (number) => String(number).padStart(2, "0");
    const minutes = Math.floor(whole / 60);
    if (minutes < 60) return `${minutes}:${two(whole % 60)}`;
    return `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
}

/** Return a hue that a prompt keeps wherever it stands. */
export function hueOf(text) {
    let sum = 7;
    for (const one of text) sum = (sum * 31 + one.codePointAt(0)) % 3600;
    return Math.round(((sum * 137.5) % 360) / 5) * 5;
}
