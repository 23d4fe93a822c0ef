// The filmstrip: a cell for every chunk, of which only those in view are in the page.

import { make, makeSvg, setText } from "../elements.js";
import { chunkTitle } from "./format.js";
import { makePicture } from "./pictures.js";
import {
    cellSize,
    curve,
    promptRuns,
    scaleOf,
    scrollTo,
    visibleRange,
} from "./strip_layout.js";
import { later, tr } from "../words.js";

const MOTION = later("How much the picture moves in each chunk");
const DRIFT = later("How far colours and contrast are from those of the first chunk");
const GAP = 2;
const CURVE_HEIGHT = 26;
// Below these a curve would only show noise at full height.
const FLOORS = { motion: 0.02, drift: 0.05 };
// Pictures of cells that fly past are not worth decoding: they wait until scrolling rests so long.
const FAST_REST = 90;
let strips = 0;

export class Strip {
    /**
     * @param {object} host
     * @param {(file: string) => string} host.urlOf
     * @param {() => boolean} host.moving
     * @param {(position: number) => void} host.onSelect
     * @param {() => void} host.onEnter  The reader asks for what can be done with the chunk.
     */
    constructor(host) {
        this.host = host;
        this.id = `adastate-strip-${(strips += 1)}`;
        this.cells = new Map();
        this.empty = new Map();
        this.chunks = [];
        this.count = 0;
        this.pitch = 1;
        this.left = 0;
        this.rest = 0;
        this.selected = -1;
        this.playing = -1;
        this.build();
    }

    build() {
        this.element = make("div", "adastate-strip");
        const heads = make("div", "adastate-heads");
        heads.append(
            make("span", "", { textContent: tr("prompt") }),
            make("span", "", { textContent: tr("video"), title: tr("What each chunk shows") }),
            make("span", "", { textContent: tr("hidden"), title: tr("The hidden state after each chunk") }),
        );
        const curves = make("span");
        curves.append(
            make("i", "adastate-motion", { textContent: tr("motion"), title: tr(MOTION) }),
            make("i", "adastate-drift", { textContent: tr("drift"), title: tr(DRIFT) }),
        );
        heads.append(curves);
        this.scroller = make("div", "adastate-scroller", { role: "listbox" });
        this.scroller.tabIndex = 0;
        this.scroller.dataset.captureWheel = "true";
        this.scroller.setAttribute("aria-label", tr("Chunks of the stream"));
        this.reel = make("div", "adastate-reel");
        this.prompts = make("div", "adastate-prompts");
        this.curves = makeSvg("svg", { class: "adastate-curves", "aria-hidden": "true" });
        this.paths = {};
        for (const measure of ["motion", "drift"]) {
            this.paths[measure] = makeSvg("path", { class: `adastate-${measure}` });
            this.curves.append(this.paths[measure]);
        }
        this.reel.append(this.prompts, this.curves);
        this.scroller.append(this.reel);
        this.element.append(heads, this.scroller);
        this.listen();
    }

    listen() {
        this.scroller.addEventListener("scroll", () => {
            // A hidden strip scrolls to 0 by itself; that is not the reader's wish.
            if (!this.scroller.clientWidth) return;
            const moved = Math.abs(this.scroller.scrollLeft - this.left);
            this.left = this.scroller.scrollLeft;
            this.rest = moved > this.pitch ? FAST_REST : 0;
            this.refreshSoon();
        });
        this.scroller.addEventListener("click", (event) => {
            const cell = event.target.closest?.("[data-chunk]");
            if (cell) this.host.onSelect(this.positionOf(Number(cell.dataset.chunk)));
        });
        this.scroller.addEventListener("keydown", (event) => this.onKey(event));
        new ResizeObserver(() => {
            if (!this.scroller.clientWidth) return;
            if (this.scroller.scrollLeft !== this.left) this.scroller.scrollLeft = this.left;
            this.refreshSoon();
        }).observe(this.scroller);
    }

    onKey(event) {
        const last = this.chunks.length - 1;
        const at = this.selected < 0 ? last : this.selected;
        const page = Math.max(1, Math.floor(this.scroller.clientWidth / this.pitch) - 1);
        const targets = {
            ArrowLeft: at - 1, ArrowRight: at + 1,
            PageUp: at - page, PageDown: at + page,
            Home: 0, End: last,
        };
        if (event.key in targets && last >= 0) {
            this.host.onSelect(Math.min(last, Math.max(0, targets[event.key])));
        } else if (event.key === "Enter") {
            this.host.onEnter();
        } else {
            return;
        }
        event.preventDefault();
        event.stopPropagation();
    }

