// Small helpers to make elements; text never becomes markup.

/**
 * Return a new element.
 * @param {string} tag
 * @param {string} name its class
 * @param {Record<string, string|number|null>} [attributes]
 * @param {...(Node|string)} inside
 */
export function make(tag, name, attributes = {}, ...inside) {
    const element = document.createElement(tag);
    element.className = name;
    for (const [key, value] of Object.entries(attributes)) {
        if (value !== null && value !== undefined) element.setAttribute(key, String(value));
    }
    element.append(...inside);
    return element;
}

/** Return a new button that does something when it is pressed. */
export function button(name, text, title, action) {
    const element = make("button", name, { type: "button", title }, text);
    element.addEventListener("click", action);
    return element;
}
