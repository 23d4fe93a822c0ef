// What a panel shows, as the server tells it: read with care, then kept up to date by events.

/**
 * @typedef {object} Chunk
 * @property {number} index  Its number in the stream.
 * @property {number} start  Where it begins in the video, in seconds.
 * @property {number} seconds
 * @property {number} frames
 * @property {string} prompt
 * @property {number|string|null} seed
 * @property {string} transition
 * @property {number|null} motion
 * @property {number|null} drift
 * @property {number|null} took  Seconds of work.
 * @property {string|null} tile  File name of the small moving picture.
 * @property {string|null} hidden  File name of the picture of the hidden state.
 * @property {string|null} picture  File name of the large moving picture; the newest chunk's only.
 *
 * @typedef {object} PanelDocument
 * @property {string} run
 * @property {"running"|"done"|"stopped"|"failed"} state
 * @property {string} text
 * @property {string} note  What an artist should know of the whole run.
 * @property {number} width
 * @property {number} height
 * @property {number} firstChunk
 * @property {number} chunksWanted
 * @property {number} secondsWanted
 * @property {number|null} secondsLeft
 * @property {number|null} chunk  The chunk being made.
 * @property {number|null} step
 * @property {number|null} steps
 * @property {string} folder
 * @property {{filename: string, subfolder: string, type: string}|null} video
 * @property {Chunk[]} chunks  Ascending, each number once.
 */

const STATES = ["running", "done", "stopped", "failed"];

/** Return the document that `raw` describes, or null where it describes none. */
export function readDocument(raw) {
    if (!raw || typeof raw !== "object" || Array.isArray(raw)) return null;
    const chunks = (Array.isArray(raw.chunks) ? raw.chunks : []).map(readChunk).filter(Boolean);
    const byIndex = new Map(chunks.map((chunk) => [chunk.index, chunk]));
    return {
        run: text(raw.run),
        state: STATES.includes(raw.state) ? raw.state : "done",
        text: text(raw.text),
        note: text(raw.note),
        width: number(raw.width) || 1,
        height: number(raw.height) || 1,
        firstChunk: number(raw.first_chunk) ?? 0,
        chunksWanted: number(raw.chunks_wanted) ?? 0,
        secondsWanted: number(raw.seconds_wanted) ?? 0,
        secondsLeft: number(raw.seconds_left),
        chunk: number(raw.chunk),
        step: number(raw.step),
        steps: number(raw.steps),
        folder: text(raw.folder),
        video: readVideo(raw.video),
        chunks: [...byIndex.values()].sort((a, b) => a.index - b.index),
    };
}

/**
 * Apply an event to a document.
 *
 * @param {PanelDocument|null} panel  Changed in place, so that a long stream costs no more per chunk.
 * @param {object} event  What the server sent.
 * @returns {PanelDocument|null}  The document to show, or null where the event says nothing.
 */
export function applyEvent(panel, event) {
    if (!event || typeof event !== "object") return null;
    if (event.what === "begin") return event.panel ? readDocument(event.panel) : null;
    if (!panel || text(event.run) !== panel.run) return null;
    if (event.what === "status") return applyStatus(panel, event.status);
    if (event.what === "chunk") return addChunk(panel, readChunk(event.chunk));
    if (event.what === "end") return end(panel, event);
    return null;
}

/** Return the chunks made by this run, without those of the stream it goes on from. */
export function chunksOfRun(panel) {
    return panel.chunks.filter((chunk) => chunk.index >= panel.firstChunk);
}

function applyStatus(panel, status) {
    if (!status || typeof status !== "object") return null;
    if (typeof status.text === "string") panel.text = status.text;
    if (typeof status.note === "string") panel.note = status.note;
    panel.chunk = number(status.chunk) ?? panel.chunk;
    panel.step = number(status.step);
    panel.steps = number(status.steps) ?? panel.steps;
    panel.secondsLeft = number(status.seconds_left);
    return panel;
}

function addChunk(panel, chunk) {
    if (!chunk) return null;
    while (panel.chunks.length && panel.chunks.at(-1).index >= chunk.index) panel.chunks.pop();
    const before = panel.chunks.at(-1);
    if (before) before.picture = null;
    panel.chunks.push(chunk);
    return panel;
}

function end(panel, event) {
    panel.state = STATES.includes(event.state) && event.state !== "running" ? event.state : "done";
    if (typeof event.text === "string") panel.text = event.text;
    panel.video = readVideo(event.video) ?? panel.video;
    panel.secondsLeft = null;
    panel.step = null;
    return panel;
}

function readChunk(raw) {
    if (!raw || typeof raw !== "object" || !Number.isInteger(raw.index)) return null;
    return {
        index: raw.index,
        start: number(raw.start) ?? 0,
        seconds: number(raw.seconds) ?? 0,
        frames: number(raw.frames) ?? 0,
        prompt: text(raw.prompt),
        seed: raw.seed ?? null,
        transition: text(raw.transition),
        motion: number(raw.motion),
        drift: number(raw.drift),
        took: number(raw.took),
        tile: text(raw.tile) || null,
        hidden: text(raw.hidden) || null,
        picture: text(raw.picture) || null,
    };
}

/** Return where a video is, as in what a node gave to the page, or null. */
export function readVideo(raw) {
    if (!raw || typeof raw !== "object" || !text(raw.filename)) return null;
    return {
        filename: raw.filename,
        subfolder: text(raw.subfolder),
        type: text(raw.type) || "output",
    };
}

function number(value) {
    return typeof value === "number" && Number.isFinite(value) ? value : null;
}

function text(value) {
    return typeof value === "string" ? value : "";
}
