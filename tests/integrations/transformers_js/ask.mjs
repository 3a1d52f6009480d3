// Loads a repository of a hub with transformers.js, answers a question, and prints answer and logits as JSON.
//   node ask.mjs HUB REPOSITORY DTYPE CACHE < {"question", "context", "input_ids", "token_type_ids"}
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

// From where the package was installed, not from where this file lies.
const require = createRequire(`${process.env.FASTSPAN_NODE_MODULES}/`);
const { AutoModelForQuestionAnswering, Tensor, env, pipeline } = await import(
  pathToFileURL(require.resolve("@huggingface/transformers"))
);

const [hub, repository, dtype, cache] = process.argv.slice(2);
env.allowLocalModels = false;
env.remoteHost = hub;
env.cacheDir = cache;
const options = dtype === "default" ? {} : { dtype };
const asked = JSON.parse(readFileSync(0, "utf-8"));

const answerer = await pipeline("question-answering", repository, options);
const answer = await answerer(asked.question, asked.context);

const model = await AutoModelForQuestionAnswering.from_pretrained(repository, options);
const shape = [1, asked.input_ids.length];
const tensor = (values) => new Tensor("int64", BigInt64Array.from(values.map(BigInt)), shape);
const found = await model({
  input_ids: tensor(asked.input_ids),
  attention_mask: tensor(asked.input_ids.map(() => 1)),
  token_type_ids: tensor(asked.token_type_ids),
});
console.log(
  JSON.stringify({ answer, start: Array.from(found.start_logits.data), end: Array.from(found.end_logits.data) }),
);
