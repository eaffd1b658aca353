/* What is shown, as commands that anyone can run. */

import { DEFAULT_COLORMAP } from "./state.js";

/**
 * asked: [{model, method, layer, target: index or JSON text, label}], everything on the stage.
 * picture: {name, example: whether this service has it}. Where a key is needed, it is named and never written out.
 */
export function curl({ asked, picture, colormap, needsKey, origin }) {
  const lines = needsKey ? ["# put your API key into GRADCAM_KEY first"] : [];
  const key = needsKey ? `-H "Authorization: Bearer $GRADCAM_KEY" ` : "";
  if (picture.example) lines.push(`curl -s ${origin}web/examples/${picture.name} -o ${picture.name}`);
  for (const one of asked) {
    const options = [`image=@${attached(picture.name)}`, `model=${one.model}`, `method=${one.method}`, ...layer(one), `target=${one.target}`];
    if (colormap !== DEFAULT_COLORMAP) options.push(`colormap=${colormap}`);
    const fields = options.map((option) => `-F ${quoted(option)}`).join(" ");
    lines.push(`curl -s -H 'Accept: image/png' ${key}\\\n  ${fields} \\\n  ${origin}explain -o ${quoted(file(one, asked))}`);
  }
  return lines.join("\n");
}

/** A program that asks the same and lays the heatmaps over the picture as the page does. */
export function python({ asked, picture, colormap, opacity, show, needsKey, origin }) {
  const questions = asked.map((one) => {
    const fields = [["model", one.model], ["method", one.method], ["layer", one.layer], ["target", String(one.target)]];
    return `    (${literal(file(one, asked))}, {${fields.map(([name, value]) => `"${name}": ${literal(value)}`).join(", ")}}),`;
  });
  const chosen = colormap === DEFAULT_COLORMAP ? "" : ` "colormap": ${literal(colormap)},`;
  const headers = needsKey ? [`headers = {"Authorization": f"Bearer {os.environ['GRADCAM_KEY']}"}`] : [];
  return [
    "import base64",
    "import io",
    ...(needsKey ? ["import os"] : []),
    "",
    "import httpx",
    "from PIL import Image",
    "",
    `service = ${literal(origin)}`,
    ...headers,
    picture.example
      ? `data = httpx.get(service + "web/examples/${picture.name}").content`
      : `data = open(${literal(picture.name)}, "rb").read()`,
    "questions = [",
    ...questions,
    "]",
    `picture = Image.open(io.BytesIO(data)).convert("RGBA")`,
    "for file, question in questions:",
    "    answer = httpx.post(",
    `        service + "explain",`,
    `        files={"image": data},`,
    `        data={**question, "output": "heatmap",${chosen} "max_side": "4096"},`,
    `        ${needsKey ? "headers=headers,\n        " : ""}timeout=600,`,
    "    )",
    "    answer.raise_for_status()",
    ...drawing(show, opacity),
    "",
  ].join("\n");
}

function drawing(show, opacity) {
  return [
    `    explanation = answer.json()["results"][0]["explanations"][0]`,
    `    png = base64.b64decode(explanation["heatmap"]["data"])`,
    ...(show === "map"
      ? [`    Image.open(io.BytesIO(png)).convert("RGB").save(file)`]
      : [
          `    heatmap = Image.open(io.BytesIO(png)).convert("RGBA").resize(picture.size)`,
          `    heatmap.putalpha(heatmap.getchannel("A").point(lambda level: level * ${opacity}))`,
          `    Image.alpha_composite(picture, heatmap).convert("RGB").save(file)`,
        ]),
  ];
}

function layer(one) {
  return one.layer === "auto" ? [] : [`layer=${one.layer}`];
}

/** A file name that tells what of the stage it is. */
export function file(one, asked) {
  const differs = (name) => asked.some((other) => other[name] !== one[name]);
  const parts = [one.label, ...["method", "model"].filter(differs).map((name) => one[name])];
  return `${parts.join("-").replaceAll(/[^\p{L}\p{N}._@-]+/gu, "_") || "map"}.png`;
}

/** A file's name as curl's -F reads it, which takes ; and , for its own. */
function attached(name) {
  return /[;,"\\]/.test(name) ? `"${name.replaceAll(/["\\]/g, "\\$&")}"` : name;
}

/** For a POSIX shell. */
function quoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** For Python: JSON's strings are its too. */
const literal = (text) => JSON.stringify(text);
