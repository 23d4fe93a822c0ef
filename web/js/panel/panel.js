// The stream panel: stage, status, filmstrip and details of one node.

import { chunksOfRun } from "./document.js";
import { Details } from "./details.js";
import { make, setText } from "../elements.js";
import { shareDone, statusLine } from "./format.js";
import { Stage } from "./stage.js";
import { Strip } from "./strip.js";
import { tr } from "../words.js";

const EMPTY_HEIGHT = 52;
const FULL_HEIGHT = 316;
const NOTE_HEIGHT = 40;

export class Panel {
    /**
     * @param {object} host
     * @param {(file: object) => string} host.viewUrl  Address of a file that the server shows.
     * @param {() => boolean} host.moving  Whether pictures move.
     * @param {(action: string, chunk: object) => string|void} host.onAction
     * @param {() => void} host.onHeight  Told when the panel needs more or less room.
     */
    constructor(host) {
        this.host = host;
        this.document = null;
        this.selected = null;
        this.room = EMPTY_HEIGHT;
        this.build();
        this.show(null);
    }

    build() {
        this.element = make("div", "adastate-panel", { testId: "adastate-panel" });
        this.hint = make("div", "adastate-hint");
        this.stage = new Stage((seconds) => this.onTime(seconds));
        this.status = make("div", "adastate-status", { testId: "adastate-status" });
        this.status.setAttribute("aria-live", "polite");
        this.what = make("span", "adastate-what");
        this.how = make("span", "adastate-how");
        this.status.append(this.what, this.how);
        this.note = make("div", "adastate-note", { testId: "adastate-note" });
        this.bar = make("div", "adastate-bar", { role: "progressbar" });
        this.bar.append(make("div"));
        this.strip = new Strip({
            urlOf: (file) => this.urlOf(file),
            moving: () => this.host.moving(),
            onSelect: (position) => this.select(position),
            onEnter: () => this.details.focus(),
        });
        this.details = new Details((action) => this.act(action));
        this.details.onLeave = () => this.strip.scroller.focus();
        this.element.append(
            this.hint,
            this.stage.element,
            this.status,
            this.note,
            this.bar,
            this.strip.element,
            this.details.element,
        );
    }

    /** Return whether there is more to show than a sentence. */
    get filled() {
        const { document } = this;
        return Boolean(document?.chunks.length || document?.video || document?.state === "running");
    }

    /** Return how high it has to be. */
    get height() {
        if (!this.filled) return EMPTY_HEIGHT;
        return FULL_HEIGHT + (this.document.note ? NOTE_HEIGHT : 0);
    }

    /** Show a document, or that there is none yet. */
    show(document) {
        const run = this.document?.run;
        this.document = document;
        if (!document || document.run !== run) this.selected = null;
        this.element.classList.toggle("adastate-empty", !this.filled);
        this.element.classList.toggle("adastate-no-chunks", !document?.chunks.length);
        this.element.dataset.state = document?.state ?? "";
        const said = !this.filled && document && statusLine(document).what;
        setText(this.hint, said || tr("The stream appears here while it is made."));
        this.hint.title = this.hint.textContent;
        if (document) this.refresh();
        else this.stage.clear();
        this.makeRoom();
    }

    /** Ask for another height where what is shown needs one. */
    makeRoom() {
        if (this.room === this.height) return;
        this.room = this.height;
        this.host.onHeight();
    }

    /** Draw all of the document again; what is unchanged stays as it is. */
    refresh() {
        const follow = this.selected === null && this.strip.atEnd;
        this.strip.show(this.document);
        this.refreshStatus();
        this.refreshSelection(follow);
    }

    /** Draw the status alone, as it changes with every step. */
    refreshStatus() {
        const { what, how } = statusLine(this.document);
        setText(this.what, what);
        this.what.title = what;
        setText(this.how, how);
        const { note } = this.document;
        setText(this.note, note.charAt(0).toUpperCase() + note.slice(1));
        this.note.title = this.note.textContent;
        this.element.classList.toggle("adastate-noted", Boolean(note));
        this.element.dataset.state = this.document.state;
        const share = shareDone(this.document);
        this.bar.firstChild.style.width = `${(100 * share).toFixed(1)}%`;
        this.bar.setAttribute("aria-valuenow", String(Math.round(100 * share)));
        this.makeRoom();
    }

    /** Make all pictures again, as when they should no longer move. */
    remake() {
        if (!this.document) return;
        this.stage.clear();
        this.strip.reset();
        this.refresh();
    }

    /** Select the chunk at a position of the strip; the newest one means to follow the stream. */
    select(position) {
        const chunk = this.document?.chunks[position];
        if (!chunk) return;
        this.selected = chunk === this.document.chunks.at(-1) ? null : chunk.index;
        this.refreshSelection(true);
        if (this.stage.video && this.inVideo(chunk)) this.stage.seek(this.timeInVideo(chunk));
    }

    refreshSelection(reveal) {
        const { chunks } = this.document;
        let position = chunks.findIndex((chunk) => chunk.index === this.selected);
        if (position < 0) {
            this.selected = null;
            position = chunks.length - 1;
        }
        this.strip.select(position, reveal);
        this.details.show(chunks[position]);
        this.refreshStage(chunks[position]);
    }

    refreshStage(chunk) {
        const { video, state } = this.document;
        if (video && state === "done" && this.inVideo(chunk)) {
            this.stage.showVideo(this.host.viewUrl(video), this.host.moving());
        } else if (chunk?.picture || chunk?.tile) {
            this.stage.showPicture(this.urlOf(chunk.picture ?? chunk.tile), this.host.moving());
        } else {
            this.stage.clear();
        }
    }

    inVideo(chunk) {
        return !chunk || chunk.index >= this.document.firstChunk;
    }

    /** Return where a chunk begins in the file, which may open with a clip that is no chunk. */
    timeInVideo(chunk) {
        const made = chunksOfRun(this.document);
        const length = made.reduce((sum, one) => sum + one.seconds, 0);
        const opening = Math.max(0, (this.stage.duration ?? length) - length);
        return opening + chunk.start - (made[0]?.start ?? 0);
    }

    onTime(seconds) {
        if (!this.document) return;
        const playing = seconds === null
            ? -1
            : this.document.chunks.findIndex((chunk) =>
                this.inVideo(chunk) && this.timeInVideo(chunk) + chunk.seconds > seconds);
        this.strip.setPlaying(playing);
    }

    act(action) {
        const chunks = this.document?.chunks ?? [];
        const chunk = chunks.find((one) => one.index === this.selected) ?? chunks.at(-1);
        return chunk ? this.host.onAction(action, chunk) : undefined;
    }

    urlOf(filename) {
        return this.host.viewUrl({ type: "temp", subfolder: this.document.folder, filename });
    }
}
