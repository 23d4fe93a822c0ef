// A panel as a widget of its node: room, media of the host, and what its actions reach.

import { api, app, say, setting, vueNodes } from "../host.js";
import { branchHere, editPrompt, rewindHere } from "./graph_edits.js";
import { Panel } from "./panel.js";
import { prefersStills } from "./pictures.js";
import { tr } from "../words.js";

export const SHOW = "AdaState.Panel.Show";
export const MOVING = "AdaState.Panel.MovingTiles";
const NAME = "adastate_panel";
const MARGIN = 8;
const HOST_LINE = "$$node-text-preview";
let widgets = 0;

/** Give a node its panel. */
export function addPanel(node) {
    const panel = new Panel({
        viewUrl,
        moving: () => setting(MOVING, true) && !prefersStills(),
        onAction: (action, chunk) => act(node, action, chunk),
        onHeight: () => makeRoom(node),
    });
    panel.element.addEventListener("wheel", (event) => onWheel(panel, event), { passive: false });
    panel.element.addEventListener("pointerdown", letCanvasPan);
    node.adastatePanel = panel;
    if (setting(SHOW, true)) showWidget(node);
    return panel;
}

/** Show or hide the widget; the panel goes on listening either way. */
export function toggleWidget(node, shown) {
    const widget = node.widgets?.find((one) => one.name === NAME);
    if (shown && !widget) showWidget(node);
    if (!shown && widget) {
        node.removeWidget(widget);
        useHostPlayer(node, true);
        setHostLine(node, true);
    }
    node.setDirtyCanvas?.(true, true);
}

function showWidget(node) {
    const { adastatePanel: panel } = node;
    const height = () => panel.height + 2 * MARGIN;
    // Nodes 2.0 keeps a widget's place for a new node of the same id, as after an undo, and with it
    // the old element, unless the type is another.
    const type = `${NAME}_${(widgets += 1)}`;
    const widget = node.addDOMWidget(NAME, type, panel.element, {
        serialize: false,
        hideOnZoom: false,
        margin: MARGIN,
        getMinHeight: height,
        // Before an action selects another node, not after it.
        selectOn: ["pointerdown"],
    });
    // The option keeps it out of prompts, this out of saved workflows.
    widget.serialize = false;
    useHostPlayer(node, false);
    hideHostLine(node);
}

/** Hide the line that the host writes under a node whose panel says the same. */
export function hideHostLine(node) {
    if (node?.adastatePanel && node.widgets.some((widget) => widget.name === NAME)) {
        setHostLine(node, false);
    }
}

function setHostLine(node, shown) {
    const line = node.widgets?.find((widget) => widget.name === HOST_LINE);
    if (!line) return;
    line.hidden = !shown;
    line.options.hidden = !shown;
}

/** Give the video of a result to the host's own player, or keep it for the panel's stage. */
function useHostPlayer(node, host) {
    if (node.comfyClass !== "AdaStateRender") return;
    node.hideOutputImages = !host;
    // The classic renderer puts its player into a container that it makes where there is none.
    node.videoContainer = host ? undefined : document.createElement("div");
}

function makeRoom(node) {
    if (!node.graph || node.flags?.collapsed || vueNodes()) return;
    const [width, height] = node.computeSize();
    if (node.size[1] < height) node.setSize([Math.max(node.size[0], width), height]);
    node.setDirtyCanvas?.(true, true);
}

function act(node, action, chunk) {
    try {
        if (action === "rewind") rewindHere(node, chunk.index);
        else if (action === "branch") branchHere(node, chunk.index);
        else if (action === "editPrompt") editPrompt(node, chunk.index);
        else if (action === "copySeed") return copySeed(chunk);
    } catch (error) {
        console.warn("AdaState:", error);
        say("warn", tr("This did not work"), String(error?.message ?? error));
    }
    return undefined;
}

function copySeed(chunk) {
    if (chunk.seed === null) return tr("No seed");
    const seed = String(chunk.seed);
    const plain = () => say("info", tr("Seed"), seed);
    // Without a secure connection a page has no clipboard; the seed is then shown to copy by hand.
    if (navigator.clipboard) navigator.clipboard.writeText(seed).catch(plain);
    else plain();
    return tr("Copied");
}

function viewUrl({ type, subfolder, filename }) {
    return api.apiURL(`/view?${new URLSearchParams({ type, subfolder, filename })}`);
}

/** Scroll the strip where that is meant; any other wheel goes to the canvas as beside the panel. */
function onWheel(panel, event) {
    const { scroller } = panel.strip;
    const sideways = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
    const wanted = sideways || scroller.contains(document.activeElement);
    if (scroller.contains(event.target) && wanted && !event.ctrlKey && !event.metaKey) {
        scroller.scrollLeft += event.deltaX || event.deltaY;
        event.preventDefault();
        event.stopPropagation();
    } else if (!vueNodes()) {
        app.canvas.processMouseWheel(event);
    }
}

function letCanvasPan(event) {
    if (event.button === 1 && !vueNodes()) app.canvas.processMouseDown(event);
}
