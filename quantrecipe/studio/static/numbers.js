// The numbers of a mix: size, bits, loss, speed, memory, and what differs from the base.

import { byId, fill, make } from "./dom.js";
import { bytesText, counted, grouped, lossText, shareText, signed } from "./units.js";

/** Show a plan's numbers. base: the name of what it is compared with, or null. */
export function showNumbers(plan, base) {
  fill(
    byId("figures"),
    figure("Size", bytesText(plan.bytes), [`${grouped(plan.bytes)} B`]),
    figure("Bits per weight", plan.bits.toFixed(3), []),
    figure("Expected loss", lossText(plan.loss.value), ["nats", against(plan.loss.value, plan.loss.base)]),
    speed(plan.speed),
    plan.memory ? memory(plan.memory) : null,
  );
  fill(byId("changes"), ...(plan.changes && base ? changes(plan.changes, base) : []));
  fill(byId("rival"), ...(plan.rival ? rival(plan.rival, plan.loss.value) : []));
}

/** One line about a plan, for those who hear it, and for the bar of small screens. */
export function shortText(plan) {
  return `${bytesText(plan.bytes)} · ${plan.bits.toFixed(2)} bits · loss ${lossText(plan.loss.value)}`;
}

/** What the numbers rest on. knows: of the model; milliseconds: that the plan took. */
export function showKnowledge(knows, milliseconds) {
  const loss = knows.loss === "measured" ? "Losses are from a sensitivity file." : "";
  const speed = knows.speed === "measured" ? "Speed is measured on this machine." : "";
  const time = milliseconds ? `Planned in ${Math.max(1, Math.round(milliseconds))} ms.` : "";
  fill(byId("knows"), [loss, speed, time].filter(Boolean).join(" "));
}

function figure(name, value, more) {
  const lines = more.filter(Boolean).map((it) => make("span", {}, it));
  return make("div", {}, make("dt", {}, name), make("dd", {}, make("b", {}, value), ...lines));
}

function speed(found) {
  if (found === null) return figure("Speed", "–", ["not measured here"]);
  const { tokens_per_second: tokens, base } = found;
  return figure("Speed", tokens.toFixed(1), ["tokens/s", against(tokens, base)]);
}

function against(value, base) {
  return base ? `${shareText(value, base)} against base` : "";
}

function memory({ total, weights, cache, compute, fits }) {
  const parts = [["weights", weights], ["cache", cache], ["buffers", compute]];
  const bar = make("span", { class: "memory", "aria-hidden": "true" },
    ...parts.map(([name, bytes]) => grown(make("i", { class: name }), bytes)));
  const told = make("span", {}, parts.map(([name, bytes]) => `${name} ${bytesText(bytes)}`).join(", "));
  const verdict = fits === null ? null
    : make("span", { class: fits ? "fits" : "too-large" }, fits ? "✓ fits" : "✕ doesn’t fit");
  return make("div", { class: "both" }, make("dt", {}, "Memory"),
    make("dd", {}, make("b", {}, bytesText(total)), verdict, bar, told));
}

/** An element that takes a share of its row. */
export function grown(element, amount) {
  element.style.setProperty("flex-grow", Math.max(0, amount));
  return element;
}

function changes(found, base) {
  if (!found.tensors) return ["No tensor differs from ", make("b", {}, base), "."];
  const parts = [
    `${signed(found.bytes, bytesText)}`,
    `${signed(found.bits, (it) => it.toFixed(2))} bits`,
    found.loss ? `${shareText(found.loss, 1)} loss` : "",
  ];
  return [
    "Against ", make("b", {}, base), `: ${counted(found.tensors, "tensor")} in ${counted(found.groups, "group")} `,
    `${found.tensors === 1 ? "differs" : "differ"}; ${parts.filter(Boolean).join(", ")}.`,
  ];
}

function rival({ name, bytes, loss }, own) {
  return ["The best stock mix within the same limit is ", make("b", {}, name),
    `: ${bytesText(bytes)}, loss ${lossText(loss)}`, loss > 0 ? ` (this mix: ${shareText(own, loss)}).` : "."];
}

/** Show the types of a plan: a bar of their bytes, and a list. */
export function showTypes(types) {
  const total = types.reduce((sum, it) => sum + it.bytes, 0) || 1;
  const byBits = [...types].sort((one, other) => one.bits - other.bits);
  fill(byId("share"), ...byBits.map((it) => grown(make("i", { class: it.shade, title: it.type }), it.bytes)));
  fill(byId("types"), ...[...types].sort((one, other) => other.bytes - one.bytes).map((it) =>
    make("li", {}, make("span", { class: `swatch ${it.shade}` }, it.type),
      make("b", {}, bytesText(it.bytes)), ` ${(100 * it.bytes / total).toFixed(1)} %`,
      make("span", { class: "detail" }, `${it.bits.toFixed(2)} bits, ${counted(it.tensors, "tensor")}`))));
}
