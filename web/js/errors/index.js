// Errors of this pack, said in the first view: the page shows only that a node has failed.

import { api, findNode, say } from "../host.js";

const OURS = "AdaState.";
const SHOWN_FOR = 20000;

export function setUpErrors() {
    return {
        setup() {
            api.addEventListener("execution_error", ({ detail }) => tell(detail));
        },
    };
}

/** Say what is wrong and what to do, where the error is one that this pack words. */
function tell(error) {
    const { exception_type: type, exception_message: message } = error ?? {};
    if (typeof type !== "string" || !type.startsWith(OURS) || typeof message !== "string") return;
    const node = findNode(error.node_id ?? "");
    say("error", node?.title ?? "AdaState", message.trim(), SHOWN_FOR);
}
