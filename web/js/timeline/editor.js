// The editor of one timeline: blocks and text are the same thing, and the text is the truth.

import { addLine, deleteLine, moveLine, setLine, setPrompt, setTransition } from "./edit.js";
import { make } from "../elements.js";
import { button } from "./button.js";
import { editText, problemRow } from "./fields.js";
import { blockAt, blocksOf, clock, roomOf } from "./layout.js";
import { openPopover } from "./popover.js";
import { linesOf, orderProblems, readTimeline, secondsAt, strip } from "./read.js";
import { Track } from "./track.js";
import { tr, trCount } from "../words.js";

const TRACK_HEIGHT = 118;
const ROW_HEIGHT = 54;
const ROWS = 3;
const EMPTY_HEIGHT = 32;
/** Pixels that a press may wander before it is a drag. */
const STILL = 3;

/**
 * @typedef {object} Host
 * @property {() => string} read the text
 * @property {(text: string) => void} write change the text, as one step of undo
 * @property {() => import("./axis.js").Axis} axis
 * @property {boolean} optional whether a node without a timeline is right
 * @property {() => void} onHeight the height has changed
 */

const tool = (text, title, action) => button("adastate-tl-tool", text, title, action);
const sorted = (problems) => problems.sort(([one], [other]) => one - other);

export class TimelineEditor {
    /** @param {Host} host */
    constructor(host) {
        this.host = host;
        this.track = new Track();
        this.blocks = [];
        this.line = 0;
        this.said = make("span", "adastate-tl-status", { "aria-live": "polite" });
        this.tools = make(
            "span",
            "adastate-tl-tools",
            {},
            tool(tr("Add"), tr("Add a prompt at the end"), () => this.add()),
            tool(tr("Split"), tr("Split the selected prompt (S)"), () => this.split()),
            tool(tr("Delete"), tr("Delete the selected prompt"), () => this.remove()),
        );
        this.rows = make("div", "adastate-tl-problems");
        const foot = make("div", "adastate-tl-foot", {}, this.said, this.tools);
        this.element = make(
            "div",
            "adastate-timeline",
            { "data-testid": "adastate-timeline", role: "group", "aria-label": tr("Timeline editor") },
            this.track.element,
            this.rows,
            foot,
        );
        this.#listen();
        new ResizeObserver(([entry]) => {
            this.track.width = entry.contentRect.width;
            this.#draw();
        }).observe(this.track.element);
    }

    /** Return the height it needs. */
    get height() {
        if (this.empty) return EMPTY_HEIGHT;
        return TRACK_HEIGHT + Math.min(ROWS, this.rows.childElementCount) * ROW_HEIGHT;
    }

    /** Show what the text and the graph say now; costs nothing when that is the same as before. */
    refresh() {
        const text = this.host.read();
        const axis = this.host.axis();
        const { made, current, ...still } = axis;
        const seen = `${JSON.stringify(still)}${text}`;
        const run = `${made} ${current}`;
        if (seen === this.seen && run === this.run) return;
        const same = seen === this.seen;
        Object.assign(this, { seen, run, text, axis });
        if (same) this.track.mark(axis);
        else this.#show();
    }

    /** Focus the block that a chunk is made under. */
    focusChunk(index) {
        this.refresh();
        const block = blockAt(this.blocks, index);
        if (block) this.#focus(block.cue.line);
    }

    /** Add a prompt in the second half of the last block, and let it be written. */
    add() {
        const last = this.blocks.at(-1);
        const chunk = last ? Math.max(last.begin + 1, Math.floor((last.begin + last.end) / 2)) : 0;
        this.addAt(chunk, last?.cue.text ?? tr("describe what happens"));
    }

    /** Add a prompt that begins with a chunk, unless one does already. */
    addAt(chunk, prompt) {
        if (this.blocks.some((block) => block.begin === chunk)) return;
        const { text, line } = addLine(this.text, chunk, prompt, this.axis.pace);
        this.#write(text, line);
        this.edit(line);
    }

