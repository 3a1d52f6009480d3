// From values to the page. Text goes in as text, never as HTML.

import { answered, margin, shares, sliderRange } from "./decision.js";
import { countPoints, toUnits } from "./offsets.js";

export const by = (id) => document.getElementById(id);

const STAGES = ["encode", "queue", "run", "decode"];
const number = (value, digits = 2) => value.toFixed(digits).replace("-", "−");
const percent = (share) => `${(100 * share).toFixed(share >= 0.0995 ? 0 : 1)} %`;

/** Say how long the passage is. */
export function showCount(text) {
  const count = countPoints(text);
  by("counted").textContent = count ? `${count.toLocaleString("en")} characters` : "";
}

/** Show the passage to read, with one span marked. */
export function showPassage(text, span, refused) {
  const reading = by("reading");
  if (!span) {
    reading.replaceChildren(text);
    return;
  }
  const [start, end] = toUnits(text, span.start, span.end);
  const marked = document.createElement("mark");
  marked.textContent = text.slice(start, end);
  marked.classList.toggle("refused", refused);
  reading.replaceChildren(text.slice(0, start), marked, text.slice(end));
  // Only the passage moves: the page stays where the reader left it.
  reading.scrollTop = marked.offsetTop - reading.clientHeight / 2;
}

/** Show either the passage to edit or the passage to read. */
export function showReading(on) {
  const box = on ? by("passage") : by("reading");
  const height = box.hidden ? "" : box.style.height;
  by("reading").style.height = height;
  by("passage").style.height = height;
  by("reading").hidden = !on;
  by("passage").hidden = on;
  by("edit").hidden = !on;
}

/** Show the list of spans; `choose` is called with the index of one that is chosen. */
export function showSpans(prediction, choose) {
  const found = shares(prediction);
  const rows = prediction.answers.map((answer, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...bar(answer.text, found.spans[index]));
    button.title = `Score ${number(answer.score)}, characters ${answer.start} to ${answer.end}`;
    button.addEventListener("click", () => choose(index));
    const row = document.createElement("li");
    row.append(button);
    return row;
  });
  const none = document.createElement("li");
  none.className = "nothing";
  none.append(...bar("no answer", found.none));
  by("spans").replaceChildren(...rows, none);
}

function bar(words, share) {
  const parts = ["bar", "words", "figure"].map((name) => {
    const part = document.createElement("span");
    part.className = name;
    return part;
  });
  parts[0].style.width = `${100 * share}%`;
  parts[1].textContent = words;
  parts[2].textContent = percent(share);
  return parts;
}

/** Set the slider to a threshold, and show the margin on its scale. */
export function showScale(prediction, threshold) {
  const [low, high] = sliderRange(prediction, threshold);
  const slider = by("threshold");
  slider.min = low;
  slider.max = high;
  slider.value = threshold;
  const at = margin(prediction);
  by("margin").hidden = !Number.isFinite(at);
  if (Number.isFinite(at)) by("margin").style.left = `${(100 * (at - low)) / (high - low)}%`;
}

/** Show what the scores say at a threshold: the answer, and why it is one. */
export function showDecision(prediction, threshold, bundles) {
  const yes = answered(prediction, threshold);
  const words = by("answer");
  words.textContent = yes ? prediction.answers[0].text : "No answer in this passage";
  words.classList.toggle("none", !yes);
  by("threshold-value").value = number(threshold);
  const same = threshold === bundles;
  by("reset").disabled = same;
  const { confidence } = prediction;
  by("confidence").textContent =
    confidence === null
      ? "This bundle's confidence is not calibrated."
      : `Confidence ${percent(confidence)}${same ? "" : " at the bundle's threshold"}`;
  const best = prediction.best_span_score;
  by("rule").textContent =
    best === null
      ? "The passage holds no span."
      : `Null score ${number(prediction.null_score)} − best span ${number(best)} = ${number(margin(prediction))}, ` +
        `the margin: it ${yes ? "does not exceed" : "exceeds"} the threshold. The stroke marks it.`;
  return yes;
}

/** Mark which span is chosen. */
export function showChosen(index) {
  by("spans")
    .querySelectorAll("button")
    .forEach((button, at) => button.setAttribute("aria-pressed", String(at === index)));
}

/** Show where a request's time went. */
export function showTimes(stages, whole) {
  const inside = STAGES.reduce((before, name) => before + stages[name], 0);
  const parts = [...STAGES.map((name) => [name, stages[name]]), ["rest", Math.max(0, whole - inside)]];
  const sum = parts.reduce((before, [, value]) => before + value, 0) || 1;
  by("times").replaceChildren(
    ...parts.map(([name, value]) => {
      const part = document.createElement("span");
      part.className = name;
      part.style.width = `${(100 * value) / sum}%`;
      return part;
    }),
  );
  by("legend").replaceChildren(
    ...parts.map(([name, value]) => {
      const item = document.createElement("li");
      item.className = name;
      item.textContent = `${name} ${value.toFixed(value < 10 ? 1 : 0)} ms`;
      return item;
    }),
  );
}

/** Show a sentence of what went wrong, or nothing. */
export function showError(sentence) {
  by("error").hidden = !sentence;
  by("error").textContent = sentence;
}
