// Colours by kind: of our socket and links, and of the titles of new nodes.

import { app } from "../host.js";

const SOCKET = "ADASTATE";
const SOCKET_COLOUR = "#b48ee8";

/** Title and body of a node by the last part of its category; dark, as ComfyUI's own are. */
const KINDS = {
    load: ["#2c3a44", "#24303a"],
    stream: ["#3b3350", "#302a42"],
    state: ["#2d4038", "#26362f"],
    video: ["#443a2c", "#3a3126"],
};

/** Give our socket and its links their colour again whenever the page loads a palette. */
export function keepSocketColour() {
    app.ui?.settings?.addEventListener?.("Comfy.ColorPalette.change", () => {
        setTimeout(colourSocket, 300); // the page loads the palette after it has said so
    });
}

/**
 * Give a node the colour of its kind.
 *
 * All nodes of a class have it as their default, which no workflow saves. Nodes 2.0 knows no such
 * default, so that a new node has it as if it had been chosen in its menu.
 */
export function colourNode(node, isNew) {
    const [root, kind] = String(node.constructor?.category ?? "").split("/");
    if (root !== "AdaState" || !KINDS[kind]) return;
    [node.constructor.color, node.constructor.bgcolor] = KINDS[kind];
    if (isNew && !node.color) [node.color, node.bgcolor] = KINDS[kind];
}

/** Give our socket and its links their colour. */
export function colourSocket() {
    const byType = [
        app.canvas?.default_connection_color_byType,
        app.canvas?.constructor?.link_type_colors,
    ];
    for (const colours of byType) if (colours) colours[SOCKET] = SOCKET_COLOUR;
    app.canvas?.setDirty?.(true, true);
}
