// Commands, and where the page's menu has them.

import { api, app } from "../host.js";
import { attempt } from "./notes.js";
import { openSidebar } from "./sidebar.js";

const DOCUMENTATION = "https://github.com/adastate/comfyui-adastate";
const FIRST = /demo|first|text/i;

export const commands = [
    {
        id: "AdaState.OpenStreams",
        label: "Open the streams sidebar",
        icon: "pi pi-video",
        function: openSidebar,
    },
    {
        id: "AdaState.NewStream",
        label: "New text-to-video stream",
        icon: "pi pi-plus",
        tooltip: "Opens a workflow of its own, with models that come with AdaState.",
        function: () => attempt(openFirstTemplate),
    },
    {
        id: "AdaState.BrowseTemplates",
        label: "Browse templates",
        icon: "pi pi-folder-open",
        function: () => app.extensionManager.command.execute("Comfy.BrowseTemplates"),
    },
    {
        id: "AdaState.Documentation",
        label: "AdaState documentation",
        icon: "pi pi-question-circle",
        function: () => {
            window.open(DOCUMENTATION, "_blank", "noopener");
        },
    },
];

export const menuCommands = [
    {
        path: ["AdaState"],
        commands: ["AdaState.NewStream", "AdaState.OpenStreams", "AdaState.BrowseTemplates"],
    },
    { path: ["AdaState"], commands: ["AdaState.Documentation"] },
];

/** Open the template that needs no model but ours, in a tab of its own. */
async function openFirstTemplate() {
    const pack = decodeURIComponent(new URL(import.meta.url).pathname.split("/extensions/")[1])
        .split("/")[0];
    const templates = (await (await api.fetchApi("/workflow_templates")).json())[pack] ?? [];
    const name = templates.find((each) => FIRST.test(each)) ?? templates[0];
    if (!name) throw new Error("no templates");
    const path = [pack, `${name}.json`].map(encodeURIComponent).join("/");
    const reply = await api.fetchApi(`/workflow_templates/${path}`);
    await app.loadGraphData(await reply.json(), true, true, name);
}
