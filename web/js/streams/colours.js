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

/** Give our socket and its links their colour, also after another palette was chosen. */
export function colourSocket() {
    applySocket();
    app.ui?.settings?.addEventListener?.("Comfy.ColorPalette.change", () => {
        setTimeout(applySocket, 300); // the page loads the palette after it has said so
    });
}

/** Give a new node the colour of its kind. */
export function colourNode(node) {
    const [root, kind] = String(node.constructor?.category ?? "").split("/");
    if (root !== "AdaState" || !KINDS[kind] || node.color) return;
    [node.color, node.bgcolor] = KINDS[kind];
}

function applySocket() {
    const byType = [
        app.canvas?.default_connection_color_byType,
        app.canvas?.constructor?.link_type_colors,
    ];
    for (const colours of byType) if (colours) colours[SOCKET] = SOCKET_COLOUR;
    app.canvas?.setDirty?.(true, true);
}
