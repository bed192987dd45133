// The studio's page: what belongs together, and which mix is shown.
//
// Two things say what the mix is: the slider, and the recipe's text. The page shows one of them, and says which. The
// slider's mix is shown while it moves (/api/move); when it rests, its recipe comes into the text (/api/freeze). A text
// that somebody has changed by hand is never replaced without asking: a bar offers the choice. Who types shows the text.

import { AtRest, Gone, isAborted, Newest, OneAtATime, Server, takeToken } from "./asking.js";
import { Chooser, lastPart } from "./chooser.js";
import { Completion } from "./completion.js";
import { byId, fill, make, say, sentence } from "./dom.js";
import { Editor, summary } from "./editor.js";
import { Files } from "./files.js";
import { Goal } from "./goal.js";
import { Groups } from "./groups.js";
import { keepTab, openTab } from "./kept.js";
import { LayerMap } from "./map.js";
import { shortText, showKnowledge, showNumbers, showTypes } from "./numbers.js";

const REST = 300;
// Milliseconds without a move or a letter after which the text is made, or checked.
const VANISHED = 410;
const FORGOTTEN = 404;
// What HTTP calls a model whose files are gone, and one that the server doesn't keep open any more.

class Studio {
  #token = takeToken();
  #server = new Server(this.#token);
  #model = null;
  #name = null;
  #wanted = null;
  #plan = null;
  #started = false;
  #shows = "slider";
  #broken = false;
  #frozen = "";
  #opening = new Newest();
  #moves = new OneAtATime();
  #freezing = new Newest();
  #checking = new Newest();
  #rest = new AtRest(REST);
  #typing = new AtRest(REST);
  #chooser = new Chooser((model) => this.#open(model));
  #goal = new Goal(() => this.#move(), () => this.#compare());
  #editor = new Editor(() => this.#type());
  #groups = new Groups((line) => this.#editor.go(line));
  #map = new LayerMap((role, layer) => this.#toRule(role, layer));

