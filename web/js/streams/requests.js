// What the server is asked for.

import { api } from "../host.js";
import { tr } from "../words.js";

const PATH = "/adastate/streams";

/** What the server says of something it will not do, in words for the page. */
export class Refusal extends Error {
    constructor({ problem, remedy }) {
        super(problem);
        this.problem = sentence(problem);
        this.remedy = sentence(remedy);
    }
}

/** Return all streams, and those in the bin. */
export async function listStreams() {
    return read(await api.fetchApi(PATH));
}

/** Do something to a stream: fork, rename, delete, restore or purge. */
export async function act(what, texts) {
    const reply = await api.fetchApi(`${PATH}/${what}`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(texts),
    });
    return read(reply);
}

/** Return the address of a stream's moving picture, or null if it has none. */
export function thumbnailAddress({ name, slot, thumbnail }, folder) {
    if (!thumbnail) return null;
    const subfolder = slot ? `${folder}/.bin/${slot}/${name}` : `${folder}/${name}`;
    const query = new URLSearchParams({
        type: "output",
        subfolder,
        filename: "thumbnail.webp",
        v: thumbnail,
    });
    return api.apiURL(`/view?${query}`);
}

async function read(reply) {
    if (!reply.ok) {
        const problem = tr("The server answered <status>.", { status: reply.status });
        const remedy = tr("Reload the page; if it stays, look at ComfyUI's log.");
        throw new Refusal({ problem, remedy });
    }
    const values = await reply.json();
    if (values.problem && values.remedy) throw new Refusal(values);
    return values;
}

function sentence(text) {
    const ended = /[.!?\u3002]$/.test(text) ? text : `${text}.`;
    return ended[0].toUpperCase() + ended.slice(1);
}
