// Small helpers to make elements; text never becomes markup.

/** Return a new element with a class, a test id and a text where they are given. */
export function make(tag, { name, testId, text, title, role } = {}) {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (testId) element.dataset.testid = testId;
    if (text !== undefined) element.textContent = text;
    if (title) element.title = title;
    if (role) element.setAttribute("role", role);
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
