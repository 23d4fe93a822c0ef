// Entry of the stream panel: which nodes have one, and what reaches them.

import { api, executionIds, findNode, loadStyle, outputsOf, rootGraph } from "../host.js";
import { applyEvent, readDocument, readVideo } from "./document.js";
import { addPanel, hideHostLine, MOVING, SHOW, toggleWidget } from "./widget.js";

const NODES = new Set(["AdaStateStream", "AdaStateStreamTimeline", "AdaStateRender"]);

export function setUpPanel() {
    /** Panels of the nodes on the page; a node that is gone leaves by itself. */
    const panels = new Set();

    return {
        settings: [
            {
                id: SHOW,
                category: ["AdaState", "Stream panel", "Show"],
                name: "Show the stream panel",
                tooltip: "The filmstrip on Stream Chunks, Stream Timeline and Render Stream to Video.",
                type: "boolean",
                defaultValue: true,
                onChange: (shown) => panels.forEach((node) => toggleWidget(node, shown)),
            },
            {
                id: MOVING,
                category: ["AdaState", "Stream panel", "Moving"],
                name: "Moving tiles",
                tooltip: "Off: the first frame of each chunk, as a still picture.",
                type: "boolean",
                defaultValue: true,
                onChange: () => panels.forEach((node) => node.adastatePanel.remake()),
            },
        ],
        setup() {
            loadStyle("css/panel.css");
            api.addEventListener("adastate.panel", (event) => quietly(() => onEvent(event.detail)));
            api.addEventListener("progress_text", ({ detail }) => {
                const hide = () => quietly(() => hideHostLine(findNode(detail?.nodeId)));
                // The page makes the line when it hears the first text: before this, or after it.
                hide();
                queueMicrotask(hide);
            });
        },
        nodeCreated(node) {
            if (!NODES.has(node.comfyClass)) return;
            quietly(() => {
                addPanel(node);
                panels.add(node);
                chain(node, "onRemoved", () => panels.delete(node));
                chain(node, "onExecuted", (output) => onExecuted(node, output));
            });
        },
        loadedGraphNode(node) {
            if (!node.adastatePanel) return;
            panels.add(node);
            quietly(() => recall(node));
        },
    };
}

function onEvent(event) {
    if (!event || typeof event !== "object") return;
    const workflow = rootGraph()?.id ?? "";
    if (event.workflow && String(event.workflow) !== String(workflow)) return;
    const panel = findNode(event.node)?.adastatePanel;
    if (!panel) return;
    const document = applyEvent(panel.document, event);
    if (!document) return;
    if (event.what === "status") panel.refreshStatus();
    else panel.show(document);
}

/** Show the finished video of a node that writes one. */
function onExecuted(node, output) {
    const video = node.comfyClass === "AdaStateRender" && readVideo(output?.images?.[0]);
    if (!video) return;
    const { document } = node.adastatePanel;
    node.adastatePanel.show({ ...(document ?? readDocument({})), state: "done", video });
}

/** Ask the server what a node showed before the page or the workflow was opened. */
async function recall(node) {
    const panel = node.adastatePanel;
    const workflow = rootGraph()?.id ?? "";
    for (const id of executionIds(node)) {
        const query = new URLSearchParams({ workflow, node: id });
        const document = readDocument(await askServer(`/adastate/panel?${query}`));
        if (!document) continue;
        // What came by event in the meantime is newer.
        if (!panel.document) panel.show(document);
        if (node.comfyClass !== "AdaStateRender" || document.state === "running") return;
        const run = await askServer(`/history/${encodeURIComponent(document.run)}`);
        const output = outputsOf(node) ?? run?.[document.run]?.outputs?.[id];
        if (panel.document.run === document.run) onExecuted(node, output);
        return;
    }
}

async function askServer(path) {
    const reply = await api.fetchApi(path);
    return reply.ok ? reply.json() : null;
}

function chain(node, name, then) {
    const before = node[name];
    node[name] = function (...values) {
        const result = before?.apply(this, values);
        quietly(() => then(...values));
        return result;
    };
}

/** Run something of ours so that its failure breaks nothing of the page. */
function quietly(action) {
    try {
        Promise.resolve(action()).catch((error) => console.warn("AdaState:", error));
    } catch (error) {
        console.warn("AdaState:", error);
    }
}
