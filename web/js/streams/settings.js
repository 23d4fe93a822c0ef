// Settings of the streams part, and what they do to nodes that are added in the page.

import { app } from "../host.js";

const FPS = "AdaState.Fps";
const FOLDER = "AdaState.StreamsFolder";
const COLOURS = "AdaState.NodeColours";
const SHOWN = "output/adastate/streams";

const DEFAULT_FPS = 16;

/** What stands under AdaState in the settings dialog. */
export const settings = [
    {
        id: FPS,
        category: ["AdaState", "Streams", "Fps"],
        name: "Frames per second of new nodes",
        tooltip: "For nodes that you add from now on, and for the lengths in the streams sidebar.",
        type: "number",
        defaultValue: DEFAULT_FPS,
        attrs: { min: 1, max: 120, step: 1 },
    },
    {
        id: FOLDER,
        category: ["AdaState", "Streams", "Folder"],
        name: "Streams folder",
        tooltip: "Where Commit Stream keeps streams, in ComfyUI's folder. ComfyUI's own option " +
            "--output-directory moves it.",
        type: () => {
            const path = document.createElement("span");
            path.className = "adastate-setting-path";
            path.textContent = SHOWN;
            return path;
        },
        defaultValue: SHOWN,
    },
    {
        id: COLOURS,
        category: ["AdaState", "Nodes", "Colours"],
        name: "Colour nodes by what they are for",
        tooltip: "Loading, streaming, the stream's state, and video each have a colour.",
        type: "boolean",
        defaultValue: true,
    },
];

/** Return the frames per second that new nodes get. */
export function defaultFps() {
    const fps = Number(read(FPS));
    return fps >= 1 && fps <= 120 ? fps : DEFAULT_FPS;
}

/** Return whether new nodes get a colour. */
export function colourNodes() {
    return read(COLOURS) !== false;
}

function read(id) {
    return app.extensionManager?.setting?.get(id);
}
