// Requests to the service, and its refusals as sentences.

export const TOP_K = 5;

/** A refusal of the service, in its own words. */
export class Refused extends Error {
  constructor(message, kind) {
    super(message);
    this.kind = kind;
  }
}

/** What is served. */
export async function info() {
  return json(await reach("info", {}));
}

/**
 * Ask one question.
 * @returns {Promise<{prediction: object, milliseconds: number}>} the answer, and how long the request took in all
 */
export async function ask({ question, context, bundle, key, signal }) {
  const path = bundle ? `bundles/${encodeURIComponent(bundle)}/answer` : "answer";
  const headers = { "content-type": "application/json" };
  if (key) headers.authorization = `Bearer ${key}`;
  const body = JSON.stringify({ question, context, top_k: TOP_K, timings: true });
  const began = performance.now();
  const prediction = await json(await reach(path, { method: "POST", headers, body, signal }));
  return { prediction, milliseconds: performance.now() - began };
}

async function reach(path, options) {
  try {
    return await fetch(path, { ...options, credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The service cannot be reached. Is it still running?", "unreachable");
  }
}

async function json(response) {
  let value;
  try {
    value = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(`What came with status ${response.status} is not the service's answer.`, "unreadable");
  }
  if (!response.ok) {
    const wait = response.headers.get("retry-after");
    const later = response.status === 429 && wait ? ` Ask again in ${wait} s.` : "";
    throw new Refused(`${value.error ?? `Status ${response.status}.`}${later}`, value.error_type);
  }
  return value;
}
