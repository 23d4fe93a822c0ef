// One stream in the sidebar, and one in the bin.

import { make } from "../elements.js";
import { button, thumbnail } from "./elements.js";
import { ageText, lengthText, sizeText } from "./words.js";
import { tr } from "../words.js";

/** Return the row of a stream; `actions` has a function for each of its buttons. */
export function streamRow(stream, folder, fps, actions) {
    const at = (what) => `adastate-stream-${what}`;
    const goOn = tr("Continue this stream in the workflow");
    const open = button("pi-play", goOn, at("continue"), () => actions.resume(stream));
    open.append(make("span", "", { textContent: tr("Continue") }));
    open.disabled = Boolean(stream.problem);
    const copy = tr("Fork: copy it under a new name");
    const fork = button("pi-clone", copy, at("fork"), () => actions.fork(stream));
    fork.disabled = Boolean(stream.problem);
    return row(stream, folder, fps, ageText(stream.changed, Date.now() / 1000), [
        open,
        fork,
        button("pi-pencil", tr("Rename"), at("rename"), () => actions.rename(stream)),
        button("pi-folder", tr("Copy its folder's path"), at("reveal"), () =>
            actions.reveal(stream),
        ),
        button("pi-trash", tr("Move to the bin"), at("delete"), () => actions.remove(stream)),
    ]);
}

/** Return the row of a stream in the bin. */
export function binRow(stream, folder, fps, actions) {
    const at = (what) => `adastate-bin-${what}`;
    const restore = button("pi-undo", tr("Put it back"), at("restore"), () =>
        actions.restore(stream),
    );
    restore.append(make("span", "", { textContent: tr("Restore") }));
    const age = ageText(stream.deleted, Date.now() / 1000);
    return row(stream, folder, fps, tr("deleted <age>", { age }), [
        restore,
        button("pi-trash", tr("Delete for good"), at("purge"), () => actions.purge(stream)),
    ]);
}

function row(stream, folder, fps, when, buttons) {
    const name = make("div", "adastate-stream-name", { textContent: stream.name });
    name.title = stream.name;
    const length = make("div", "", { textContent: lengthText(stream, fps) });
    if (stream.frames !== null) {
        length.title = tr("<frames> frames, at <fps> a second", { frames: stream.frames, fps });
    }
    const facts = make("div", "adastate-stream-facts", {}, length);
    facts.append(make("div", "", { textContent: tr("<size>, <age>", { size: sizeText(stream.size), age: when }) }));
    const text = make("div", "adastate-stream-text", {}, name, facts);
    const said = stream.problem || stream.prompt;
    if (said) {
        const kind = stream.problem ? "adastate-stream-problem" : "adastate-stream-prompt";
        text.append(make("div", kind, { textContent: said, title: said }));
    }
    const made = make("li", "adastate-stream", {}, thumbnail(stream, folder), text);
    made.append(make("div", "adastate-stream-actions", {}, ...buttons));
    made.dataset.testid = stream.slot ? "adastate-binned" : "adastate-stream";
    made.dataset.name = stream.name;
    return made;
}