    /** Show the chunks of a document anew. */
    show(panel) {
        this.chunks = panel.chunks;
        this.count = this.chunks.length;
        const size = cellSize(panel.width, panel.height);
        this.cell = size.width;
        this.pitch = this.cell + GAP;
        this.element.style.setProperty("--adastate-cell", `${size.height}px`);
        this.scales = Object.fromEntries(
            Object.entries(FLOORS).map(([name, floor]) => [name, scaleOf(this.chunks, name, floor)]),
        );
        const remembers = !this.chunks.length || this.chunks.some((chunk) => chunk.hidden);
        this.element.classList.toggle("adastate-no-hidden", !remembers);
        this.reel.style.width = `${Math.max(0, this.chunks.length * this.pitch - GAP)}px`;
        this.curves.setAttribute("height", CURVE_HEIGHT);
        this.refreshSoon();
    }

    /** Forget the cells, where pictures must be made again. */
    reset() {
        for (const cell of this.cells.values()) cell.remove();
        this.cells.clear();
        this.refreshSoon();
    }

    /** Mark a chunk as selected, and bring it into view where asked. */
    select(position, reveal) {
        this.selected = position;
        if (reveal && position >= 0) {
            this.left = scrollTo(position, this.left, this.scroller.clientWidth, this.pitch);
            this.scroller.scrollLeft = this.left;
        }
        this.refreshSoon();
    }

    /** Mark the chunk that the video plays. */
    setPlaying(position) {
        if (position === this.playing) return;
        this.playing = position;
        this.refreshSoon();
    }

    /** Return whether the newest chunk shown is in view, so that the strip may follow the next. */
    get atEnd() {
        const end = this.count * this.pitch - this.scroller.clientWidth;
        return this.left >= end - this.pitch / 2;
    }

    positionOf(index) {
        return this.chunks.findIndex((chunk) => chunk.index === index);
    }

    refreshSoon() {
        this.pending ??= requestAnimationFrame(() => {
            this.pending = null;
            this.refresh();
        });
    }

    refresh() {
        const { from, to } = visibleRange(
            this.left, this.scroller.clientWidth, this.pitch, this.chunks.length,
        );
        const kept = new Set();
        for (let at = from; at < to; at += 1) kept.add(this.placeCell(at));
        for (const [key, cell] of this.cells) {
            if (kept.has(key)) continue;
            cell.remove();
            this.cells.delete(key);
        }
        this.placePrompts(from, to);
        const view = { from, to, pitch: this.pitch, width: this.cell, height: CURVE_HEIGHT };
        for (const [measure, path] of Object.entries(this.paths)) {
            path.setAttribute("d", curve(this.chunks, measure, { ...view, scale: this.scales[measure] }));
        }
    }

    placeCell(at) {
        const chunk = this.chunks[at];
        const key = `${chunk.index} ${chunk.tile} ${chunk.hidden}`;
        let cell = this.cells.get(key);
        if (!cell) {
            cell = this.makeCell(chunk);
            this.cells.set(key, cell);
            this.reel.append(cell);
            this.fillSoon();
        }
        cell.style.left = `${at * this.pitch}px`;
        cell.style.width = `${this.cell}px`;
        const selected = at === this.selected;
        cell.classList.toggle("adastate-selected", selected);
        cell.classList.toggle("adastate-playing", at === this.playing);
        cell.setAttribute("aria-selected", String(selected));
        if (selected) this.scroller.setAttribute("aria-activedescendant", cell.id);
        return key;
    }

    makeCell(chunk) {
        const cell = make("div", "adastate-cell", { role: "option", title: chunkTitle(chunk) });
        cell.id = `${this.id}-${chunk.index}`;
        cell.dataset.chunk = chunk.index;
        cell.setAttribute("aria-label", tr("Chunk <chunk>", { chunk: chunk.index }));
        const tile = make("div", "adastate-tile", { testId: "adastate-tile" });
        tile.dataset.chunk = chunk.index;
        tile.append(make("span", "adastate-number", { textContent: String(chunk.index) }));
        const hidden = make("div", "adastate-hidden", { testId: "adastate-hidden" });
        cell.append(tile, hidden);
        this.empty.set(cell, () => {
            if (chunk.tile) tile.prepend(makePicture(this.host.urlOf(chunk.tile), this.host.moving()));
            if (chunk.hidden) hidden.append(makePicture(this.host.urlOf(chunk.hidden), true));
        });
        return cell;
    }

    /** Put the pictures into new cells, at once or when fast scrolling has come to rest. */
    fillSoon() {
        clearTimeout(this.filling);
        this.filling = setTimeout(() => {
            this.rest = 0;
            for (const [cell, fill] of this.empty) if (cell.parentNode) fill();
            this.empty.clear();
        }, this.rest);
    }

    placePrompts(from, to) {
        const runs = promptRuns(this.chunks, from, to).filter((run) => run.prompt);
        while (this.prompts.children.length > runs.length) this.prompts.lastChild.remove();
        runs.forEach((run, number) => {
            let label = this.prompts.children[number];
            if (!label) {
                label = make("div", "adastate-prompt");
                label.append(make("span"));
                this.prompts.append(label);
            }
            label.style.left = `${run.start * this.pitch}px`;
            label.style.width = `${(run.end - run.start) * this.pitch - GAP}px`;
            label.title = run.prompt;
            setText(label.firstChild, run.prompt);
        });
    }
}
