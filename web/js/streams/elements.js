// Parts that the sidebar and the menu of names are made of.

import { make } from "../elements.js";
import { thumbnailAddress } from "./requests.js";

/** Return a button with an icon, and with a text or a title that says what it does. */
export function button(icon, title, testId, onclick, text = "") {
    const made = make("button", "adastate-button", { type: "button", title, testId, onclick });
    made.setAttribute("aria-label", title);
    made.append(make("i", `pi ${icon}`, { ariaHidden: "true" }));
    if (text) made.append(make("span", "", { textContent: text }));
    return made;
}

/** Return a stream's moving picture, or what stands for one. */
export function thumbnail(stream, folder) {
    const box = make("div", "adastate-stream-picture");
    const address = thumbnailAddress(stream, folder);
    const instead = () => {
        const icon = stream.problem ? "pi-exclamation-triangle" : "pi-video";
        box.replaceChildren(make("i", `pi ${icon}`, { ariaHidden: "true" }));
    };
    if (address === null) instead();
    else box.append(make("img", "", { loading: "lazy", alt: "", src: address, onerror: instead }));
    return box;
}
