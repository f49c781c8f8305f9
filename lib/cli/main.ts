#!/usr/bin/env node
/**
 * The `matryoshka` command: finds the command, runs it, and turns what happens into an exit code.
 *
 * 0 ok, 1 failure, 2 usage, 130 (SIGINT), 143 (SIGTERM) or, for `train`, 141 (its reader has gone) interrupted with
 * everything done so far written.
 */
import { nearest } from "../check.js";
import { MatryoshkaError } from "../errors.js";
import { calibration } from "./calibrate.js";
import { type Command, readArguments, UsageError } from "./command.js";
import { compensate } from "./compensate.js";
import { doctor } from "./doctor.js";
import { evaluation } from "./eval.js";
import { inspect } from "./inspect.js";
import { Output } from "./output.js";
import { rerank } from "./rerank.js";
import { score } from "./score.js";
import { train } from "./train.js";
import { version } from "./version.js";

const COMMANDS: Readonly<Record<string, Command>> = {
  rerank,
  score,
  eval: evaluation,
  calibrate: calibration,
  train,
  compensate,
  inspect,
  doctor,
};

const help = () => `matryoshka: early-exit reranking with layer-wise cross-encoders

${Object.entries(COMMANDS)
  .map(([name, { summary }]) => `  ${name.padEnd(10)} ${summary}`)
  .join("\n")}

matryoshka COMMAND --help explains one. --version prints the version.`;

function find(name: string): Command {
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command) return command;
  throw new UsageError(
    `unknown command ${JSON.stringify(name)}; did you mean ${nearest(name, Object.keys(COMMANDS))}?`,
  );
}

async function main([name, ...args]: readonly string[]): Promise<number> {
  const output = new Output({ json: args.includes("--json"), quiet: args.includes("--quiet") });
  const interrupt = new AbortController();
  let interrupted: number | undefined;
  const end = (code: number) => {
    interrupted ??= code;
    interrupt.abort();
  };
  process.once("SIGINT", () => end(130));
  process.once("SIGTERM", () => end(143));
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    // The reader has gone (`| head`): nothing is left to do, and nothing is wrong, but a run in training is not done.
    if (error.code === "EPIPE") return end(name === "train" ? 141 : 0);
    if (interrupted !== undefined) return;
    output.error("ERR_FILE", `Expected to be able to write to stdout: ${error.message}`);
    process.exit(1);
  });
  process.stderr.on("error", () => {});
  try {
    if (name === undefined || name === "--help" || name === "-h" || name === "help") {
      await output.line(help());
      return name === undefined ? 2 : 0;
    }
    if (name === "--version" || args.includes("--version")) {
      await output.line(version());
      return 0;
    }
    const command = find(name);
    if (args.includes("--help") || args.includes("-h")) {
      await output.line(command.help);
      return 0;
    }
    await command.run({ ...readArguments(command, args), output, signal: interrupt.signal });
    return 0;
  } catch (error) {
    // Whatever ends a command that was told to end is that, unless what was done could not be written.
    if (interrupted !== undefined && !(error instanceof MatryoshkaError && error.code === "ERR_FILE"))
      return interrupted;
    if (error instanceof UsageError) {
      output.error("ERR_USAGE", error.message);
      return 2;
    }
    if (error instanceof MatryoshkaError) {
      output.error(error.code, error.message);
      return 1;
    }
    throw error;
  }
}

process.exitCode = await main(process.argv.slice(2));
