// Continuing a stream: an Open Stream node with its name, where the graph wants one.

import { app } from "../host.js";
import { tr } from "../words.js";

const OPEN = "AdaStateOpenStream";
const SOCKET = "ADASTATE";

/**
 * Make the graph continue a stream.
 *
 * With a node selected that takes a stream, an Open Stream is wired before it, and what came there
 * before becomes its start. Else the selected or only Open Stream gets the name.
 *
 * @param {string} name - Name of the stream.
 * @returns {string} What was done, for the page.
 */
export function continueStream(name) {
    const { graph } = app.canvas;
    const selected = [...app.canvas.selectedItems].filter((item) => item.comfyClass);
    const opens = (nodes) => nodes.filter((node) => node.comfyClass === OPEN);
    const taker = selected.length === 1 && streamInput(selected[0]) ? selected[0] : null;
    const before = taker && sourceOf(graph, taker);
    const chosen = [opens(selected), before?.node.comfyClass === OPEN ? [before.node] : []];
    if (!taker) chosen.push(opens(graph.nodes));
    const known = chosen.find((nodes) => nodes.length === 1)?.[0];
    graph.beforeChange?.();
    const node = known ?? addOpen(graph, taker);
    setName(node, name);
    if (!known && taker) wire(node, taker, before);
    graph.afterChange?.();
    app.canvas.selectNode?.(node);
    graph.setDirtyCanvas(true, true);
    if (known) return tr('Open Stream continues "<name>".', { name });
    if (!taker) return tr("Wire Open Stream to what streams.");
    return tr("Open Stream is wired to <node>.", { node: taker.title });
}

/** Write a name into Open Stream as if it had been typed. */
export function setName(node, name) {
    const widget = node.widgets?.find((each) => each.name === "name");
    if (!widget) return;
    widget.value = name;
    widget.callback?.(name, app.canvas, node);
    node.setDirtyCanvas?.(true, true);
}

function addOpen(graph, taker) {
    const node = globalThis.LiteGraph.createNode(OPEN);
    const [width, height] = node.size;
    if (taker) node.pos = [taker.pos[0] - width - 60, taker.pos[1] - height - 60];
    else {
        const [x, y, w, h] = app.canvas.ds.visible_area ?? [0, 0, 600, 400];
        node.pos = [x + (w - width) / 2, y + (h - height) / 2];
    }
    graph.add(node);
    return node;
}

function wire(node, taker, before) {
    if (before) before.node.connect(before.slot, node, slotOf(node.inputs));
    node.connect(slotOf(node.outputs), taker, streamSlot(taker));
}

function streamInput(node) {
    return node.comfyClass !== OPEN && node.inputs?.[streamSlot(node)];
}

function streamSlot(node) {
    return slotOf(node.inputs);
}

function slotOf(slots = []) {
    return slots.findIndex((slot) => slot.type === SOCKET);
}

function sourceOf(graph, node) {
    const id = node.inputs[streamSlot(node)].link;
    const link = id === null || id === undefined ? null : graph.getLink?.(id);
    const source = link && graph.getNodeById(link.origin_id);
    return source ? { node: source, slot: link.origin_slot } : null;
}
