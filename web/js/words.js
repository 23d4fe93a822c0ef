// Texts in the reader's language. Each is known by its English words, which stay where it has no
// translation; `locales/<language>/main.json` has them under "adastate". Imports nothing of the page.

let translations = {};

/** Take in the translations into the reader's language, by English text. */
export function learn(found) {
    translations = found && typeof found === "object" ? found : {};
}

/**
 * Return a text in the reader's language.
 * @param {string} text  In English; `<name>` stands for a value.
 * @param {Record<string, string|number>} [values]
 */
export function tr(text, values) {
    const found = translations[text];
    return plain(typeof found === "string" && found ? found : text, values);
}

/** Return a text about a number of things, which `<count>` in it stands for. */
export function trCount(one, many, count, values) {
    return tr(count === 1 ? one : many, { ...values, count });
}

/** Mark a text of a table, which is put into the reader's language where it is shown. */
export function later(text) {
    return text;
}

/** Put values into a text, and leave it in its language. */
export function plain(text, values = {}) {
    return text.replace(/<(\w+)>/g, (whole, name) =>
        Object.hasOwn(values, name) ? String(values[name]) : whole,
    );
}
