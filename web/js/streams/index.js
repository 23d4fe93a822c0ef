// Entry of this part: named streams in the sidebar and on Open Stream, and what all nodes share.

import { app, loadStyle } from "../host.js";
import { colourNode, colourSocket, keepSocketColour } from "./colours.js";
import { commands, menuCommands } from "./commands.js";
import { addNamesButton } from "./names_menu.js";
import { colourNodes, defaultFps, settings } from "./settings.js";
import { StreamsSidebar, TAB } from "./sidebar.js";
import { tr } from "../words.js";

export function setUpStreams() {
    return {
        settings,
        commands,
        menuCommands,
        setup() {
            loadStyle("css/streams.css");
            keepSocketColour();
            const sidebar = new StreamsSidebar(defaultFps);
            app.extensionManager.registerSidebarTab({
                id: TAB,
                icon: "pi pi-video",
                title: tr("Streams"),
                tooltip: tr("Streams"),
                type: "custom",
                render: (place) => sidebar.mount(place),
            });
        },
        nodeCreated(node) {
            if (!node.comfyClass?.startsWith("AdaState")) return;
            // What a workflow says of its nodes is read after this, and counts.
            if (node.comfyClass === "AdaStateOpenStream") addNamesButton(node, defaultFps());
            colourSocket(); // the palette is loaded by now
            if (colourNodes()) colourNode(node, !app.configuringGraph);
            if (app.configuringGraph) return;
            const fps = node.widgets?.find((widget) => widget.name === "fps");
            if (fps) fps.value = defaultFps();
        },
    };
}
