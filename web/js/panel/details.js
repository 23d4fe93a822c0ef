// The line about the selected chunk, and what can be done with it.

import { make, setText } from "../elements.js";
import { chunkLine } from "./format.js";
import { later, tr } from "../words.js";

const ACTIONS = [
    [
        "rewind",
        later("Rewind here"),
        later("Add a Rewind node that keeps this chunk and drops the later ones"),
    ],
    [
        "branch",
        later("Branch here"),
        later("Go on from this chunk in a second Stream node with another seed"),
    ],
    ["copySeed", later("Copy seed"), later("Copy the seed of this chunk")],
    ["editPrompt", later("Edit prompt"), later("Go to the prompt of this chunk")],
];
const TEST_IDS = {
    rewind: "adastate-rewind",
    branch: "adastate-branch",
    copySeed: "adastate-copy-seed",
    editPrompt: "adastate-edit-prompt",
};

export class Details {
    /** @param {(action: string) => string|void} onAction  What it returns is shown for a moment. */
    constructor(onAction) {
        this.element = make("div", "adastate-details", { testId: "adastate-details" });
        this.line = make("div", "adastate-line");
        this.buttons = make("div", "adastate-actions");
        for (const [action, name, purpose] of ACTIONS) {
            const [text, title] = [tr(name), tr(purpose)];
            const button = make("button", "", { textContent: text, title, testId: TEST_IDS[action] });
            button.type = "button";
            button.addEventListener("click", () => this.run(button, text, () => onAction(action)));
            this.buttons.append(button);
        }
        // The page has shortcuts on letters and arrows; on a button only the button's own keys act.
        this.buttons.addEventListener("keydown", (event) => this.onKey(event));
        this.element.append(this.line, this.buttons);
    }

    /** Show a chunk. */
    show(chunk) {
        setText(this.line, chunk ? chunkLine(chunk) : "");
        this.line.title = chunk?.prompt ?? "";
        for (const button of this.buttons.children) button.disabled = !chunk;
    }

    /** Move the keyboard to the first action. */
    focus() {
        this.buttons.firstChild.focus();
    }

    run(button, text, action) {
        const answer = action();
        if (!answer) return;
        setText(button, answer);
        setTimeout(() => setText(button, text), 1400);
    }

    onKey(event) {
        const steps = { ArrowLeft: "previousElementSibling", ArrowRight: "nextElementSibling" };
        if (event.key in steps) {
            event.target[steps[event.key]]?.focus();
            event.preventDefault();
        } else if (event.key === "Escape") {
            this.onLeave?.();
        } else if (event.key !== "Enter" && event.key !== " ") {
            return;
        }
        event.stopPropagation();
    }
}
