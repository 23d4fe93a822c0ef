// The line about the selected chunk, and what can be done with it.

import { make, setText } from "./elements.js";
import { chunkLine } from "./format.js";

const ACTIONS = [
    ["rewind", "Rewind here", "Add a Rewind node that keeps this chunk and drops the later ones"],
    ["branch", "Branch here", "Go on from this chunk in a second Stream node with another seed"],
    ["copySeed", "Copy seed", "Copy the seed of this chunk"],
    ["editPrompt", "Edit prompt", "Go to the prompt of this chunk"],
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
        this.element = make("div", { name: "adastate-details", testId: "adastate-details" });
        this.line = make("div", { name: "adastate-line" });
        this.buttons = make("div", { name: "adastate-actions" });
        for (const [action, text, title] of ACTIONS) {
            const button = make("button", { text, title, testId: TEST_IDS[action] });
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
