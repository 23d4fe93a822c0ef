// Where words are typed: over a block, or in the line of a problem.

import { make } from "./elements.js";

const NARROWEST = 190;

/**
 * Let a text be edited over an element.
 * @param {HTMLElement} parent
 * @param {HTMLElement} over
 * @param {string} text
 * @param {(text: string|null) => void} onDone called once; null where nothing is to change
 */
export function editText(parent, over, text, onDone) {
    const field = make("textarea", "adastate-tl-field", {
        "aria-label": "Prompt",
        "data-testid": "adastate-prompt",
        spellcheck: "false",
    });
    field.value = text;
    parent.append(field);
    const width = Math.min(parent.clientWidth, Math.max(NARROWEST, over.offsetWidth));
    field.style.width = `${width}px`;
    field.style.left = `${Math.max(0, Math.min(over.offsetLeft, parent.clientWidth - width))}px`;
    finish(field, () => field.remove(), onDone);
    field.focus({ preventScroll: true });
    field.select();
    return field;
}

/**
 * Return a row that shows a faulty line, underlined, with its sentence; pressed, it is edited.
 * @param {number} line
 * @param {string} text the line
 * @param {string} sentence
 * @param {(text: string) => void} onChange
 */
export function problemRow(line, text, sentence, onChange) {
    const field = make("input", "adastate-tl-faulty", {
        "aria-label": `Line ${line}`,
        "aria-invalid": "true",
        "data-testid": "adastate-faulty",
        spellcheck: "false",
        title: "Press to correct this line",
    });
    field.value = text;
    finish(
        field,
        () => {},
        (words) => {
            if (words === null) field.value = text;
            else if (words !== text) onChange(words);
        },
    );
    return make(
        "div",
        "adastate-tl-problem",
        { "data-testid": "adastate-problem", "data-line": line },
        field,
        make("div", "adastate-tl-sentence", { role: "alert" }, `Line ${line}: ${sentence}`),
    );
}

/** Call `onDone` when a field is left or Enter is pressed, with null after Escape. */
function finish(field, leave, onDone) {
    let done = false;
    const end = (words) => {
        if (done && field.tagName === "TEXTAREA") return;
        done = true;
        leave();
        onDone(words);
    };
    field.addEventListener("blur", () => end(field.value));
    field.addEventListener("keydown", (event) => {
        event.stopPropagation();
        if (event.isComposing) return;
        if (event.key === "Enter" && !event.ctrlKey) {
            event.preventDefault();
            end(field.value);
        } else if (event.key === "Escape") {
            event.preventDefault();
            end(null);
        }
    });
}
