// The track as elements: ruler, blocks, joins, and what has been made of it.

import { make } from "../elements.js";
import { chunkTicks, clock, hueOf, scaleOf, secondTicks } from "./layout.js";
import { secondsAt } from "./read.js";
import { later, tr, trCount } from "../words.js";

const SAID = {
    swap: [later("Swap"), later("Swap")],
    blend: [later("Blend over <count> chunk"), later("Blend over <count> chunks")],
    recache: [later("Recache"), later("Recache")],
    flush: [later("Flush, keeping <count> frame"), later("Flush, keeping <count> frames")],
};
/** Pixels below which a block has no words. */
const SLIVER = 26;

export class Track {
    constructor() {
        this.marks = make("div", "adastate-tl-marks");
        this.ruler = make("div", "adastate-tl-ruler", { "aria-hidden": "true" });
        this.lane = make("div", "adastate-tl-lane", { role: "group", "aria-label": tr("Prompts") });
        this.head = make("div", "adastate-tl-head", { "data-testid": "adastate-head" });
        this.inner = make("div", "adastate-tl-inner", {}, this.marks, this.ruler, this.lane, this.head);
        this.element = make("div", "adastate-tl-scroller", {}, this.inner);
        this.scale = 1;
        /** Pixels there are; told from outside, since asking would lay out the page each time. */
        this.width = 0;
    }