    split() {
        const block = this.#selected();
        if (!block || block.end - block.begin < 2) return;
        const chunk = Math.ceil((block.begin + block.end) / 2);
        const { text, line } = addLine(this.text, chunk, block.cue.text, this.axis.pace);
        this.#write(text, line);
    }

    remove() {
        const block = this.#selected();
        if (!block) return;
        const index = this.blocks.indexOf(block);
        const near = this.blocks[index - 1] ?? this.blocks[index + 1];
        const line = near ? near.cue.line - (near.cue.line > block.cue.line ? 1 : 0) : 0;
        this.#write(deleteLine(this.text, block.cue.line), line);
    }

    /** Edit the prompt of a line where it stands. */
    edit(line) {
        const block = this.blocks.find((one) => one.cue.line === line);
        const element = this.track.blockOf(line);
        if (!block || !element) return;
        this.line = line;
        this.editing = editText(this.track.inner, element, block.cue.text, (words) => {
            this.editing = null;
            if (words === null) this.#focus(line);
            else this.#write(setPrompt(this.host.read(), line, words), line);
        });
    }

    /** Let a block begin some chunks later, or the one after it. */
    shift(line, by) {
        const index = this.blocks.findIndex((block) => block.cue.line === line);
        if (index < 0) return;
        const [least, most] = roomOf(this.blocks, index);
        this.#moveTo(index, Math.min(most, Math.max(least, this.blocks[index].begin + by)), true);
    }

