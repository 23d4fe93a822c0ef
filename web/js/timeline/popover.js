// The small window that changes a transition.

import { make } from "../elements.js";
import { button } from "./button.js";
import { COUNTED, MOST, TRANSITIONS } from "./read.js";
import { later, tr } from "../words.js";

const SAID = {
    swap: later("The next prompt takes over at once."),
    blend: later("The prompts are mixed over some chunks."),
    recache: later("The memory is computed again under the new prompt."),
    flush: later("Keeps the anchor and the newest frames only."),
};

/**
 * Open the window of a join inside `root`, `left` pixels from its edge.
 * @param {HTMLElement} root
 * @param {{transition: string, count: number}} cue
 * @param {number} left
 * @param {(transition: string, count: number) => void} onChange
 * @param {() => void} onClose
 */
export function openPopover(root, cue, left, onChange, onClose) {
    const count = make("input", "adastate-tl-count", {
        type: "number",
        min: 1,
        max: MOST,
        value: cue.count || 2,
        "aria-label": tr("Number of <things>", { things: tr(COUNTED[cue.transition] ?? "chunks") }),
    });
    const kinds = TRANSITIONS.map((kind) =>
        button(`adastate-tl-kind adastate-tl-${kind}`, kind, tr(SAID[kind]), () =>
            onChange(kind, Number(count.value) || 2),
        ),
    );
    kinds.forEach((one, i) => one.setAttribute("aria-pressed", TRANSITIONS[i] === cue.transition));
    count.addEventListener("change", () => onChange(cue.transition, Number(count.value) || 1));
    const row = make("div", "adastate-tl-kinds", {}, ...kinds);
    if (COUNTED[cue.transition]) row.append(count, tr(COUNTED[cue.transition]));
    const box = make(
        "div",
        "adastate-tl-popover",
        { role: "dialog", "aria-label": tr("Transition"), "data-testid": "adastate-popover" },
        row,
        make("div", "adastate-tl-said", {}, tr(SAID[cue.transition])),
    );
    const close = () => {
        document.removeEventListener("pointerdown", onPress, true);
        if (!box.isConnected) return;
        box.remove();
        onClose();
    };
    const onPress = (event) => {
        if (!box.contains(event.target)) close();
    };
    document.addEventListener("pointerdown", onPress, true);
    box.addEventListener("keydown", (event) => {
        event.stopPropagation();
        if (event.key === "Escape") close();
    });
    box.addEventListener("focusout", (event) => {
        if (event.relatedTarget && !box.contains(event.relatedTarget)) close();
    });
    root.append(box);
    box.style.left = `${Math.max(4, Math.min(left, root.clientWidth - box.offsetWidth - 4))}px`;
    kinds[TRANSITIONS.indexOf(cue.transition)].focus({ preventScroll: true });
    return box;
}
