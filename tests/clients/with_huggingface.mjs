// Hugging Face's client for JavaScript: `node with_huggingface.mjs URL POSITIVE_TEXT NEWS PROMPT QUESTION IMAGE_FILE`.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { InferenceClient } from "@huggingface/inference";

const [url, positive, news, prompt, question, imageFile] = process.argv.slice(2);
const client = (model) => new InferenceClient("", { endpointUrl: `${url}/models/${model}` });
const image = new Blob([await readFile(imageFile)], { type: "image/png" });
const question_ = { messages: [{ role: "user", content: question }] };

const tests = {
  async textClassification() {
    const [best] = await client("sentiment").textClassification({ inputs: positive });
    assert.equal(best.label, "POSITIVE");
    const labels = await client("sentiment").textClassification({ inputs: positive, parameters: { top_k: 1 } });
    assert.equal(labels.length, 1);
  },
  async summarization() {
    const { summary_text } = await client("summarization").summarization({ inputs: news });
    assert.match(summary_text, /Lisbon/);
    const parameters = { max_length: 5 };
    const short = await client("summarization").summarization({ inputs: news, parameters });
    assert.ok(short.summary_text.length < summary_text.length, short.summary_text);
  },
  async featureExtraction() {
    const vectors = await client("embeddings").featureExtraction({ inputs: [positive, news] });
    assert.equal(vectors.length, 2);
    assert.equal(vectors[0].length, vectors[1].length);
  },
  async sentenceSimilarity() {
    const inputs = { source_sentence: positive, sentences: [positive, news] };
    const [same, other] = await client("sentence_similarity").sentenceSimilarity({ inputs });
    assert.ok(same > 0.99 && other < same);
  },
  async textGeneration() {
    const parameters = { max_new_tokens: 10, do_sample: false };
    const { generated_text } = await client("text_generation").textGeneration({ inputs: prompt, parameters });
    assert.ok(generated_text.length > 0);
  },
  async textGenerationStream() {
    const parameters = { max_new_tokens: 10, temperature: 0.5 };
    let chunks = 0;
    for await (const chunk of client("text_generation").textGenerationStream({ inputs: prompt, parameters })) {
      assert.equal(typeof chunk.choices[0].text, "string");
      chunks += 1;
    }
    assert.ok(chunks > 1);
  },
  async chatCompletion() {
    const { choices } = await client("conversational").chatCompletion(question_);
    assert.match(choices[0].message.content, /Rome/);
  },
  async chatCompletionStream() {
    let text = "";
    for await (const chunk of client("conversational").chatCompletionStream(question_)) {
      text += chunk.choices[0]?.delta.content ?? "";
    }
    assert.match(text, /Rome/);
  },
  async imageClassification() {
    const [best] = await client("image_classification").imageClassification({ data: image });
    assert.equal(best.label, "square");
  },
  async objectDetection() {
    const found = await client("object_detection").objectDetection({ data: image });
    assert.ok(found.some(({ label }) => label === "square"));
  },
  async imageSegmentation() {
    const found = await client("image_segmentation").imageSegmentation({ inputs: image });
    assert.ok(found.some(({ label }) => label === "square"));
  },
  async errors() {
    const empty = client("sentiment").textClassification({ inputs: "" });
    await assert.rejects(empty, (error) => error.httpResponse.status === 422);
    const missing = client("no_such_model").textClassification({ inputs: positive });
    await assert.rejects(missing, (error) => error.httpResponse.status === 404);
  },
};

const failures = [];
for (const [name, test] of Object.entries(tests)) {
  await test().catch((error) => failures.push(`${name}: ${error.stack}`));
}
console.log(`${Object.keys(tests).length - failures.length} of ${Object.keys(tests).length} passed`);
assert.equal(failures.length, 0, failures.join("\n"));
