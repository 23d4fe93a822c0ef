// One stream in the sidebar, and one in the bin.

import { button, make, thumbnail } from "./elements.js";
import { ageText, lengthText, sizeText } from "./words.js";

/** Return the row of a stream; `actions` has a function for each of its buttons. */
export function streamRow(stream, folder, fps, actions) {
    const at = (what) => `adastate-stream-${what}`;
    const open = button("pi-play", "Continue this stream in the workflow", at("continue"), () =>
        actions.resume(stream),
    );
    open.append(make("span", "", { textContent: "Continue" }));
    open.disabled = Boolean(stream.problem);
    const fork = button("pi-clone", "Fork: copy it under a new name", at("fork"), () =>
        actions.fork(stream),
    );
    fork.disabled = Boolean(stream.problem);
    return row(stream, folder, fps, ageText(stream.changed, Date.now() / 1000), [
        open,
        fork,
        button("pi-pencil", "Rename", at("rename"), () => actions.rename(stream)),
        button("pi-folder", "Copy its folder's path", at("reveal"), () => actions.reveal(stream)),
        button("pi-trash", "Move to the bin", at("delete"), () => actions.remove(stream)),
    ]);
}

/** Return the row of a stream in the bin. */
export function binRow(stream, folder, fps, actions) {
    const at = (what) => `adastate-bin-${what}`;
    const restore = button("pi-undo", "Put it back", at("restore"), () => actions.restore(stream));
    restore.append(make("span", "", { textContent: "Restore" }));
    return row(stream, folder, fps, `deleted ${ageText(stream.deleted, Date.now() / 1000)}`, [
        restore,
        button("pi-trash", "Delete for good", at("purge"), () => actions.purge(stream)),
    ]);
}

function row(stream, folder, fps, when, buttons) {
    const name = make("div", "adastate-stream-name", { textContent: stream.name });
    name.title = stream.name;
    const length = make("div", "", { textContent: lengthText(stream, fps) });
    if (stream.frames !== null) length.title = `${stream.frames} frames, at ${fps} a second`;
    const facts = make("div", "adastate-stream-facts", {}, length);
    facts.append(make("div", "", { textContent: `${sizeText(stream.size)}, ${when}` }));
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
