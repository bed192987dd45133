// What the page says of itself: which mix is shown, what the text is of, and the bars that ask or warn.

import { byId, fill, make } from "./dom.js";

/**
 * Say which mix is shown, and whether the text gives it.
 *
 * shows: "slider" or "text"; byHand: whether somebody has changed the text; broken: whether it makes no mix, so that
 * the one before stays; waits: whether its check, or the slider's text, is on its way
 */
export function tellStanding({ shows, byHand, broken, waits }) {
  const stale = shows === "text" && broken;
  byId("columns").classList.toggle("stale", stale);
  if (stale) {
    chip("shows", "the last mix without errors", "stale");
    chip("text-is", waits ? "being checked …" : "has errors", "stale");
    return;
  }
  chip("shows", shows === "text" ? "your text’s mix" : "the slider’s mix", `of-${shows}`);
  const hand = shows === "text" ? "changed by hand" : "not the mix that is shown";
  const wait = shows === "text" ? "being checked …" : "follows the slider …";
  if (byHand && shows === "slider") chip("text-is", hand, "of-text");
  else chip("text-is", waits ? wait : byHand ? hand : "gives this mix", byHand ? "of-text" : "of-slider");
}

function chip(id, words, kind) {
  fill(byId(id), words);
  byId(id).className = `chip ${kind}`;
}

/** Ask whether the slider's mix may replace a text that somebody has changed. take, keep: what the answers do. */
export function offerMix(take, keep) {
  const bar = byId("offer");
  if (!bar.hidden) return;
  fill(bar,
    make("p", {}, "This text was changed by hand, and isn’t the slider’s mix."),
    make("div", { class: "buttons" },
      make("button", { type: "button", click: take }, "Take the slider’s mix"),
      make("button", { type: "button", click: keep }, "Keep my text")));
  bar.hidden = false;
}

/** The question is answered, or isn't one any more. */
export function offerNothing() {
  byId("offer").hidden = true;
  fill(byId("offer"));
}

/** Say that the server doesn't answer; or, where it does, that it doesn't take this page, and why. */
export function tellGone(refused) {
  const [what, remedy] = refused === null
    ? ["The studio’s server doesn’t answer. ",
      "Start quantrecipe studio again, if it has ended. This page looks for it, and goes on by itself."]
    : [`The studio’s server doesn’t take this page: ${refused.message}. `,
      "Open the address that quantrecipe studio has printed; copy your text first, if you changed it."];
  fill(byId("gone"), make("p", { class: "bar" }, what, make("span", { class: "remedy" }, remedy)));
}

export function tellBack() {
  fill(byId("gone"));
}
