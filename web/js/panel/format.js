// How the panel words lengths, times and what happens.

import { chunksOfRun } from "./document.js";

const DOT = " \u00b7 ";

/** Return a length of video: `2.6 s`, `1 min 05 s`. */
export function formatSeconds(seconds) {
    if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
    const whole = Math.round(seconds);
    return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
}

/** Return how long the work goes on, rounded as one says it: `12 s left`, `3 min left`. */
export function formatTimeLeft(seconds) {
    if (seconds === null || seconds === undefined || seconds < 0) return "";
    if (seconds < 59.5) return `${Math.max(1, Math.round(seconds))} s left`;
    const minutes = Math.round(seconds / 60);
    if (minutes < 60) return `${minutes} min left`;
    return `${Math.floor(minutes / 60)} h ${minutes % 60} min left`;
}

/** Return the two halves of the status line: what happens, and how long the stream is. */
export function statusLine(panel) {
    const newest = panel.chunks.at(-1);
    const seconds = newest ? newest.start + newest.seconds : 0;
    const wanted = panel.secondsWanted;
    const length = !newest && panel.state !== "running" ? "" : wanted > seconds + 0.05
        ? `${formatSeconds(seconds)} of ${formatSeconds(wanted)}`
        : formatSeconds(seconds);
    const left = panel.state === "running" ? formatTimeLeft(panel.secondsLeft) : "";
    const what = whatHappens(panel);
    // Once done, the server's words often name the length themselves.
    if (what.includes(length) || panel.state === "failed") return { what, how: left };
    return { what, how: left ? length + DOT + left : length };
}

/** Return the words of the server, without what the panel shows in other places. */
function whatHappens(panel) {
    const running = panel.state === "running";
    const words = running ? panel.text.split(" - ")[0] : panel.text;
    const plain = { running: "Getting ready", done: "Done", stopped: "Stopped", failed: "Failed" };
    const said = words || plain[panel.state];
    return said.charAt(0).toUpperCase() + said.slice(1);
}

/** Return the share of the run that is done, 0 to 1; steps of the current chunk count. */
export function shareDone(panel) {
    const made = chunksOfRun(panel).length;
    const wanted = panel.chunksWanted;
    if (panel.state === "done") return 1;
    if (wanted <= 0) return 0;
    if (panel.state !== "running") return Math.min(1, made / wanted);
    // Pictures of a chunk may come while the next one is being made.
    const begun = Math.max(made, (panel.chunk ?? 0) - panel.firstChunk);
    const step = panel.steps && panel.step ? Math.min(1, panel.step / panel.steps) : 0;
    return Math.min(1, (begun + (begun < wanted ? step : 0)) / wanted);
}

/** Return one line about a chunk. */
export function chunkLine(chunk) {
    const parts = [`Chunk ${chunk.index}`];
    parts.push(`${chunk.start.toFixed(1)} to ${formatSeconds(chunk.start + chunk.seconds)}`);
    if (chunk.seed !== null) parts.push(`seed ${chunk.seed}`);
    if (chunk.transition && chunk.transition !== "swap") parts.push(chunk.transition);
    if (chunk.took !== null) parts.push(`made in ${formatSeconds(chunk.took)}`);
    return parts.join(DOT);
}

/** Return all that is known of a chunk, a line each, for its tooltip. */
export function chunkTitle(chunk) {
    const lines = [chunkLine(chunk)];
    if (chunk.prompt) lines.push(chunk.prompt);
    if (chunk.motion !== null) lines.push(`motion ${chunk.motion.toFixed(3)}`);
    if (chunk.drift !== null) lines.push(`drift from the first chunk ${chunk.drift.toFixed(3)}`);
    return lines.join("\n");
}
