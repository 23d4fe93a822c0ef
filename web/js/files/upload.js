// Files on their way into ComfyUI's input folder.

import { api } from "../host.js";
import { tr } from "../words.js";

const TOO_LARGE = 413;

/**
 * Upload a file; one of the same name stays as it is.
 *
 * @param {File} file
 * @returns {Promise<{name: string, subfolder: string}>} Where it is now.
 */
export async function upload(file) {
    const body = new FormData();
    body.append("image", file); // what the host calls any file
    body.append("type", "input");
    const reply = await api.fetchApi("/upload/image", { method: "POST", body });
    if (reply.status === TOO_LARGE)
        throw new Error(
            tr(
                "It is larger than this server takes. Copy it into ComfyUI's input folder, " +
                    "or start ComfyUI with a larger --max-upload-size.",
            ),
        );
    if (!reply.ok) throw new Error(tr("The server answered <status>.", { status: reply.status }));
    return reply.json();
}
