// What is written about a stream. Imports nothing of the page.

import { lengthOf } from "../lengths.js";
import { later, tr, trCount } from "../words.js";

const UNITS = [later("bytes"), "KB", "MB", "GB", "TB"];
const AGES = [
    [60, 1, later("<count> second ago"), later("<count> seconds ago")],
    [3600, 60, later("<count> minute ago"), later("<count> minutes ago")],
    [86400, 3600, later("<count> hour ago"), later("<count> hours ago")],
    [86400 * 60, 86400, later("<count> day ago"), later("<count> days ago")],
    [86400 * 730, 86400 * 30, later("<count> month ago"), later("<count> months ago")],
    [Infinity, 86400 * 365, later("<count> year ago"), later("<count> years ago")],
];

/** Say a number of bytes in the largest unit that it fills. */
export function sizeText(bytes) {
    let [value, unit] = [bytes, 0];
    while (value >= 1000 && unit < UNITS.length - 1) [value, unit] = [value / 1000, unit + 1];
    return `${unit && value < 100 ? value.toFixed(1) : Math.round(value)} ${tr(UNITS[unit])}`;
}

/** Say how long a stream is: seconds first, where its frames are known. */
export function lengthText({ frames, chunks, problem }, fps) {
    if (problem) return tr("cannot be opened");
    if (chunks === null) return tr("continue it once to see its length");
    const counted = chunksText(chunks);
    if (frames === null || !(fps > 0)) return counted;
    return tr("<length>, <chunks>", { length: lengthOf(frames / fps), chunks: counted });
}

/** Say how long ago something was, both in seconds since 1970. */
export function ageText(then, now) {
    const age = Math.max(0, now - then);
    if (age < 10) return tr("just now");
    const [, size, one, many] = AGES.find(([below]) => age < below);
    return trCount(one, many, Math.floor(age / size));
}

/** Say a number of chunks. */
export function chunksText(count) {
    return trCount("<count> chunk", "<count> chunks", count);
}

/** Propose a name for a copy that none of the others has. */
export function freeName(name, taken) {
    const [, stem, end] = /^(.*?)(?: (\d+))?$/.exec(name);
    for (let number = Number(end ?? 1) + 1; ; number += 1) {
        const found = `${stem} ${number}`;
        if (!taken.includes(found)) return found;
    }
}

/** Return whether a stream is one that a search means: every word is in its name or prompt. */
export function matches({ name, prompt }, search) {
    const text = `${name} ${prompt}`.toLowerCase();
    return search
        .toLowerCase()
        .split(/\s+/)
        .every((word) => text.includes(word));
}
