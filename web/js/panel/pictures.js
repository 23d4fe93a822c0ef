// Pictures of the panel: moving where one wants that, else their first frame.

/**
 * Return an element that shows a picture of the server.
 *
 * @param {string} url
 * @param {boolean} moving  Whether an animated picture plays.
 */
export function makePicture(url, moving) {
    const image = new Image();
    image.decoding = "async";
    image.draggable = false;
    image.alt = "";
    if (moving) {
        image.addEventListener("error", () => image.classList.add("adastate-missing"));
        image.src = url;
        return image;
    }
    const canvas = document.createElement("canvas");
    image.addEventListener("error", () => canvas.classList.add("adastate-missing"));
    image.addEventListener("load", () => {
        canvas.width = image.naturalWidth;
        canvas.height = image.naturalHeight;
        canvas.getContext("2d")?.drawImage(image, 0, 0);
    });
    image.src = url;
    return canvas;
}

/** Return whether the reader's system asks for less motion. */
export function prefersStills() {
    return globalThis.matchMedia?.("(prefers-reduced-motion: reduce)").matches ?? false;
}
