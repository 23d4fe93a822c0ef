// Entry of this part: state files that are brought to Load State from the artist's own disk.

import { addUpload } from "./load_state.js";

export function setUpFiles() {
    return {
        nodeCreated(node) {
            if (node.comfyClass === "AdaStateLoad") addUpload(node);
        },
    };
}
