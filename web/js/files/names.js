// Names of state files.

export const ENDING = ".adastate.safetensors";

/** Return whether a file may be a state: what is there twice is numbered by browsers. */
export function isStateFile(name) {
    return /\.adastate( ?\(\d+\))?\.safetensors$/i.test(name);
}

/** Return how Load State lists a file of the input folder. */
export function listedName({ name, subfolder }) {
    return `${subfolder ? `${subfolder}/` : ""}${name} [input]`;
}
