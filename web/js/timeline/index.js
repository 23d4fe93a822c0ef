// Entry of this part: returns what it adds to the extension.

export function setUpTimeline() {
    return {};
}
