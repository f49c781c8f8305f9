/**
 * `matryoshka inspect`: what a checkpoint is, read from its files.
 */
import { inspectModel } from "../model-info.js";
import { chooseHere } from "../resolve.js";
import { type Command, text } from "./command.js";
import { table } from "./output.js";

export const inspect: Command = {
  summary: "what a checkpoint is: architecture, exits, sizes, provenance",
  help: `Usage: matryoshka inspect [DIR] [--json]

Validates a checkpoint's files without loading them and prints what they hold (default: the bundled model).

Example: matryoshka inspect models/default`,
  options: { model: { type: "string" } },
  positionals: 1,

  async run({ values, positionals, output }) {
    const model = await inspectModel(positionals[0] ?? text(values, "model"));
    const { dtype } = chooseHere();
    if (output.json) return output.object({ ...model, dtype });
    await output.line(
      table([
        ["directory", model.directory],
        ["family", model.family],
        ["layers × hidden", `${model.layers} × ${model.hidden}, ${model.heads} heads, MLP ${model.intermediate}`],
        ["exit layers", model.exitLayers.join(" ")],
        ["score head", model.head],
        ...(model.carry.some((share) => share > 0)
          ? [["of the exit before", model.carry.map((share) => share.toFixed(2)).join(" ")]]
          : []),
        ["compensation", model.compensated ? "estimates and units at every exit" : "none"],
        ["vocabulary", `${model.vocab} tokens`],
        ["longest sequence", `${model.maxTokens} tokens`],
        ["parameters", `${(model.parameters / 1e6).toFixed(1)} M`],
        [
          "weight files",
          `${(model.fileBytes / 1e6).toFixed(1)} MB (${Object.entries(model.storedTypes)
            .map(([type, n]) => `${n} × ${type}`)
            .join(", ")})`,
        ],
        ["dtype here", `${dtype.dtype}: ${dtype.reason}`],
      ]),
    );
    if (model.provenance !== undefined)
      await output.line(`provenance\n${JSON.stringify(model.provenance, undefined, 2)}`);
  },
};
