// Entry of the timeline editor: which nodes have one, and when it looks again.

import { api, app, loadStyle, vueNodes } from "../host.js";
import { axisOf } from "./axis.js";
import { TimelineEditor } from "./editor.js";

const NODES = new Set(["AdaStateStreamTimeline", "AdaStateRender"]);
const TEXT = "timeline";
const NAME = "adastate_timeline_editor";
const MARGIN = 8;
/** How often changes are looked for that no event tells: a link, a length, a value set by others. */
const LOOK_AGAIN = 400;
let widgets = 0;

export function setUpTimeline() {
    /** Editors of the nodes on the page. */
    const editors = new Set();
    const refreshAll = () => {
        for (const editor of editors) if (editor.element.isConnected) quietly(() => editor.refresh());
    };

    return {
        setup() {
            loadStyle("css/timeline.css");
            // After the panel has taken in the same event.
            api.addEventListener("adastate.panel", () => setTimeout(refreshAll));
            setInterval(refreshAll, LOOK_AGAIN);
        },
        nodeCreated(node) {
            const text = node.widgets?.find((widget) => widget.name === TEXT);
            if (!NODES.has(node.comfyClass) || !text) return;
            quietly(() => {
                const editor = addEditor(node, text);
                editors.add(editor);
                chain(node, "onRemoved", () => editors.delete(editor));
                chain(node, "onAdded", () => editors.add(editor));
            });
        },
        loadedGraphNode(node) {
            if (!node.adastateTimeline) return;
            quietly(() => {
                node.adastateTimeline.refresh();
                makeRoom(node);
            });
        },
    };
}

function addEditor(node, text) {
    const editor = new TimelineEditor({
        read: () => String(text.value ?? ""),
        write: (words) => change(() => (text.value = words)),
        axis: () => axisOf(node),
        optional: node.comfyClass === "AdaStateRender",
        onHeight: () => makeRoom(node),
    });
    const { element } = editor;
    node.adastateTimeline = editor;
    // Only where there is a timeline: without one a chunk's prompt is written elsewhere.
    Object.defineProperty(node, "adastateEditChunk", {
        configurable: true,
        get: () => (String(text.value ?? "").trim() ? (index) => show(node, index) : undefined),
    });
    chain(text, "callback", () => editor.refresh());
    element.addEventListener("wheel", (event) => onWheel(editor, event), { passive: false });
    element.addEventListener("pointerdown", (event) => {
        if (event.button === 1 && !vueNodes()) app.canvas.processMouseDown(event);
    });
    // Nodes 2.0 keeps a widget's place for a new node of the same id, as after an undo, and with it
    // the old element, unless the type is another.
    const type = `${NAME}_${(widgets += 1)}`;
    const widget = node.addDOMWidget(NAME, type, element, {
        serialize: false,
        hideOnZoom: false,
        margin: MARGIN,
        getMinHeight: () => editor.height + 2 * MARGIN,
        getMaxHeight: () => editor.height + 2 * MARGIN,
        selectOn: ["pointerdown"],
    });
    // The option keeps it out of prompts, this out of saved workflows.
    widget.serialize = false;
    editor.refresh();
    return editor;
}

/** Focus the block of a chunk. */
function show(node, index) {
    app.canvas.selectNode?.(node);
    node.adastateTimeline.focusChunk(index);
}

/** Change something as one step of undo. */
function change(action) {
    app.canvas.emitBeforeChange?.();
    try {
        action();
    } finally {
        app.canvas.emitAfterChange?.();
        app.canvas.setDirty?.(true, true);
    }
}

function makeRoom(node) {
    if (!node.graph || node.flags?.collapsed || vueNodes()) return;
    const [width, height] = node.computeSize();
    if (node.size[1] < height) node.setSize([Math.max(node.size[0], width), height]);
    node.setDirtyCanvas?.(true, true);
}

/** Scroll a long track where that is meant; any other wheel goes to the canvas. */
function onWheel({ track: { element } }, event) {
    const sideways = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
    const long = element.scrollWidth > element.clientWidth;
    if (long && sideways && element.contains(event.target) && !event.ctrlKey && !event.metaKey) {
        element.scrollLeft += event.deltaX || event.deltaY;
        event.preventDefault();
        event.stopPropagation();
    } else if (!vueNodes()) {
        event.preventDefault();
        app.canvas.processMouseWheel(event);
    }
}

function chain(object, name, then) {
    const before = object[name];
    object[name] = function (...values) {
        const result = before?.apply(this, values);
        quietly(then);
        return result;
    };
}

/** Run something of ours so that its failure breaks nothing of the page. */
function quietly(action) {
    try {
        action();
    } catch (error) {
        console.warn("AdaState:", error);
    }
}
