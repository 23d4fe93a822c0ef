// All that this pack uses of ComfyUI's page. No other module imports from it.

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

export { api, app };

/** Load a style sheet of this pack, given as in `css/panel.css`. */
export function loadStyle(path) {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = new URL(`../${path}`, import.meta.url).href;
    document.head.append(link);
}

/** Return the workflow's outermost graph; nodes inside subgraphs are in graphs of their own. */
export function rootGraph() {
    return app.rootGraph ?? app.graph;
}

/** Return whether the nodes are drawn by Nodes 2.0; it can change while the page is open. */
export function vueNodes() {
    return Boolean(globalThis.LiteGraph?.vueNodesMode);
}

/** Return the value of a setting, or what to use where the page has none. */
export function setting(id, otherwise) {
    return app.extensionManager?.setting?.get(id) ?? otherwise;
}

/** Return this pack's own texts in the language of the page, by their English words. */
export async function translations() {
    const language = setting("Comfy.Locale", "en");
    if (language === "en") return {};
    const reply = await api.fetchApi("/i18n");
    return (await reply.json())[language]?.adastate ?? {};
}

/** Say something in a corner of the page for some seconds. */
export function say(severity, sentence, detail, life = 5000) {
    // It stands there as a title.
    const summary = sentence.replace(/\.$/, "");
    app.extensionManager?.toast?.add({ severity, summary, detail, life });
}

/** Return the node that runs under an id such as `7`, or `5:3` in a subgraph. */
export function findNode(executionId) {
    const path = String(executionId).split(":");
    let graph = rootGraph();
    for (const id of path.slice(0, -1)) graph = byId(graph, id)?.subgraph;
    return byId(graph, path.at(-1));
}

/** Return the ids that a node runs under: one for every place where its subgraph is used. */
export function executionIds(node) {
    return placesOf(node.graph, rootGraph(), "").map((place) => `${place}${node.id}`);
}

/** Return what a node gave to the page when it last ran, as the page keeps it. */
export function outputsOf(node) {
    const inside = node.graph && node.graph !== rootGraph();
    return app.nodeOutputs?.[inside ? `${node.graph.id}:${node.id}` : String(node.id)];
}

function byId(graph, id) {
    return graph?.nodes?.find((node) => String(node.id) === id) ?? null;
}

function placesOf(wanted, graph, place) {
    if (!wanted || wanted === graph) return wanted ? [place] : [];
    return (graph.nodes ?? [])
        .filter((node) => node.subgraph)
        .flatMap((node) => placesOf(wanted, node.subgraph, `${place}${node.id}:`));
}
