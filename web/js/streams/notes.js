// What the streams part says and asks in the page.

import { app } from "../host.js";
import { Refusal } from "./requests.js";
import { tr } from "../words.js";

/** Say something in a corner of the page for some seconds. */
export function say(severity, summary, detail) {
    app.extensionManager?.toast?.add({ severity, summary, detail, life: 6000 });
}

/** Ask for a text; null if there is none. */
export async function ask(title, message, defaultValue) {
    const answer = await app.extensionManager.dialog.prompt({ title, message, defaultValue });
    return answer?.trim() || null;
}

/** Ask before something that cannot be undone. */
export async function confirm(title, message) {
    return Boolean(await app.extensionManager.dialog.confirm({ title, message, type: "delete" }));
}

/** Do something, and say it in the page's words if it cannot be done. */
export async function attempt(action) {
    try {
        return await action();
    } catch (error) {
        if (error instanceof Refusal) say("error", error.problem, error.remedy);
        else {
            console.warn("AdaState:", error);
            const remedy = tr("Reload the page, and look at ComfyUI's log.");
            say("error", tr("That did not work."), remedy);
        }
        return undefined;
    }
}
