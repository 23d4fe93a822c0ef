// What the panel's actions do to the workflow. Every edit is one step of undo.

import { app, say, vueNodes } from "../host.js";
import { freePlace } from "./strip_layout.js";
import { tr } from "../words.js";

const TITLE_HEIGHT = 30;
const MOST_STEPS_BACK = 12;
const SETTLED = 200;

/** Add a Rewind node behind a stream's node that keeps its chunks up to `index`. */
export function rewindHere(node, index) {
    edit(node, () => {
        const rewind = addRewind(node, index);
        if (rewind) select(rewind);
    });
}

/** Add a Rewind node, and behind it a copy of the stream's node with another seed. */
export function branchHere(node, index) {
    edit(node, () => {
        const rewind = addRewind(node, index);
        const copy = rewind && LiteGraph.createNode(node.type);
        if (!copy) return;
        copy.size = [...node.size];
        place(node.graph, copy, [rewind.pos[0] + rewind.size[0] + 60, rewind.pos[1]]);
        takeSettings(node, copy);
        wireLike(node, copy);
        rewind.connect(0, copy, slotOf(copy.inputs, "state"));
        const seed = widget(copy, "seed");
        if (seed) seed.value = Math.floor(Math.random() * 2 ** 48);
        select(copy);
    });
}

/** Go to where the prompt of a chunk is written. */
export function editPrompt(node, index) {
    if (node.adastateEditChunk) {
        node.adastateEditChunk(index);
        return;
    }
    const maker = promptMaker(node);
    if (!maker) {
        const timeline = widget(node, "timeline");
        if (timeline) timeline.element?.focus?.();
        else say("info", tr("No prompt found"), tr("Nothing in this graph is wired into positive."));
        return;
    }
    select(maker);
    app.canvas.centerOnNode(maker);
    textWidget(maker)?.element?.focus?.();
}

function edit(node, change) {
    const { graph } = node;
    if (!graph) return;
    graph.beforeChange();
    app.canvas.emitBeforeChange?.();
    try {
        change();
    } finally {
        graph.setDirtyCanvas(true, true);
        const done = () => {
            graph.afterChange();
            app.canvas.emitAfterChange?.();
        };
        // Nodes 2.0 measures new nodes a little later; their size belongs to the same step of undo.
        if (vueNodes()) setTimeout(done, SETTLED);
        else done();
    }
}

function addRewind(node, index) {
    const rewind = LiteGraph.createNode("AdaStateRewind");
    if (!rewind) return null;
    place(node.graph, rewind, [node.pos[0] + node.size[0] + 60, node.pos[1]]);
    node.connect(slotOf(node.outputs, "state"), rewind, slotOf(rewind.inputs, "state"));
    const chunk = widget(rewind, "chunk");
    if (chunk) chunk.value = index;
    return rewind;
}

function place(graph, added, wanted) {
    const taken = graph.nodes.map((other) => [
        other.pos[0],
        other.pos[1] - TITLE_HEIGHT,
        other.size[0],
        other.size[1] + TITLE_HEIGHT,
    ]);
    const size = [added.size[0], added.size[1] + TITLE_HEIGHT];
    const [x, y] = freePlace([wanted[0], wanted[1] - TITLE_HEIGHT], size, taken);
    added.pos = [x, y + TITLE_HEIGHT];
    graph.add(added);
}

/** Give a copy the looks and widget values of a node. */
function takeSettings(node, copy) {
    const data = LiteGraph.cloneObject(node.serialize());
    for (const input of data.inputs ?? []) input.link = null;
    for (const output of data.outputs ?? []) output.links = [];
    copy.configure({ ...data, id: copy.id, pos: [...copy.pos], order: copy.order });
}

/** Wire all inputs as those of another node are, but for the stream and the seed. */
function wireLike(node, copy) {
    node.inputs.forEach((input) => {
        const slot = slotOf(copy.inputs, input.name);
        const link = linkOf(node.graph, input);
        if (!link || slot < 0 || ["state", "seed"].includes(input.name)) return;
        const origin = node.graph.getNodeById(link.origin_id);
        if (origin) origin.connect(link.origin_slot, copy, slot);
        else node.graph.inputNode?.slots?.[link.origin_slot]?.connect(copy.inputs[slot], copy);
    });
}

/** Return the node that writes a prompt, found upstream of `positive`; or the first one there. */
function promptMaker(node) {
    const first = origin(node, node.inputs.find((input) => input.name === "positive"));
    let at = first;
    for (let steps = 0; at && steps < MOST_STEPS_BACK; steps += 1) {
        if (textWidget(at)) return at;
        at = origin(at, at.inputs?.find((input) => ["CONDITIONING", "*"].includes(input.type)));
    }
    return first;
}

function origin(node, input) {
    const link = input && linkOf(node.graph, input);
    return link ? node.graph.getNodeById(link.origin_id) : null;
}

function linkOf(graph, input) {
    return input.link === null || input.link === undefined
        ? null
        : (graph.links.get?.(input.link) ?? graph.links[input.link]);
}

/** Select a node alone, and move it into view where it is outside. */
function select(node) {
    app.canvas.deselectAll?.();
    app.canvas.selectNode(node);
    const [left, top, width, height] = app.canvas.visible_area;
    const [x, y] = [node.pos[0] + node.size[0] / 2, node.pos[1] + node.size[1] / 2];
    const seen = x > left && x < left + width && y > top && y < top + height;
    if (!seen) app.canvas.centerOnNode(node);
}

function slotOf(slots, name) {
    return slots?.findIndex((slot) => slot.name === name) ?? -1;
}

function widget(node, name) {
    return node.widgets?.find((one) => one.name === name);
}

function textWidget(node) {
    return node.widgets?.find((one) => one.name === "text" || one.type === "customtext");
}