    #selected() {
        return this.blocks.find((block) => block.cue.line === this.line) ?? this.blocks.at(-1);
    }

    #moveTo(index, chunk, focus = false) {
        const { cue } = this.blocks[index];
        const text = moveLine(this.text, cue.line, chunk, this.axis.pace);
        if (text !== this.text) this.#write(text, focus ? this.line : cue.line);
        else this.#draw();
    }

    #write(text, line) {
        if (text !== this.host.read()) this.host.write(text);
        this.refresh();
        if (line) this.#focus(line);
    }

    #focus(line) {
        this.line = line;
        const block = this.blocks.find((one) => one.cue.line === line);
        if (block) this.track.reveal(block);
        this.track.blockOf(line)?.focus({ preventScroll: true });
    }

    #show() {
        const { cues, problems } = readTimeline(this.text);
        const order = orderProblems(cues, this.axis.pace, this.axis.first);
        const before = this.height;
        this.empty = !strip(this.text);
        this.blocks = blocksOf(cues, this.axis.pace, this.axis.end);
        this.wrong = new Map(order);
        const said = this.empty && this.host.optional ? [] : sorted([...problems, ...order]);
        this.element.classList.toggle("adastate-tl-empty", this.empty);
        this.#say(said);
        const lines = linesOf(this.text);
        this.rows.replaceChildren(
            ...said
                .filter(([line]) => line)
                .map(([line, sentence]) =>
                    problemRow(line, strip(lines[line - 1].text), sentence, (words) =>
                        this.#write(setLine(this.host.read(), line, words)),
                    ),
                ),
        );
        this.#draw();
        if (this.height !== before) this.host.onHeight();
    }

    #say(problems) {
        const { end, begin, pace, sure } = this.axis;
        const length = clock(secondsAt(pace, end) - secondsAt(pace, begin), 0.1);
        const count = end - begin;
        const chunks = sure
            ? trCount("<count> chunk, <length>", "<count> chunks, <length>", count, { length })
            : trCount("<count> chunk, about <length>", "<count> chunks, about <length>", count, {
                length,
            });
        const [whole] = problems.filter(([line]) => !line);
        const none = this.empty ? tr("No timeline: one prompt for all chunks.") : chunks;
        this.said.textContent = whole?.[1] ?? none;
        this.said.classList.toggle("adastate-tl-bad", Boolean(whole));
    }

    #draw() {
        if (!this.axis || this.drag?.moved) return;
        this.popover?.remove();
        const { activeElement } = document;
        const held = this.track.lane.contains(activeElement) ? { ...activeElement.dataset } : {};
        this.track.draw(this.blocks, this.axis, this.wrong);
        const key = held.join ? "join" : "line";
        if (!held[key] || this.editing) return;
        const again = this.track.lane.querySelector(`button[data-join="${held.join}"]`);
        (held.join ? again : this.track.blockOf(held.line))?.focus({ preventScroll: true });
    }

    #listen() {
        const { lane, ruler } = this.track;
        lane.addEventListener("pointerdown", (event) => this.#press(event));
        lane.addEventListener("pointermove", (event) => this.#pull(event));
        for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
            lane.addEventListener(end, (event) => this.#release(event));
        }
        lane.addEventListener("focusin", ({ target }) => {
            if (target.dataset.line) this.line = Number(target.dataset.line);
        });
        lane.addEventListener("dblclick", ({ target }) => {
            const block = target.closest(".adastate-tl-block");
            if (block) this.edit(Number(block.dataset.line));
        });
        lane.addEventListener("click", ({ target }) => {
            const knob = target.closest("button[data-join]");
            if (knob) this.#openJoin(Number(knob.dataset.join));
        });
        ruler.addEventListener("dblclick", (event) => {
            const chunk = Math.floor(this.track.chunkUnder(event.clientX));
            this.addAt(chunk, blockAt(this.blocks, chunk)?.cue.text ?? tr("describe what happens"));
        });
        lane.addEventListener("keydown", (event) => this.#key(event));
    }

    #press(event) {
        const held = event.target.closest(".adastate-tl-block, .adastate-tl-join");
        if (!held || event.button !== 0) return;
        // A join lies over the edge of the block before it; either moves the block that follows.
        const line = Number(event.target.dataset.edge ?? held.dataset.join ?? held.dataset.line);
        const index = this.blocks.findIndex((one) => one.cue.line === line);
        const begin = this.blocks[index].begin;
        this.drag = { index, begin, chunk: begin, from: event.clientX, at: this.track.chunkUnder(event.clientX) };
        event.stopPropagation();
    }

    #pull(event) {
        const { drag } = this;
        if (!drag) return;
        event.stopPropagation();
        // It was let go outside, before it was a drag.
        if (!event.buttons) this.drag = null;
        if (!this.drag) return;
        if (!drag.moved && Math.abs(event.clientX - drag.from) <= STILL) return;
        // The page around us stops pointer events, so a drag has to stay with this element; not
        // sooner, since a click would then be the lane's and not the block's or the join's.
        if (!drag.moved) this.track.lane.setPointerCapture(event.pointerId);
        drag.moved = true;
        const [least, most] = roomOf(this.blocks, drag.index);
        const by = Math.round(this.track.chunkUnder(event.clientX) - drag.at);
        drag.chunk = Math.min(most, Math.max(least, drag.begin + by));
        this.track.preview(this.blocks, drag.index, drag.chunk, this.axis.pace);
    }

    #release(event) {
        const { drag } = this;
        this.drag = null;
        if (!drag?.moved) return;
        event.stopPropagation();
        this.#moveTo(drag.index, event.type === "pointerup" ? drag.chunk : drag.begin);
    }

    #key(event) {
        const block = event.target.closest(".adastate-tl-block");
        if (!block || event.ctrlKey || event.metaKey || event.altKey) return;
        const line = Number(block.dataset.line);
        const next = this.blocks.find((one) => one.cue.line === line)?.next;
        const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (by && event.shiftKey) next && this.shift(next, by);
        else if (by) this.shift(line, by);
        else if (event.key === "Enter" || event.key === "F2") this.edit(line);
        else if (event.key === "Delete" || event.key === "Backspace") this.remove();
        else if (event.key.toLowerCase() === "s") this.split();
        else return;
        event.preventDefault();
        event.stopPropagation();
    }

    #openJoin(line) {
        const block = this.blocks.find((one) => one.cue.line === line);
        if (!block) return;
        this.popover?.remove();
        const left = block.begin * this.track.scale - this.track.element.scrollLeft - 12;
        const change = (kind, count) => {
            this.#write(setTransition(this.host.read(), line, kind, count));
            this.#openJoin(line);
        };
        const close = () => this.track.lane.querySelector(`button[data-join="${line}"]`)?.focus();
        this.popover = openPopover(this.element, block.cue, left, change, close);
    }
}
