// The buttons of the editor and of its window for transitions.

import { make } from "../elements.js";

/** Return a new button that does something when it is pressed. */
export function button(name, text, title, onclick) {
    return make("button", name, { type: "button", title, onclick }, text);
}
