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
