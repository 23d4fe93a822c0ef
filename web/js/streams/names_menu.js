// Open Stream offers the names of the streams that there are; any other can still be typed.

import { app } from "../host.js";
import { setName } from "./continue.js";
import { make } from "../elements.js";
import { thumbnail } from "./elements.js";
import { attempt } from "./notes.js";
import { listStreams } from "./requests.js";
import { lengthText } from "./words.js";
import { tr } from "../words.js";

/** Add the button to a node; it is no part of what a workflow saves. */
export function addNamesButton(node, fps) {
    const widget = node.addWidget("button", "choose a stream", null, () => openMenu(node, fps));
    widget.serialize = false;
    widget.options.serialize = false;
    widget.label = tr("choose a stream");
    widget.tooltip = tr("The streams that there are. A new one gets the name that you type.");
}

async function openMenu(node, fps) {
    const found = await attempt(listStreams);
    if (!found) return;
    const menu = make("div", "adastate-names", { testId: "adastate-names" });
    menu.setAttribute("role", "menu");
    const close = () => {
        menu.remove();
        document.removeEventListener("pointerdown", onOutside, true);
    };
    const onOutside = (event) => menu.contains(event.target) || close();
    const openable = found.streams.filter((stream) => !stream.problem);
    for (const stream of openable) {
        const name = make("div", "adastate-stream-name", { textContent: stream.name });
        const facts = make("div", "adastate-stream-facts", {
            textContent: lengthText(stream, fps),
        });
        const entry = make(
            "button",
            "",
            {
                type: "button",
                onclick: () => {
                    setName(node, stream.name);
                    close();
                },
            },
            thumbnail(stream, found.folder),
            make("div", "", {}, name, facts),
        );
        entry.setAttribute("role", "menuitem");
        entry.dataset.name = stream.name;
        menu.append(entry);
    }
    if (!openable.length) {
        menu.append(make("div", "adastate-streams-nothing", { textContent: tr("No stream yet.") }));
    }
    menu.addEventListener("keydown", (event) => onKey(event, menu, close));
    document.body.append(menu);
    place(menu, node);
    document.addEventListener("pointerdown", onOutside, true);
    menu.querySelector("button")?.focus();
}

function onKey(event, menu, close) {
    const entries = [...menu.querySelectorAll("button")];
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    event.stopPropagation();
    if (event.key === "Escape") close();
    if (!step || !entries.length) return;
    event.preventDefault();
    const at = entries.indexOf(document.activeElement);
    entries[(at + step + entries.length) % entries.length].focus();
}

/** Put the menu below its node, or as near as the window has room. */
function place(menu, node) {
    const below = [node.pos[0], node.pos[1] + node.size[1]];
    const [x, y] = app.canvas.ds.convertOffsetToCanvas(below);
    const canvas = app.canvas.canvas.getBoundingClientRect();
    const { width, height } = menu.getBoundingClientRect();
    const within = (wish, most) => Math.max(8, Math.min(wish, most - 8));
    menu.style.left = `${within(canvas.left + x, innerWidth - width)}px`;
    menu.style.top = `${within(canvas.top + y + 4, innerHeight - height)}px`;
}
