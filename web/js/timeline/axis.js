// What the graph and the last run say about a node's time axis.

import { rootGraph } from "../host.js";

const STRIDE = 4;
const CHUNK_FRAMES = 3;
const MOST_NODES = 64;

/**
 * @typedef {object} Axis
 * @property {import("./read.js").Pace} pace
 * @property {boolean} sure whether a run has shown the pace
 * @property {number|null} first the first chunk to be made, where the graph says it
 * @property {number} begin the first chunk of the run, as far as one knows
 * @property {number} end the chunk after its last
 * @property {number} made chunks of the stream that are there, counted from its start
 * @property {number|null} current the chunk that is being made
 */

/** Return the axis of a node. @returns {Axis} */
export function axisOf(node) {
    const panel = node.adastatePanel?.document ?? null;
    const { pace, sure } = paceOf(node, panel);
    const first = sourceOf(node, "state")?.type === "AdaStateNewStream" ? 0 : null;
    const begin = first ?? panel?.firstChunk ?? 0;
    const running = panel?.state === "running";
    const last = panel?.chunks?.at(-1);
    return {
        pace,
        sure,
        first,
        begin,
        end: begin + lengthOf(node, pace, begin),
        made: last ? last.index + 1 : 0,
        current: running ? (panel.chunk ?? panel.firstChunk ?? null) : null,
    };
}

function lengthOf(node, pace, begin) {
    const seconds = Number(valueOf(node, "seconds")) || 0;
    if (seconds <= 0) return Math.max(1, Number(valueOf(node, "chunks")) || 1);
    const missing = begin === 0 ? pace.time_stride - 1 : 0;
    const frames = Math.ceil(seconds * pace.fps - 1e-6) + missing;
    return Math.max(1, Math.ceil(frames / (pace.chunk_frames * pace.time_stride)));
}

function paceOf(node, panel) {
    const fps = Number(valueOf(node, "fps")) || 16;
    const apply = sourceOf(node, "model", "AdaStateApply");
    const preset = valueOf(apply, "preset") ?? "custom";
    const set = preset === "custom" ? Number(valueOf(apply, "chunk_frames")) || 0 : 0;
    // A stream's first chunk lacks what the first latent frame of a video lacks.
    const [short, long] = [0, 1].map((i) => panel?.chunks?.find((one) => one.index === i)?.frames);
    const stride = short && long ? long - short + 1 : STRIDE;
    const whole = long && Number.isInteger(long / stride) ? long / stride : 0;
    const frames = set || whole || CHUNK_FRAMES;
    return {
        pace: { chunk_frames: frames, time_stride: stride, fps },
        sure: Boolean(short && whole && (!set || set === whole)),
    };
}

function valueOf(node, name) {
    return node?.widgets?.find((widget) => widget.name === name)?.value;
}

/** Return the node that feeds an input, or the next of a type when one goes up from there. */
function sourceOf(node, input, type = null) {
    let at = { node, graph: node?.graph, input };
    for (let i = 0; i < MOST_NODES && at; i += 1) {
        const from = originOf(at.graph, inputOf(at.node, at.input));
        if (!from) return null;
        if (type ? from.node.type === type : !isWire(from.node)) return from.node;
        at = { ...from, input };
    }
    return null;
}

function isWire(node) {
    return node.type === "Reroute" || node.mode === 4;
}

function inputOf(node, name) {
    const inputs = node.inputs ?? [];
    const kind = name === "model" ? "MODEL" : null;
    return (
        inputs.find((slot) => slot.name === name) ??
        inputs.find((slot) => slot.type === kind) ??
        (node.type === "Reroute" ? inputs[0] : null)
    );
}

/** Return where a link comes from, through the walls of subgraphs. */
function originOf(graph, slot, depth = 0) {
    const link = slot?.link == null || depth > 16 ? null : linkOf(graph, slot.link);
    if (!link) return null;
    const node = graph.getNodeById(link.origin_id);
    if (node?.subgraph) {
        const inside = node.subgraph.outputs?.[link.origin_slot]?.linkIds?.[0];
        return originOf(node.subgraph, { link: inside }, depth + 1);
    }
    if (node) return { node, graph };
    const host = hostOf(graph, rootGraph());
    return host && originOf(host.graph, host.inputs?.[link.origin_slot], depth + 1);
}

function linkOf(graph, id) {
    return graph.getLink?.(id) ?? graph.links?.get?.(id) ?? graph.links?.[id] ?? null;
}

function hostOf(graph, within) {
    for (const node of within?.nodes ?? []) {
        if (!node.subgraph) continue;
        if (node.subgraph === graph) return node;
        const deeper = hostOf(graph, node.subgraph);
        if (deeper) return deeper;
    }
    return null;
}
