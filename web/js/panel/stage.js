// The large picture of a panel: the newest or selected chunk, or the finished video.

import { make } from "../elements.js";
import { makePicture } from "./pictures.js";

export class Stage {
    /** @param {(seconds: number|null) => void} onTime  Told where the video plays; null: no video. */
    constructor(onTime) {
        this.element = make("div", "adastate-stage", { testId: "adastate-stage" });
        this.onTime = onTime;
        this.shown = "";
        this.resume = () => {};
        new ResizeObserver(() => this.element.clientWidth && this.resume()).observe(this.element);
    }

    /** Show a picture; the one before stays until the new one can be drawn. */
    showPicture(url, moving) {
        const key = `${moving} ${url}`;
        if (key === this.shown) return;
        this.dropVideo();
        this.shown = key;
        const picture = makePicture(url, moving);
        const place = () => {
            if (this.shown === key) this.element.replaceChildren(picture);
        };
        if (picture.decode) picture.decode().then(place, place);
        else place();
    }

    /** Show a video: looping and without sound, as a picture that moves. */
    showVideo(url, moving) {
        const key = `video ${url}`;
        if (key === this.shown) return;
        this.dropVideo();
        this.shown = key;
        const video = make("video");
        Object.assign(video, { loop: true, muted: true, playsInline: true, controls: true });
        video.autoplay = moving;
        video.preload = "auto";
        video.addEventListener("timeupdate", () => this.onTime(video.currentTime));
        video.src = url;
        this.video = video;
        this.element.replaceChildren(video);
        this.keepPlaying(video, moving);
    }

    /** Show nothing but the background. */
    clear() {
        this.dropVideo();
        this.shown = "";
        this.element.replaceChildren();
    }

    /** Move the video to a time; does nothing where none is shown. */
    seek(seconds) {
        if (this.video?.readyState >= 1) this.video.currentTime = seconds;
    }

    /** Return how long the video is, or null while that is not known. */
    get duration() {
        const seconds = this.video?.duration;
        return Number.isFinite(seconds) ? seconds : null;
    }

    dropVideo() {
        if (!this.video) return;
        this.video.pause();
        this.video.removeAttribute("src");
        this.video.load();
        this.video = null;
        this.resume = () => {};
        this.onTime(null);
    }

    /** Go on after the page moved or hid the element, which pauses a video; not where one paused it. */
    keepPlaying(video, moving) {
        let wanted = moving;
        video.addEventListener("play", () => (wanted = true));
        video.addEventListener("pause", () => {
            if (video.matches(":hover, :focus")) wanted = false;
        });
        this.resume = () => {
            if (wanted && video.paused) video.play().catch(() => {});
        };
    }
}
