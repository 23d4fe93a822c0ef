// Entry of this part: returns what it adds to the extension.

export function setUpStreams() {
    return {};
}
