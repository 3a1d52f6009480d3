// What the scores of an answer say, whatever threshold they are held against. Nothing here asks the service.

/** The null score minus the best span's; infinite where the passage holds no span. */
export function margin(prediction) {
  if (prediction.best_span_score === null) return Infinity;
  return prediction.null_score - prediction.best_span_score;
}

/** Whether the best span is the answer: "no answer" wins where the margin exceeds the threshold. */
export function answered(prediction, threshold) {
  return prediction.answers.length > 0 && !(margin(prediction) > threshold);
}

/** The softmax of the spans' scores and the null score: a share for each span, and that of "no answer". */
export function shares(prediction) {
  const scores = prediction.answers.map((answer) => answer.score);
  scores.push(prediction.null_score);
  const highest = Math.max(...scores);
  const weights = scores.map((score) => Math.exp(score - highest));
  const sum = weights.reduce((before, weight) => before + weight, 0);
  const found = weights.map((weight) => weight / sum);
  return { spans: found.slice(0, -1), none: found[found.length - 1] };
}

/** The ends of a slider on which both the margin and the bundle's threshold can be seen. */
export function sliderRange(prediction, threshold) {
  const values = [threshold, margin(prediction)].filter(Number.isFinite);
  const low = Math.min(...values, 0);
  const high = Math.max(...values, 0);
  const room = Math.max(2, (high - low) * 0.15);
  return [Math.floor(low - room), Math.ceil(high + room)];
}
