// How the panel words lengths, times and what happens.

import { chunksOfRun } from "./document.js";
import { lengthOf } from "../lengths.js";
import { later, plain, tr } from "../words.js";

const DOT = " \u00b7 ";
const STATES = {
    running: later("Getting ready"),
    done: later("Done"),
    stopped: later("Stopped"),
    failed: later("Failed"),
};

/** Return how long the work goes on, rounded as one says it: `12 s left`, `3 min left`. */
export function formatTimeLeft(seconds) {
    if (seconds === null || seconds === undefined || seconds < 0) return "";
    if (seconds < 59.5) return tr("<seconds> s left", { seconds: Math.max(1, Math.round(seconds)) });
    const minutes = Math.round(seconds / 60);
    if (minutes < 60) return tr("<minutes> min left", { minutes });
    return tr("<hours> h <minutes> min left", {
        hours: Math.floor(minutes / 60),
        minutes: minutes % 60,
    });
}

/** Return the two halves of the status line: what happens, and how long the stream is. */
export function statusLine(panel) {
    const length = lengthText(panel, tr);
    const left = panel.state === "running" ? formatTimeLeft(panel.secondsLeft) : "";
    const what = whatHappens(panel);
    const lasts = panel.state === "running" || (panel.state !== "failed" && panel.chunks.length);
    // Once done, the server's words often name the length themselves.
    if (!lasts || what.includes(lengthText(panel, plain))) return { what, how: left };
    return { what, how: left ? length + DOT + left : length };
}

function lengthText(panel, words) {
    const newest = panel.chunks.at(-1);
    const seconds = newest ? newest.start + newest.seconds : 0;
    const made = lengthOf(seconds, words);
    if (panel.secondsWanted <= seconds + 0.05) return made;
    const wanted = lengthOf(panel.secondsWanted, words);
    return words(later("<made> of <wanted>"), { made, wanted });
}

/** Return the words of the server, without what the panel shows in other places. */
function whatHappens(panel) {
    const running = panel.state === "running";
    const words = running ? panel.text.split(" - ")[0] : panel.text;
    const said = words || tr(STATES[panel.state]);
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
    const parts = [tr("Chunk <chunk>", { chunk: chunk.index })];
    const end = lengthOf(chunk.start + chunk.seconds);
    parts.push(tr("<begin> to <end>", { begin: chunk.start.toFixed(1), end }));
    if (chunk.seed !== null) parts.push(tr("seed <seed>", { seed: chunk.seed }));
    if (chunk.transition && chunk.transition !== "swap") parts.push(chunk.transition);
    if (chunk.took !== null) parts.push(tr("made in <time>", { time: lengthOf(chunk.took) }));
    return parts.join(DOT);
}

/** Return all that is known of a chunk, a line each, for its tooltip. */
export function chunkTitle(chunk) {
    const lines = [chunkLine(chunk)];
    if (chunk.prompt) lines.push(chunk.prompt);
    if (chunk.motion !== null) lines.push(tr("motion <value>", { value: chunk.motion.toFixed(3) }));
    if (chunk.drift !== null) {
        lines.push(tr("drift from the first chunk <value>", { value: chunk.drift.toFixed(3) }));
    }
    return lines.join("\n");
}
