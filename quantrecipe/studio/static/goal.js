// The budget: what it is for, how much it is, and the marks on the slider.

import { byId, fill, make, sayProblem } from "./dom.js";
import { bytesText, tokensText, unitOf } from "./units.js";

const STEPS = 1000;
const GIB = 2 ** 30;
const CARDS = [4, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 80, 96, 128, 141, 192, 256, 384, 512, 640, 768, 1024];
// What graphics cards and machines have, in GiB.
const USUAL_BASE = "llama.cpp/Q4_K_M";
const USUAL_CACHE = "F16";
const FIRST_NAMED = ["Q4_K_M", "Q8_0", "Q2_K", "Q6_K", "Q3_K_M", "Q5_K_M", "IQ2_XS", "IQ4_XS", "IQ3_M", "IQ1_M"];
// Marks that have their names before others do, where there isn't room for all.
const ROWS = 2;
// Rows of names below the slider.

/** A slider's steps as amounts: equal steps are equal ratios, since mixes lie closer together where they are small. */
class Scale {
  constructor(least, most) {
    this.least = least;
    this.most = Math.max(most, least * 1.001);
  }

  amount(step) {
    if (step <= 0) return this.least;
    return step >= STEPS ? this.most : this.least * (this.most / this.least) ** (step / STEPS);
  }

  step(amount) {
    const step = (STEPS * Math.log(amount / this.least)) / Math.log(this.most / this.least);
    return Math.min(STEPS, Math.max(0, Math.round(step)));
  }

  /** From 0 to 1. */
  place(amount) {
    return Math.log(amount / this.least) / Math.log(this.most / this.least);
  }
}

/**
 * The budget's controls.
 *
 * moved: called when somebody wants another budget; seen: when the same mix is to be seen otherwise
 */
export class Goal {
  #model = null;
  #kind = "size";
  #amounts = { size: 0, bits: 0, vram: 0 };
  #onTop = 0;
  #slider = byId("slider");
  #amount = byId("amount");
  #moved;

