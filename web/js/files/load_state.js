// Load State takes a file by its button, and one that is dropped on it.

import { say } from "../host.js";
import { tr } from "../words.js";
import { ENDING, isStateFile, listedName } from "./names.js";
import { upload } from "./upload.js";

/** Add the button to a node, which is no part of what a workflow saves, and let it take drops. */
export function addUpload(node) {
    const widget = node.addWidget("button", "upload a state file", null, () => choose(node));
    widget.serialize = false;
    widget.options.serialize = false;
    widget.label = tr("upload a state file");
    widget.tooltip = tr("Copies a file that Save State wrote into ComfyUI's input folder.");
    // The page asks while something is over the node, when its name cannot be known yet.
    node.onDragOver = (event) =>
        [...(event.dataTransfer?.items ?? [])].some((item) => item.kind === "file");
    node.onDragDrop = (event) => {
        const file = [...(event.dataTransfer?.files ?? [])].find(({ name }) => isStateFile(name));
        if (!file) return false; // the page opens what else it may be
        return take(node, file).then(() => true);
    };
}

function choose(node) {
    const field = document.createElement("input");
    field.type = "file";
    field.accept = ENDING.slice(ENDING.lastIndexOf("."));
    field.onchange = () => field.files.length && take(node, field.files[0]);
    field.click();
}

/** Upload a file and choose it. */
async function take(node, file) {
    if (!isStateFile(file.name)) {
        const remedy = tr("Choose a file whose name ends in <ending>.", { ending: ENDING });
        say("error", tr("<file> was not written by Save State.", { file: file.name }), remedy);
        return;
    }
    say("info", tr("Uploading <file>", { file: file.name }));
    try {
        select(node, listedName(await upload(file)));
    } catch (error) {
        say("error", tr("<file> could not be uploaded.", { file: file.name }), error.message);
    }
}

function select(node, listed) {
    const widget = node.widgets.find(({ name }) => name === "file");
    const { values } = widget.options;
    if (Array.isArray(values) && !values.includes(listed)) values.unshift(listed);
    const before = widget.value;
    widget.value = listed;
    widget.callback?.(listed);
    node.onWidgetChanged?.(widget.name, listed, before, widget);
    node.graph?.setDirtyCanvas(true, true);
}
