// Where words are typed: over a block, or in the line of a problem.

import { make } from "../elements.js";
import { tr } from "../words.js";

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
        "aria-label": tr("Prompt"),
        "data-testid": "adastate-prompt",
        spellcheck: false,
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
    const shown = make(
        "button",
        "adastate-tl-faulty",
        {
            type: "button",
            "aria-label": tr("Line <line>: <text>", { line, text }),
            "aria-invalid": "true",
            "data-testid": "adastate-faulty",
            title: tr("Press to correct this line"),
        },
        text,
    );
    const said = tr("Line <line>: <text>", { line, text: sentence });
    const row = make(
        "div",
        "adastate-tl-problem",
        { "data-testid": "adastate-problem", "data-line": line },
        shown,
        make("div", "adastate-tl-sentence", { role: "alert" }, said),
    );
    shown.addEventListener("click", () => {
        editText(row, shown, text, (words) => {
            if (words !== null && words !== text) onChange(words);
        });
    });
    return row;
}

/** Call `onDone` when a field is left or Enter is pressed, with null after Escape. */
function finish(field, leave, onDone) {
    let done = false;
    const end = (words) => {
        if (done) return;
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
