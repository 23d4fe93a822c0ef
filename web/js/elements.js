// Small helpers to make elements; text never becomes markup. Imports nothing of the page.

/**
 * Return a new element.
 *
 * @param {string} tag
 * @param {string} [name]  Its class.
 * @param {Record<string, unknown>} [given]  Properties, and attributes where it has no such
 *     property; `testId` is what tests find it by. What is null or undefined is left out.
 * @param {...(Node|string)} inside
 */
export function make(tag, name = "", given = {}, ...inside) {
    const element = document.createElement(tag);
    if (name) element.className = name;
    const { testId, ...others } = given;
    if (testId) element.dataset.testid = testId;
    for (const [key, value] of Object.entries(others)) {
        if (value === null || value === undefined) continue;
        if (key in element) element[key] = value;
        else element.setAttribute(key, String(value));
    }
    element.append(...inside);
    return element;
}

/** Return a new SVG element with attributes. */
export function makeSvg(tag, attributes = {}) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
}

/** Write a text only where it differs, so that nothing is drawn again without need. */
export function setText(element, text) {
    if (element.textContent !== text) element.textContent = text;
}
