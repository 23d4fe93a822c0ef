// The page's part of AdaState. Without it every node still runs; with it one sees and steers them.

import { app, translations } from "./js/host.js";
import { setUpErrors } from "./js/errors/index.js";
import { setUpFiles } from "./js/files/index.js";
import { setUpPanel } from "./js/panel/index.js";
import { setUpStreams } from "./js/streams/index.js";
import { setUpTimeline } from "./js/timeline/index.js";
import { learn } from "./js/words.js";

// In the order of what they add to a node: the stream is shown below the timeline it follows.
const parts = [setUpTimeline(), setUpPanel(), setUpStreams(), setUpFiles(), setUpErrors()];

app.registerExtension({
    name: "AdaState",
    settings: parts.flatMap((part) => part.settings ?? []),
    commands: parts.flatMap((part) => part.commands ?? []),
    menuCommands: parts.flatMap((part) => part.menuCommands ?? []),
    keybindings: parts.flatMap((part) => part.keybindings ?? []),
    async setup() {
        learn(await translations().catch(() => null));
        for (const part of parts) await part.setup?.();
    },
    async nodeCreated(node) {
        for (const part of parts) part.nodeCreated?.(node);
    },
    async loadedGraphNode(node) {
        for (const part of parts) part.loadedGraphNode?.(node);
    },
});