  constructor(moved, seen) {
    this.#moved = moved;
    this.#slider.addEventListener("input", () => {
      this.#amounts[this.#kind] = this.#scale().amount(Number(this.#slider.value));
      this.#write({ slider: false });
      this.#moved();
    });
    this.#amount.addEventListener("input", () => this.#typed());
    this.#amount.addEventListener("change", () => this.#typed());
    for (const radio of document.querySelectorAll("input[name=kind]")) {
      radio.addEventListener("change", () => this.#switch(radio.value));
    }
    for (const id of ["context", "kv", "base"]) byId(id).addEventListener("change", seen);
    window.addEventListener("resize", () => this.#model && this.#marks());
  }

  /** What may be chosen in every model: contexts, types of the cache, bases; base: the one that was asked for. */
  offer({ contexts, kv_types: types, bases, base }) {
    fill(byId("context"), ...contexts.map((it) => make("option", { value: it }, tokensText(it))));
    fill(byId("kv"), ...types.map((it) => make("option", { value: it }, it)));
    const all = base && !bases.includes(base) ? [base, ...bases] : bases;
    fill(byId("base"), make("option", { value: "" }, "nothing"), ...all.map((it) => make("option", { value: it }, it)));
    byId("base").value = base ?? (bases.includes(USUAL_BASE) ? USUAL_BASE : "");
    if (types.includes(USUAL_CACHE)) byId("kv").value = USUAL_CACHE;
  }

  /** Another model: its range and its stock mixes. The slider begins at Q4_K_M, or in the middle. */
  open(model) {
    this.#model = model;
    const first = model.stock.find((it) => it.name === "Q4_K_M") ?? model.stock[Math.floor(model.stock.length / 2)];
    const [least, most] = model.range.bytes;
    this.#amounts = {
      size: first?.bytes ?? Math.sqrt(least * most),
      bits: first?.bits ?? Math.sqrt(model.range.bits[0] * model.range.bits[1]),
      vram: (first?.bytes ?? Math.sqrt(least * most)) + model.range.vram[0] - least,
    };
    this.#write({});
    this.#marks();
    this.limit(null);
    this.problem(null);
  }

  /** What is asked of the server. */
  get goal() {
    const whole = this.#kind !== "bits";
    const amount = this.#amounts[this.#kind];
    return {
      kind: this.#kind,
      value: whole ? Math.round(amount) : Number(amount.toFixed(4)),
      context: Number(byId("context").value) || null,
      kv: byId("kv").value || null,
    };
  }

  get base() {
    return byId("base").value || null;
  }

  /** Let the budgets that aren't asked for be those of a plan; all, where the plan isn't the slider's. */
  follow(plan, { all }) {
    const own = { size: plan.bytes, bits: plan.bits, vram: plan.memory?.total };
    for (const [kind, amount] of Object.entries(own)) {
      if (amount && (all || kind !== this.#kind)) this.#amounts[kind] = amount;
    }
    const { total, weights } = plan.memory ?? { total: 0, weights: 0 };
    const longer = total - weights !== this.#onTop;
    this.#onTop = total - weights;
    if (all || longer) this.#write({ number: all });
    if (longer) this.#marks();
  }

  limit(sentence) {
    fill(byId("limit"), sentence ?? "");
  }

  problem(error) {
    sayProblem(byId("goal-problem"), error);
  }

  #scale() {
    const { bytes, bits, vram } = this.#model.range;
    if (this.#kind === "bits") return new Scale(...bits);
    if (this.#kind === "size") return new Scale(...bytes);
    // The range is that of a short context; at a long one, more comes on top of the weights.
    return new Scale(vram[0], Math.max(vram[1], bytes[1] + this.#onTop));
  }

  /** The unit of the number: that of the model's largest file, so that it stays the same while the slider moves. */
  #unit() {
    return this.#kind === "bits" ? ["bits per weight", 1] : unitOf(this.#model.range.bytes[1]);
  }

  #switch(kind) {
    this.#kind = kind;
    this.#write({});
    this.#marks();
    this.#moved();
  }

  #typed() {
    const amount = Number(this.#amount.value) * this.#unit()[1];
    if (!(amount > 0) || !Number.isFinite(amount)) {
      this.problem({ message: "this is no amount", remedy: "write a number above 0" });
      return;
    }
    this.problem(null);
    if (amount === this.#amounts[this.#kind]) return;
    this.#amounts[this.#kind] = amount;
    this.#write({ number: false });
    this.#moved();
  }

  /** Write the amount where it isn't being written. */
  #write({ slider = true, number = true }) {
    const amount = this.#amounts[this.#kind];
    const [unit, size] = this.#unit();
    if (slider) this.#slider.value = this.#scale().step(amount);
    if (number) this.#amount.value = (amount / size).toFixed(2);
    fill(byId("unit"), unit);
    const words = this.#kind === "bits" ? `${amount.toFixed(2)} bits per weight` : bytesText(amount);
    this.#slider.setAttribute("aria-valuetext", words);
    const filled = (100 * this.#slider.value) / STEPS;
    this.#slider.style.setProperty("--filled", `${filled}%`);
  }

  /** Ticks for all marks, and buttons with names for those that there is room for. */
  #marks() {
    const scale = this.#scale();
    const marks = this.#named().filter((it) => it.amount >= scale.least && it.amount <= scale.most);
    const ticks = marks.map((it) => placed(make("i", {}), scale.place(it.amount)));
    fill(byId("ticks"), ...ticks);
    const list = byId("marks");
    const rank = (it) => (FIRST_NAMED.indexOf(it.name) + 100) % 100;
    const width = list.clientWidth || 280;
    const taken = Array.from({ length: ROWS }, () => []);
    const items = [];
    for (const mark of [...marks].sort((one, other) => rank(one) - rank(other))) {
      const half = (mark.name.length * 6.9 + 10) / 2;
      const middle = Math.min(width - half, Math.max(half, scale.place(mark.amount) * width));
      const row = taken.findIndex((its) => its.every(([from, to]) => middle + half < from || middle - half > to));
      if (row < 0) continue;
      taken[row].push([middle - half, middle + half]);
      const jump = () => this.#jump(mark.amount);
      const button = make("button", { type: "button", title: mark.said, click: jump }, mark.name);
      items.push({ middle, item: placed(make("li", { class: `row${row}` }, button), middle / width) });
    }
    items.sort((one, other) => one.middle - other.middle);
    fill(list, ...items.map((it) => it.item));
  }

  #named() {
    if (this.#kind === "vram") {
      return CARDS.map((it) => ({ name: String(it), amount: it * GIB, said: `a card of ${it} GiB` }));
    }
    return this.#model.stock.map((it) => ({
      name: it.name,
      amount: this.#kind === "size" ? it.bytes : it.bits,
      said: `${it.name} of llama.cpp: ${bytesText(it.bytes)}, ${it.bits.toFixed(2)} bits per weight`,
    }));
  }

  #jump(amount) {
    this.#amounts[this.#kind] = amount;
    this.#write({});
    this.#moved();
  }
}

function placed(element, place) {
  element.style.setProperty("--place", place);
  return element;
}
