// The streams sidebar: every named stream, and the bin.

import { api, app } from "../host.js";
import { continueStream } from "./continue.js";
import { make } from "../elements.js";
import { button } from "./elements.js";
import { ask, attempt, confirm, say } from "./notes.js";
import { act, listStreams } from "./requests.js";
import { binRow, streamRow } from "./row.js";
import { chunksText, freeName, matches } from "./words.js";
import { tr } from "../words.js";

export const TAB = "adastate-streams";
const UNDO_FOR = 12_000;
const CHANGED = ["execution_success", "execution_error", "execution_interrupted"];

/** The content of the sidebar tab; there is one, which moves to where the page shows it. */
export class StreamsSidebar {
    #shown = { folder: "", streams: [], bin: [] };
    #inBin = false;
    #asked = 0;
    #fps;

    /** @param {() => number} fps - Gives the frames per second that lengths are told in. */
    constructor(fps) {
        this.#fps = fps;
        this.list = make("ul", "adastate-stream-list");
        this.search = make("input", "adastate-stream-search", {
            type: "search",
            placeholder: tr("Search names and prompts"),
            ariaLabel: tr("Search streams"),
            oninput: () => this.#show(),
        });
        this.tabs = [this.#tab(tr("Streams"), false), this.#tab(tr("Bin"), true)];
        this.notice = make("div", "adastate-stream-notice", { hidden: true, role: "status" });
        const refresh = button("pi-refresh", tr("Refresh"), "adastate-streams-refresh", () =>
            this.refresh(),
        );
        const head = make("div", "adastate-streams-head", {}, ...this.tabs, refresh);
        head.setAttribute("role", "tablist");
        this.element = make(
            "section",
            "adastate-streams",
            { testId: "adastate-streams", ariaLabel: tr("Streams") },
            head,
            this.search,
            this.list,
            this.notice,
        );
        for (const event of CHANGED) {
            api.addEventListener(event, () => this.element.isConnected && this.refresh());
        }
    }

    /** Move the content into an element of the page. */
    mount(place) {
        if (this.element.parentElement !== place) place.replaceChildren(this.element);
        place.classList.add("adastate-streams-place");
        this.refresh();
    }

    /** Ask the server again; the newest question counts. */
    async refresh() {
        const asked = (this.#asked += 1);
        const found = await attempt(listStreams);
        if (!found || asked !== this.#asked) return;
        this.#shown = found;
        this.#show();
    }

    #tab(text, bin) {
        const testId = bin ? "adastate-bin" : "adastate-streams-all";
        const onclick = () => {
            this.#inBin = bin;
            this.#show();
        };
        const made = make("button", "adastate-tab", { type: "button", testId, onclick });
        made.setAttribute("role", "tab");
        made.dataset.text = text;
        return made;
    }

    #show() {
        const { folder, streams, bin } = this.#shown;
        for (const [tab, count, chosen] of [
            [this.tabs[0], streams.length, !this.#inBin],
            [this.tabs[1], bin.length, this.#inBin],
        ]) {
            tab.textContent = count ? `${tab.dataset.text} (${count})` : tab.dataset.text;
            tab.setAttribute("aria-selected", String(chosen));
        }
        const all = this.#inBin ? bin : streams;
        const found = all.filter((stream) => matches(stream, this.search.value));
        this.search.hidden = all.length < 6 && !this.search.value;
        const row = this.#inBin ? binRow : streamRow;
        const rows = found.map((stream) => row(stream, folder, this.#fps(), this.#actions));
        this.list.replaceChildren(...(rows.length ? rows : [this.#nothing(all.length)]));
    }

    #nothing(others) {
        let text = tr("No stream yet. Open Stream and Commit Stream keep one here from run to run.");
        if (this.#inBin) text = tr("The bin is empty.");
        if (others) text = tr("No stream has these words.");
        return make("li", "adastate-streams-nothing", { textContent: text });
    }

    #actions = {
        resume: (stream) =>
            attempt(() => say("success", tr("Queue it to go on"), continueStream(stream.name))),
        fork: (stream) => this.#named("fork", tr("Fork a stream"), stream),
        rename: (stream) => this.#named("rename", tr("Rename a stream"), stream),
        remove: (stream) =>
            this.#then(async () => {
                const { slot } = await act("delete", { name: stream.name });
                this.#offerUndo(stream.name, slot);
            }),
        reveal: (stream) => attempt(() => this.#reveal(stream)),
        restore: (stream) => this.#then(() => this.#restore(stream.name, stream.slot)),
        purge: async (stream) => {
            const sure = await confirm(
                tr("Delete for good"),
                tr('"<name>" and its <chunks> cannot be brought back.', {
                    name: stream.name,
                    chunks: chunksText(stream.chunks ?? 0),
                }),
            );
            if (sure) await this.#then(() => act("purge", { slot: stream.slot }));
        },
    };

    async #then(action) {
        await attempt(action);
        await this.refresh();
    }

    async #named(what, title, { name }) {
        const taken = this.#shown.streams.map((stream) => stream.name);
        const proposed = what === "fork" ? freeName(name, taken) : name;
        const newName = await ask(title, tr('New name for "<name>"', { name }), proposed);
        if (newName === null || newName === name) return;
        await this.#then(() => act(what, { name, new_name: newName }));
    }

    async #restore(name, slot) {
        const taken = this.#shown.streams.map((stream) => stream.name);
        let newName = "";
        if (taken.includes(name)) {
            newName = await ask(
                tr("Restore a stream"),
                tr('There is another "<name>" by now. Restore this one as', { name }),
                freeName(name, taken),
            );
            if (newName === null) return;
        }
        const restored = await act("restore", { slot, new_name: newName });
        this.#hideNotice();
        const back = tr('"<name>" is back', { name: restored.name });
        say("success", back, tr("Continue it from the list of streams."));
    }

    async #reveal({ name }) {
        const path = `output/${this.#shown.folder}/${name}`;
        const where = tr("<path>, in ComfyUI's folder", { path });
        try {
            await navigator.clipboard.writeText(path);
            say("info", tr("Path copied"), where);
        } catch {
            say("info", tr("Its folder"), where);
        }
    }

    #offerUndo(name, slot) {
        const title = tr("Undo: restore <name>", { name });
        const undo = button("pi-undo", title, "adastate-stream-undo", () =>
            this.#then(() => this.#restore(name, slot)),
        );
        undo.append(make("span", "", { textContent: tr("Undo") }));
        const said = tr('"<name>" is in the bin.', { name });
        const text = make("span", "", { textContent: said });
        this.notice.replaceChildren(text, undo);
        this.notice.hidden = false;
        clearTimeout(this.hiding);
        this.hiding = setTimeout(() => this.#hideNotice(), UNDO_FOR);
    }

    #hideNotice() {
        this.notice.hidden = true;
        this.notice.replaceChildren();
    }
}

/** Show the sidebar, whatever is shown there now. */
export function openSidebar() {
    const tabs = app.extensionManager.sidebarTab;
    if (tabs && "activeSidebarTabId" in tabs) tabs.activeSidebarTabId = TAB;
    else app.extensionManager.command.execute(`Workspace.ToggleSidebarTab.${TAB}`);
}
