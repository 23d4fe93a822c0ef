// How lengths of video and of work are said. Imports nothing of the page.

import { later, tr } from "./words.js";

/**
 * Say a length: `2.6 s`, `1 min 05 s`, `1 h 7 min`.
 *
 * @param {number} seconds
 * @param {typeof tr} [words]  Another way to translate.
 */
export function lengthOf(seconds, words = tr) {
    if (seconds < 59.95) return words(later("<seconds> s"), { seconds: seconds.toFixed(1) });
    const whole = Math.round(seconds);
    const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
    if (hours) return words(later("<hours> h <minutes> min"), { hours, minutes });
    const rest = String(whole % 60).padStart(2, "0");
    return words(later("<minutes> min <seconds> s"), { minutes, seconds: rest });
}
