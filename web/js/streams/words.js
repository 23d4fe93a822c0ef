// What is written about a stream. Imports nothing of the page.

const UNITS = ["bytes", "KB", "MB", "GB", "TB"];
const AGES = [
    [60, 1, "second"],
    [3600, 60, "minute"],
    [86400, 3600, "hour"],
    [86400 * 60, 86400, "day"],
    [86400 * 730, 86400 * 30, "month"],
    [Infinity, 86400 * 365, "year"],
];

/** Say a number of bytes in the largest unit that it fills. */
export function sizeText(bytes) {
    let [value, unit] = [bytes, 0];
    while (value >= 1000 && unit < UNITS.length - 1) [value, unit] = [value / 1000, unit + 1];
    return `${unit && value < 100 ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}`;
}

/** Say how long a stream is: seconds first, where its frames are known. */
export function lengthText({ frames, chunks, problem }, fps) {
    if (problem) return "cannot be opened";
    if (chunks === null) return "continue it once to see its length";
    const counted = countText(chunks, "chunk");
    return frames === null || !(fps > 0) ? counted : `${secondsText(frames / fps)}, ${counted}`;
}

/** Say how many seconds, in minutes and hours from a minute on. */
export function secondsText(seconds) {
    if (seconds < 60) return `${seconds.toFixed(1)} s`;
    const whole = Math.round(seconds);
    const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
    return hours ? `${hours} h ${minutes} min` : `${minutes} min ${whole % 60} s`;
}

/** Say how long ago something was, both in seconds since 1970. */
export function ageText(then, now) {
    const age = Math.max(0, now - then);
    if (age < 10) return "just now";
    const [, size, unit] = AGES.find(([below]) => age < below);
    return `${countText(Math.floor(age / size), unit)} ago`;
}

/** Say a count with its noun. */
export function countText(count, noun) {
    return `${count} ${noun}${count === 1 ? "" : "s"}`;
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