    /**
     * Draw everything.
     * @param {import("./layout.js").Block[]} blocks
     * @param {import("./axis.js").Axis} axis
     * @param {Map<number, string>} wrong sentences of lines that can be read, but are wrong
     */
    draw(blocks, axis, wrong) {
        const last = blocks.at(-1);
        this.chunks = Math.max(axis.end, last ? last.end : 1);
        this.scale = scaleOf(this.chunks, this.width);
        this.inner.style.width = `${this.chunks * this.scale}px`;
        this.ruler.replaceChildren(
            ...secondTicks(this.chunks, this.scale, axis.pace).map((tick) => this.#tick(tick, "second")),
            ...chunkTicks(this.chunks, this.scale).map((tick) => this.#tick(tick, "chunk")),
        );
        this.lane.replaceChildren(
            ...blocks.map((block, i) =>
                this.#block(block, blocks[i - 1], axis, wrong.get(block.cue.line)),
            ),
            ...blocks.flatMap((block, i) => this.#join(block, blocks[i - 1])),
        );
        this.mark(axis);
    }

    /** Show what is made and what is being made. */
    mark(axis) {
        const { made, current, begin, end } = axis;
        const band = (name, from, to) => {
            const width = Math.max(0, Math.min(to, this.chunks) - from) * this.scale;
            const style = `left: ${from * this.scale}px; width: ${width}px`;
            return width ? [make("div", `adastate-tl-band ${name}`, { style })] : [];
        };
        this.marks.replaceChildren(
            ...band("adastate-tl-outside", 0, begin),
            ...band("adastate-tl-outside", end, this.chunks),
            ...band("adastate-tl-made", 0, Math.min(made, current ?? made)),
        );
        this.head.hidden = current === null || current >= this.chunks;
        this.head.style.left = `${(current ?? 0) * this.scale}px`;
        this.head.style.width = `${this.scale}px`;
    }

    /** Move a block's left edge, and the right one of the block before it, without a new text. */
    preview(blocks, index, begin, pace) {
        const [block, before] = [blocks[index], blocks[index - 1]];
        const drag = this.blockOf(block.cue.line);
        this.#place(drag, begin, block.end);
        const when = drag?.querySelector(".adastate-tl-when");
        if (when) when.textContent = whenText(begin, pace);
        if (before) this.#place(this.blockOf(before.cue.line), before.begin, begin);
        for (const join of this.lane.querySelectorAll(`[data-join="${block.cue.line}"]`)) {
            join.style.left = `${begin * this.scale}px`;
        }
    }

    /** Return the element of a line's block. */
    blockOf(line) {
        return this.lane.querySelector(`.adastate-tl-block[data-line="${line}"]`);
    }

    /** Return the chunk, and its fraction, under a point of the page. */
    chunkUnder(clientX) {
        const box = this.inner.getBoundingClientRect();
        return ((clientX - box.left) / Math.max(1, box.width)) * this.chunks;
    }

    /** Bring a block into view. */
    reveal(block) {
        const [from, to] = [block.begin * this.scale, block.end * this.scale];
        const { scrollLeft, clientWidth } = this.element;
        if (from < scrollLeft || to > scrollLeft + clientWidth) this.element.scrollLeft = from - 24;
    }

    #tick({ at, text }, kind) {
        const style = `left: ${at * this.scale}px`;
        return make("span", `adastate-tl-tick adastate-tl-${kind}`, { style }, text);
    }

    #place(element, begin, end) {
        if (!element) return;
        element.style.left = `${begin * this.scale}px`;
        element.style.width = `${Math.max(0, end - begin) * this.scale}px`;
    }

    #block(block, before, axis, problem) {
        const { cue, begin, end } = block;
        const element = make(
            "div",
            `adastate-tl-block${problem ? " adastate-tl-wrong" : ""}`,
            {
                "data-testid": "adastate-block",
                "data-line": cue.line,
                tabindex: 0,
                role: "button",
                "aria-roledescription": tr("prompt block"),
                "aria-label": labelOf(block, axis.pace),
                "aria-keyshortcuts": "Enter Delete ArrowLeft ArrowRight S",
                "aria-invalid": problem ? "true" : null,
                title: problem ?? `${cue.text}\n${whenText(begin, axis.pace)}`,
            },
        );
        if (before && cue.transition === "blend") element.append(this.#ramp(block, before));
        // A sliver has no room for words, and there may be hundreds of them.
        if ((end - begin) * this.scale >= SLIVER) {
            element.append(
                make("span", "adastate-tl-text", {}, cue.text),
                make("span", "adastate-tl-when", {}, whenText(begin, axis.pace)),
            );
        }
        element.style.setProperty("--adastate-hue", hueOf(cue.text));
        this.#place(element, begin, end);
        if (block.next) element.append(make("span", "adastate-tl-edge", { "data-edge": block.next }));
        return element;
    }

    #ramp({ cue, begin, end }, before) {
        const wide = Math.min(cue.count, end - begin) * this.scale;
        const ramp = make("span", "adastate-tl-ramp", { style: `width: ${wide}px` });
        ramp.style.setProperty("--adastate-hue", hueOf(before.cue.text));
        return ramp;
    }

    #join(block, before) {
        const { cue, begin } = block;
        if (!before && cue.transition === "swap") return [];
        const left = `left: ${begin * this.scale}px`;
        const said = describe(cue);
        const knob = make("button", `adastate-tl-join adastate-tl-${cue.transition}`, {
            type: "button",
            style: left,
            title: tr("<transition>. Press to change.", { transition: said }),
            "aria-label": tr("<transition>, line <line>", { transition: said, line: cue.line }),
            "data-testid": "adastate-join",
            "data-join": cue.line,
            "data-kind": cue.transition,
        });
        return [knob];
    }
}

/** Say how a prompt comes. */
export function describe({ transition, count }) {
    return trCount(...SAID[transition], count);
}

function whenText(chunk, pace) {
    return tr("<time> \u00b7 chunk <chunk>", { time: clock(secondsAt(pace, chunk), 0.1), chunk });
}

function labelOf({ cue, begin, end }, pace) {
    return tr("<prompt>, from chunk <chunk>, <time>, for <count> chunks, <transition>", {
        prompt: cue.text,
        chunk: begin,
        time: clock(secondsAt(pace, begin)),
        count: end - begin,
        transition: describe(cue).toLowerCase(),
    });
}
