// Arithmetic of the filmstrip: which cells are in view, where prompts begin, how curves run.

const TALLEST = 46;
const NARROWEST = 34;
const WIDEST = 72;

/** Return the size of a cell, in CSS pixels, for pictures of a size; wide ones are less high. */
export function cellSize(width, height) {
    const fitting = Math.min(WIDEST, Math.max(NARROWEST, (TALLEST * width) / height));
    const low = Math.min(TALLEST, (fitting * height) / width);
    return { width: Math.round(fitting), height: Math.round(Math.max(30, low)) };
}

/**
 * Return the cells in view and a few beside them, so that scrolling shows no gaps.
 *
 * @returns {{from: number, to: number}}  Positions in the strip; `to` is not among them.
 */
export function visibleRange(left, width, pitch, count, beside = 3) {
    if (width <= 0 || count <= 0) return { from: 0, to: 0 };
    const from = Math.max(0, Math.floor(left / pitch) - beside);
    const to = Math.min(count, Math.ceil((left + width) / pitch) + beside);
    return { from: Math.min(from, to), to };
}

/** Return the least change of `left` after which the cell at `position` is fully in view. */
export function scrollTo(position, left, width, pitch) {
    const start = position * pitch;
    if (start < left) return start;
    return Math.max(left, start + pitch - width);
}

/**
 * Return the runs of equal prompts that touch the cells `from` to `to`.
 *
 * @returns {{start: number, end: number, prompt: string}[]}  Whole runs, also beyond the view.
 */
export function promptRuns(chunks, from, to) {
    const runs = [];
    let start = from;
    while (start > 0 && start < chunks.length && joined(chunks, start)) start -= 1;
    while (start < to && start < chunks.length) {
        let end = start + 1;
        while (end < chunks.length && joined(chunks, end)) end += 1;
        runs.push({ start, end, prompt: chunks[start].prompt });
        start = end;
    }
    return runs;
}

function joined(chunks, position) {
    const chunk = chunks[position];
    const before = chunks[position - 1];
    return chunk.prompt === before.prompt && chunk.index === before.index + 1;
}

/** Return the largest of a measure over all chunks, and at least `floor`, so that noise stays low. */
export function scaleOf(chunks, measure, floor) {
    return chunks.reduce((most, chunk) => Math.max(most, chunk[measure] ?? 0), floor);
}

/**
 * Return an SVG path through the middles of the cells.
 *
 * @param {object[]} chunks
 * @param {string} measure  `motion` or `drift`.
 * @param {{from: number, to: number, pitch: number, width: number, height: number, scale: number}}
 *     view  `width` is a cell's; chunks without the measure leave a gap.
 */
export function curve(chunks, measure, view) {
    const parts = [];
    let pen = false;
    for (let at = view.from; at < view.to; at += 1) {
        const value = chunks[at]?.[measure];
        if (typeof value === "number") {
            const x = (at * view.pitch + view.width / 2).toFixed(1);
            const share = Math.min(1, Math.max(0, value / view.scale));
            const y = (2 + (1 - share) * (view.height - 4)).toFixed(1);
            parts.push(`${pen ? "L" : "M"}${x} ${y}`);
        }
        pen = typeof value === "number";
    }
    // A lone point has no length; a short stroke makes it a dot under round caps.
    return parts.length === 1 ? `${parts[0]}h0.1` : parts.join("");
}

/**
 * Return a place for a new node near `wanted` where it covers no other.
 *
 * @param {[number, number]} wanted
 * @param {[number, number]} size
 * @param {[number, number, number, number][]} taken  x, y, width, height of what is there.
 * @returns {[number, number]}
 */
export function freePlace(wanted, size, taken, gap = 30) {
    let [x, y] = wanted;
    for (let tries = 0; tries <= taken.length; tries += 1) {
        const hit = taken.find(
            ([left, top, width, height]) =>
                x < left + width + gap && left < x + size[0] + gap &&
                y < top + height + gap && top < y + size[1] + gap,
        );
        if (!hit) break;
        y = hit[1] + hit[3] + gap;
    }
    return [x, y];
}
