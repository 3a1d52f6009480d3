// The page's state, and what changes it.

import { EXAMPLES } from "./examples.js";
import { Refused, ask, info } from "./service.js";
import * as view from "./view.js";

const { by } = view;
const state = { served: null, passage: "", prediction: null, bundles: 0, threshold: 0, chosen: 0, under: null };

function threshold() {
  const named = by("bundle").value;
  const one = state.served?.bundles.find((bundle) => bundle.name === named);
  return one?.no_answer_threshold ?? state.served?.no_answer_threshold ?? 0;
}

function decide() {
  const yes = view.showDecision(state.prediction, state.threshold, state.bundles);
  // The first span is struck from the passage where it is no answer; one that was chosen is only looked at.
  view.showPassage(state.passage, state.prediction.answers[state.chosen], !yes && state.chosen === 0);
  view.showChosen(state.chosen);
  return yes;
}

function setThreshold(value) {
  state.threshold = value;
  const yes = decide();
  by("status").textContent = yes ? `Answer: ${state.prediction.answers[0].text}` : "No answer";
}

function show({ prediction, milliseconds }, passage, bundles) {
  Object.assign(state, { prediction, passage, bundles, threshold: bundles, chosen: 0 });
  by("empty").hidden = true;
  by("result").hidden = false;
  view.showReading(true);
  view.showSpans(prediction, (index) => {
    state.chosen = index;
    decide();
  });
  view.showScale(prediction, bundles);
  view.showTimes(prediction.timings_ms, milliseconds);
  setThreshold(bundles);
}

function edit() {
  view.showReading(false);
  by("passage").focus();
}

function hideResult() {
  by("result").hidden = true;
  by("empty").hidden = false;
  by("status").textContent = "";
}

/** Put the page back to before an answer, for a passage that the last answer does not belong to. */
function renew(passage, question) {
  state.under?.abort();
  by("passage").value = passage;
  if (question !== undefined) by("question").value = question;
  hideResult();
  view.showError("");
  view.showReading(false);
  view.showCount(by("passage").value);
}

async function submit() {
  const passage = by("passage").value;
  const question = by("question").value;
  if (!passage.trim()) return missing("passage", "There is no passage yet: paste one, or choose an example.");
  if (!question.trim()) return missing("question", "There is no question yet.");
  state.under?.abort();
  const control = new AbortController();
  state.under = control;
  view.showError("");
  by("ask").disabled = true;
  by("status").textContent = "Asking";
  try {
    const bundle = by("bundle-field").hidden ? null : by("bundle").value;
    const asked = { question, context: passage, bundle, key: by("key").value, signal: control.signal };
    const found = await ask(asked);
    if (state.under === control) show(found, passage, threshold());
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Refused)) throw error;
    by("result").hidden = true;
    by("status").textContent = "";
    view.showError(error.message);
    if (error.kind === "no_key") {
      by("key-field").hidden = false;
      by("key").focus();
    }
  } finally {
    if (state.under === control) {
      state.under = null;
      by("ask").disabled = false;
    }
  }
}

function missing(id, sentence) {
  view.showError(sentence);
  if (id === "passage") view.showReading(false);
  by(id).focus();
}

async function take(file) {
  if (!file) return;
  try {
    const bytes = await file.arrayBuffer();
    renew(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    view.showError(`${file.name} is not text in UTF-8.`);
  }
}

function showServed(served) {
  state.served = served;
  by("model").textContent = `${served.name}, ${served.variant}`;
  const bundles = served.bundles.filter((bundle) => bundle.variant);
  if (bundles.length < 2) return;
  by("bundle").replaceChildren(
    ...bundles.map(({ name, variant }) => new Option(`${name} (${variant})`, name)),
  );
  by("bundle-field").hidden = false;
  by("model").textContent = "";
}

function wire() {
  by("form").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  by("passage").addEventListener("input", () => {
    // What is shown belongs to another passage now.
    hideResult();
    view.showCount(by("passage").value);
  });
  by("passage").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit();
  });
  by("key").addEventListener("keydown", (event) => {
    if (event.key === "Enter") submit();
  });
  by("edit").addEventListener("click", edit);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && by("passage").hidden) edit();
  });
  by("threshold").addEventListener("input", (event) => setThreshold(event.target.valueAsNumber));
  by("reset").addEventListener("click", () => {
    by("threshold").value = state.bundles;
    setThreshold(state.bundles);
    by("threshold").focus();
  });
  by("bundle").addEventListener("change", () => {
    if (!by("result").hidden) submit();
  });
  by("file").addEventListener("change", async (event) => {
    await take(event.target.files[0]);
    // So that the same file can be chosen again.
    event.target.value = "";
  });
  for (const box of [by("passage"), by("reading")]) {
    box.addEventListener("dragover", (event) => {
      event.preventDefault();
      box.classList.add("over");
    });
    box.addEventListener("dragleave", () => box.classList.remove("over"));
    box.addEventListener("drop", (event) => {
      box.classList.remove("over");
      if (!event.dataTransfer.files.length) return;
      event.preventDefault();
      take(event.dataTransfer.files[0]);
    });
  }
  for (const example of EXAMPLES) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = example.title;
    button.addEventListener("click", () => {
      renew(example.passage, example.question);
      submit();
    });
    by("examples").append(button);
  }
}

wire();
view.showCount(by("passage").value);
try {
  showServed(await info());
} catch (error) {
  if (!(error instanceof Refused)) throw error;
  view.showError(error.message);
}