  constructor() {
    new Completion(this.#editor, (question, signal) => this.#server.ask("complete", { model: this.#model?.model ?? null, ...question }, signal));
    new Files((what, signal) => this.#file(what, signal));
    this.#server.onGone = (refused) => this.#gone(refused);
    this.#server.onBack = () => this.#back();
  }

  async start() {
    for (const part of ["head", "foot"]) byId(part).hidden = false;
    let known;
    try {
      known = await this.#server.start();
    } catch (error) {
      if (!(error instanceof Gone)) this.#gone(error);
      return;
    }
    this.#started = true;
    fill(byId("foot"), `quantrecipe ${known.version}. This page is served by your own machine; nothing leaves it.`);
    this.#chooser.shapes = known.shapes;
    this.#goal.offer(known);
    // A tab that was reloaded goes on with what it had.
    const kept = openTab(this.#token);
    const model = kept.model ?? known.model;
    byId("welcome").hidden = model !== null;
    this.#editor.set(kept.text ?? known.recipe?.text ?? "");
    if (model !== null) await this.#open(model);
    else byId("model").focus();
  }

  /** Whether somebody has changed the text by hand. */
  get #byHand() {
    return this.#editor.text !== this.#frozen && this.#editor.text.trim() !== "";
  }

  async #open(name) {
    this.#stop();
    this.#wanted = name;
    this.#chooser.busy(name);
    let model;
    try {
      model = await this.#opening.ask((signal) => this.#server.ask("model", { model: name }, signal));
    } catch (error) {
      this.#chooser.problem(error);
      return;
    }
    if (model === null) return;
    this.#model = model;
    this.#name = name;
    for (const part of [byId("places"), byId("columns")]) part.hidden = false;
    byId("welcome").hidden = true;
    document.title = `${lastPart(model.name)} – quantrecipe studio`;
    this.#chooser.show(name, model);
    this.#goal.open(model);
    this.#offer(false);
    if (this.#byHand) this.#check();
    else this.#move();
  }

  /** Nothing that was asked counts any more. */
  #stop() {
    for (const it of [this.#moves, this.#freezing, this.#checking, this.#rest, this.#typing]) it.stop();
  }

  // The slider.

  #move() {
    this.#freezing.stop();
    this.#checking.stop();
    this.#typing.stop();
    this.#shows = "slider";
    const question = { model: this.#model.model, goal: this.#goal.goal, base: this.#goal.base };
    this.#moves.ask(
      (signal) => this.#server.ask("move", question, signal),
      (plan) => {
        this.#goal.problem(null);
        this.#goal.limit(plan.limit);
        this.#goal.follow(plan, { all: false });
        this.#show(plan);
      },
      (error) => this.#failed(error, (it) => this.#goal.problem(it)),
    );
    this.#rest.then(() => (this.#byHand ? this.#offer(true) : this.#freeze()));
    this.#state();
  }

  async #freeze({ replace = false } = {}) {
    const { goal, base } = this.#goal;
    let recipe;
    this.#state({ freezing: true });
    try {
      recipe = await this.#freezing.ask((signal) => this.#server.ask("freeze", { model: this.#model.model, goal, base }, signal));
    } catch (error) {
      this.#failed(error, (it) => this.#goal.problem(it));
      this.#state();
      return;
    }
    if (recipe === null) return;
    if (replace) this.#editor.replace(recipe.text);
    else this.#editor.set(recipe.text);
    this.#frozen = recipe.text;
    this.#broken = false;
    this.#show(recipe.plan);
    // The same mix; what `check` has to say of its text is news.
    await this.#check();
  }

  /** Offer the slider's mix in place of a text that somebody has changed, or offer it no more. */
  #offer(offered) {
    const bar = byId("offer");
    if (bar.hidden !== offered) return;
    bar.hidden = !offered;
    if (!offered) {
      fill(bar);
      return;
    }
    fill(bar,
      make("p", {}, "This text was changed by hand, and isn’t the slider’s mix."),
      make("div", { class: "buttons" },
        make("button", { type: "button", click: () => this.#take() }, "Take the slider’s mix"),
        make("button", { type: "button", click: () => this.#keep() }, "Keep my text")));
  }

  #take() {
    this.#offer(false);
    this.#freeze({ replace: true });
  }

  #keep() {
    this.#offer(false);
    this.#editor.field.focus();
    this.#moves.stop();
    this.#shows = "text";
    this.#check();
  }

  // The text.

  #type() {
    this.#moves.stop();
    this.#freezing.stop();
    this.#checking.stop();
    this.#rest.stop();
    this.#offer(false);
    this.#shows = "text";
    if (this.#model !== null) this.#typing.then(() => this.#check());
    this.#state();
  }

  /** Ask what the text makes. */
  async #check() {
    if (this.#byHand) this.#shows = "text";
    this.#state({ checking: true });
    const text = this.#editor.text;
    const { goal, base } = this.#goal;
    let answer;
    try {
      answer = await this.#checking.ask((signal) =>
        this.#server.ask("recipe", { model: this.#model.model, text, base, goal }, signal));
    } catch (error) {
      this.#failed(error, (it) => this.#editor.unchecked(it));
      this.#state();
      return;
    }
    if (answer === null) return;
    this.#editor.problems(answer.problems);
    this.#broken = answer.plan === null;
    if (answer.plan !== null) {
      this.#goal.problem(null);
      if (this.#shows === "text") this.#goal.limit(null);
      this.#goal.follow(answer.plan, { all: this.#shows === "text" });
      this.#show(answer.plan);
      say(`${shortText(answer.plan)}. ${summary(answer.problems)}.`);
    } else {
      say(summary(answer.problems));
    }
    this.#state();
  }

  async #file(what, signal) {
    if (this.#rest.waiting || this.#freezing.running) {
      this.#rest.stop();
      if (!this.#byHand) await this.#freeze();
    }
    return this.#server.ask("download", { model: this.#model.model, text: this.#editor.text, what }, signal);
  }

  #toRule(role, layer) {
    const line = this.#groups.line(role, layer);
    if (line !== null) this.#editor.go(line);
  }

  // Both.

  #compare() {
    if (this.#shows === "slider" && !(this.#plan === null)) this.#move();
    else this.#check();
  }

  #show(plan) {
    this.#plan = plan;
    const { base } = this.#goal;
    showNumbers(plan, base);
    showKnowledge(this.#model.knows, plan.milliseconds);
    showTypes(plan.types);
    this.#map.show(plan, base);
    fill(byId("warnings"), ...plan.warnings.map((it) => make("p", { class: "hint" }, ...sentence(it))));
    this.#groups.show(plan.groups, plan.types, base);
    fill(byId("short"), shortText(plan));
  }

  /** Say which mix is shown, and what the text is of; and keep what a reload would lose. */
  #state({ freezing = false, checking = false } = {}) {
    keepTab(this.#token, this.#name, this.#byHand ? this.#editor.text : null);
    const text = this.#shows === "text";
    const stale = text && this.#broken;
    const shows = byId("shows");
    fill(shows, stale ? "the last mix without errors" : text ? "your text’s mix" : "the slider’s mix");
    shows.className = `chip ${stale ? "stale" : text ? "of-text" : "of-slider"}`;
    byId("columns").classList.toggle("stale", stale);
    const is = byId("text-is");
    const same = !this.#byHand;
    const waits = freezing || this.#rest.waiting || this.#moves.running;
    fill(is,
      text ? (checking || this.#typing.waiting ? "being checked …" : stale ? "has errors" : same ? "gives this mix" : "changed by hand")
        : !same ? "not the mix that is shown" : waits ? "follows the slider …" : "gives this mix");
    is.className = `chip ${text && stale ? "stale" : !same ? "of-text" : "of-slider"}`;
  }

  /** Say an error where it belongs; one of a model that is gone, at the model. */
  #failed(error, tell) {
    if (isAborted(error) || error instanceof Gone) return;
    if (error.status === VANISHED) this.#chooser.problem(error);
    else if (error.status === FORGOTTEN) this.#open(this.#name);
    else tell(error);
  }

  #gone(refused) {
    fill(byId("gone"), make("p", { class: "bar" },
      refused
        ? `The studio’s server doesn’t take this page: ${refused.message}. `
        : "The studio’s server doesn’t answer. ",
      make("span", { class: "remedy" }, refused
        ? "Open the address that quantrecipe studio has printed; copy your text first, if you changed it."
        : "Start quantrecipe studio again, if it has ended. This page looks for it, and goes on by itself.")));
  }

  #back() {
    fill(byId("gone"));
    say("The server answers again.");
    if (!this.#started) this.start();
    else if (this.#wanted !== this.#name) this.#open(this.#wanted);
    else if (this.#model !== null && this.#shows === "text") this.#check();
    else if (this.#model !== null) this.#move();
  }
}

new Studio().start();
