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

/** Return the two halves of the status line: what happens, and how far it is. */
export function statusLine(panel) {
    const made = chunksOfRun(panel);
    const seconds = made.reduce((sum, chunk) => sum + chunk.seconds, 0);
    const wanted = panel.secondsWanted;
    const length = wanted > seconds + 0.05
        ? `${formatSeconds(seconds)} of ${formatSeconds(wanted)}`
        : formatSeconds(seconds);
    const left = panel.state === "running" ? formatTimeLeft(panel.secondsLeft) : "";
    return { what: panel.text || spokenState(panel), how: left ? length + DOT + left : length };
}

function spokenState(panel) {
    if (panel.state === "done") return "Done";
    if (panel.state === "stopped") return "Stopped";
    if (panel.state === "failed") return "Failed";
    return panel.chunk === null ? "Getting ready" : `Chunk ${panel.chunk}`;
}

/** Return the share of the work that is done, 0 to 1; steps of the current chunk count. */
export function shareDone(panel) {
    if (panel.chunksWanted <= 0) return panel.state === "running" ? 0 : 1;
    const step = panel.state === "running" && panel.steps ? (panel.step ?? 0) / panel.steps : 0;
    const made = chunksOfRun(panel).length;
    const current = panel.chunk === null || panel.chunk === panel.firstChunk + made ? step : 0;
    return Math.min(1, (made + Math.min(1, current)) / panel.chunksWanted);
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
