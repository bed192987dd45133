// The studio's page: what belongs together, and which mix is shown.
//
// Two things say what the mix is: the slider, and the recipe's text. The page shows one of them, and says which. The
// slider's mix is shown while it moves (/api/move); when it rests, its recipe comes into the text (/api/freeze). A text
// that somebody has changed by hand is never replaced without asking: a bar offers the choice. Who types sees what the
// text makes (/api/recipe).

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
import { offerMix, offerNothing, tellBack, tellGone, tellStanding } from "./told.js";

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
  #goal = new Goal(() => this.#move(), () => this.#again());
  #editor = new Editor(() => this.#type());
  #groups = new Groups((line) => this.#editor.go(line));
  #map = new LayerMap((role, layer) => this.#toRule(role, layer));

  constructor() {
    new Completion(this.#editor, (place, signal) =>
      this.#server.ask("complete", { model: this.#model?.model ?? null, ...place }, signal));
    new Files((what, signal) => this.#file(what, signal));
    this.#server.onGone = tellGone;
    this.#server.onBack = () => this.#back();
  }

  async start() {
    for (const part of ["head", "foot"]) byId(part).hidden = false;
    let known;
    try {
      known = await this.#server.start();
    } catch (error) {
      if (!(error instanceof Gone)) tellGone(error);
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
    offerNothing();
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
    this.#rest.then(() => (this.#byHand ? this.#ask() : this.#freeze()));
    this.#state();
  }

  async #freeze({ replace = false } = {}) {
    const { goal, base } = this.#goal;
    let recipe;
    const question = { model: this.#model.model, goal, base };
    try {
      recipe = await this.#freezing.ask((signal) => this.#server.ask("freeze", question, signal));
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

  #ask() {
    offerMix(() => this.#take(), () => this.#keep());
    this.#state();
  }

  #take() {
    offerNothing();
    this.#freeze({ replace: true });
  }

  #keep() {
    offerNothing();
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
    offerNothing();
    this.#shows = "text";
    if (this.#model !== null) this.#typing.then(() => this.#check());
    this.#state();
  }

  /** Ask what the text makes. */
  async #check() {
    if (this.#byHand) this.#shows = "text";
    const text = this.#editor.text;
    const { goal, base } = this.#goal;
    const question = { model: this.#model.model, text, base, goal };
    let answer;
    try {
      const asked = this.#checking.ask((signal) => this.#server.ask("recipe", question, signal));
      this.#state();
      answer = await asked;
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

  /** Ask again for the mix that is shown. */
  #again() {
    if (this.#shows === "slider") this.#move();
    else this.#check();
  }

  #show(plan) {
    const { base } = this.#goal;
    this.#chooser.problem(null);
    showNumbers(plan, base);
    showKnowledge(this.#model.knows, plan.milliseconds);
    showTypes(plan.types);
    this.#map.show(plan, base);
    fill(byId("warnings"), ...plan.warnings.map((it) => make("p", { class: "hint" }, ...sentence(it))));
    this.#groups.show(plan.groups, plan.types, base);
    fill(byId("short"), shortText(plan));
  }

  /** Say which mix is shown, and what the text is of; and keep what a reload would lose. */
  #state() {
    const byHand = this.#byHand;
    const waits = [this.#rest.waiting, this.#typing.waiting, this.#freezing.running, this.#checking.running];
    tellStanding({ shows: this.#shows, byHand, broken: this.#broken, waits: waits.some(Boolean) });
    keepTab(this.#token, this.#name, byHand ? this.#editor.text : null);
  }

  /** Say an error where it belongs; one of a model that is gone, at the model. */
  #failed(error, tell) {
    if (isAborted(error) || error instanceof Gone) return;
    if (error.status === VANISHED) this.#chooser.problem(error);
    else if (error.status === FORGOTTEN) this.#open(this.#name);
    else tell(error);
  }

  #back() {
    tellBack();
    say("The server answers again.");
    if (!this.#started) this.start();
    else if (this.#wanted !== this.#name) this.#open(this.#wanted);
    else if (this.#model !== null) this.#again();
  }
}

new Studio().start();
