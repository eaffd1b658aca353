/* What a client of types that openapi-typescript generates is answered. Takes the service's address and a picture's file. */

import { readFileSync } from "node:fs";
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

const [url, file] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl: url });
const image = readFileSync(file).toString("base64");

const predicted = await client.POST("/predict", { body: { image, top_k: 2 } });
const explained = await client.POST("/explain", {
  body: { images: [image], target: ["star", { class: 3, against: "rest" }], output: ["map"] },
});
const refused = await client.POST("/explain", { body: { image, target: ["dragon"] } });
const listed = await client.GET("/models");

if (typeof explained.data === "string") throw new Error("a picture, which only Accept asks for");
const explanations = explained.data?.results[0].explanations;
console.log(
  JSON.stringify({
    predictions: predicted.data?.results[0].predictions,
    maps: explanations?.map((each) => each.map?.data),
    labels: explanations?.map(({ target }) => ("label" in target ? target.label : null)),
    refused: [refused.response.status, refused.error?.code],
    models: listed.data?.models.map((model) => model.name),
  }),
);
