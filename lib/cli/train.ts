/**
 * `matryoshka train`: an encoder and lists in, a layer-wise reranker and a report of how it came about out.
 */
import { availableParallelism } from "node:os";
import { basename, dirname, isAbsolute, join, resolve } from "node:path";
import { MatryoshkaError } from "../errors.js";
import { fromNative } from "../native.js";
import type { TrainDevice } from "../native-trainer.js";
import { latestCheckpoint } from "../train/checkpoint.js";
import { readConfig } from "../train/config.js";
import { makeEncoder } from "../train/encode.js";
import { exportModel } from "../train/export.js";
import { makeLists } from "../train/lists.js";
import { type LogRecord, readLog } from "../train/log.js";
import { checkpointsPath, logPath, TrainRun } from "../train/loop.js";
import { trainingReport } from "../train/report.js";
import { type OpenTrainer, openTrainer } from "../train/trainer.js";
import type { ListSource, TrainConfig } from "../train/types.js";
import { openValidation, type ValidationSet } from "../train/validate.js";
import { writeWhole } from "../write-whole.js";
import { type Command, choice, count, required, text, type Values } from "./command.js";
import { lock } from "./lock.js";
import type { Output } from "./output.js";
import { TrainProgress } from "./train-progress.js";
import { version } from "./version.js";

const TRAIN_DEVICES = ["cpu", "cuda", "emulator"] as const;

export const train: Command = {
  summary: "train a layer-wise reranker from an encoder and your own data",
  help: `Usage: matryoshka train --config FILE.json --out DIR [options]

Trains every exit layer of an encoder in one pass, by lists of a query with relevant and other passages. The
configuration says from which encoder, on what data and how (docs/training.md); the same configuration and data give the
same model, bit for bit, on any number of threads of one kind of machine. A run that was stopped or killed goes on from its newest checkpoint
when it is called again in the same way. At the end DIR/model is a checkpoint for rerank, eval and calibrate, and
DIR/report.html shows the losses, nDCG@10 of every exit against steps, and quality against cost.

  --config FILE      the configuration
  --out DIR          of the run: checkpoints, log, report and model; one run a directory
  --init DIR         the encoder, instead of the configuration's
  --skip-bad         leaves out bad lines and lists, and counts them, instead of stopping at the first
  --device NAME      cpu, cuda, cuda:1 or emulator: who carries batches through the model (default: cpu)
  --threads N        worker threads (default: the CPUs there are)
  --steps-now N      ends this sitting after N steps, with a checkpoint
  --export           trains nothing: writes model and report as of the newest checkpoint, also while another process
                     trains (--config is not needed)
  --json             machine-readable output: a line for each validation and one at the end
  --quiet            no progress on the terminal

Example: matryoshka train --config train.json --out runs/first`,
  options: {
    config: { type: "string" },
    out: { type: "string" },
    init: { type: "string" },
    "skip-bad": { type: "boolean" },
    device: { type: "string" },
    threads: { type: "string" },
    "steps-now": { type: "string" },
    export: { type: "boolean" },
  },
  positionals: 0,

  async run({ values, output, signal }) {
    const settings = read(values);
    try {
      if (settings.file === undefined) await exportNewest(settings, output);
      else await sit({ ...settings, file: settings.file }, output, signal);
    } catch (error) {
      throw fromNative(error);
    }
  },
};

type Settings = ReturnType<typeof read>;

/** A run is one GPU's at most. */
function device(values: Values): TrainDevice {
  const value = text(values, "device") ?? "cpu";
  return /^cuda:\d{1,3}$/.test(value) ? (value as TrainDevice) : (choice(values, "device", TRAIN_DEVICES) ?? "cpu");
}

function read(values: Values) {
  const init = text(values, "init");
  return {
    out: resolve(required(values, "out")),
    /** Undefined: only export. */
    file: values.export === true ? undefined : required(values, "config"),
    init: init === undefined ? undefined : resolve(init),
    skipBad: values["skip-bad"] === true,
    device: device(values),
    threads: count(values, "threads") ?? availableParallelism(),
    most: count(values, "steps-now"),
  };
}

/** One sitting of a run. All input is read, and refused where it is bad, before the first step. */
async function sit(
  { file, out, init, skipBad, device, threads, most }: Settings & { readonly file: string },
  output: Output,
  signal: AbortSignal,
): Promise<void> {
  const config = await readConfig(file, init);
  const { release } = lock(logPath(out), "--out");
  let opened: OpenTrainer | undefined;
  let run: TrainRun | undefined;
  try {
    output.progress("reading the model …");
    opened = await openTrainer(config, threads, device);
    const encoder = await makeEncoder(config.init, config);
    output.progress("reading the lists …");
    const source = await makeLists(config, { skipBad });
    for (const each of source.summary) output.note(words(each));
    const validation: ValidationSet[] = [];
    for (const set of config.validation.sets) validation.push(await openValidation(dirname(file), set));
    let progress: TrainProgress | undefined;
    run = await TrainRun.open({
      ...{ config, source, encoder, ...opened, validation, directory: out, signal },
      on: (event) => {
        if (event.kind === "resumed") output.note(`Going on after step ${event.step}, from ${event.path}`);
        progress?.on(event);
      },
    });
    progress = new TrainProgress(config, Math.min(config.steps, run.step + (most ?? config.steps)), output);
    const aborted = await run.train(most).catch((error: unknown) => {
      if (error instanceof MatryoshkaError && error.code === "ERR_ABORTED") return error;
      throw error;
    });
    const records = await readLog(logPath(out));
    const { finished, step } = run;
    const model = finished ? await writeModel(out, { config, ...opened, step, lists: source.summary }) : undefined;
    const report = await writeReport(out, records, { config, ...opened });
    if (output.json) await output.object({ step, steps: config.steps, finished, model: model ?? null, report });
    else if (model !== undefined) await output.line(`Trained in ${step} steps: ${model}, ${report}`);
    else
      await output.line(`Stopped after step ${step} of ${config.steps}: the same command goes on. So far: ${report}`);
    if (aborted) throw aborted;
  } finally {
    run?.close();
    opened?.trainer.close();
    release();
  }
}

/** Needs nothing but the run's directory and the encoder it began with; takes no lock, so that a run may be under way. */
async function exportNewest({ out, init, threads }: Settings, output: Output): Promise<void> {
  const checkpoint = await latestCheckpoint(checkpointsPath(out));
  if (!checkpoint)
    throw new MatryoshkaError(
      "ERR_FILE",
      `Expected a checkpoint in ${checkpointsPath(out)} but it has none yet: train first, for --steps-now 1 at least.`,
    );
  const config = init === undefined ? checkpoint.config : { ...checkpoint.config, init };
  const opened = await openTrainer(config, threads);
  try {
    await opened.trainer.load(checkpoint.state);
    const { step, lists, logBytes } = checkpoint;
    const model = await writeModel(out, { config, ...opened, step, lists });
    const report = await writeReport(out, await readLog(logPath(out), logBytes), { config, ...opened });
    if (output.json) await output.object({ step, steps: config.steps, finished: step === config.steps, model, report });
    else await output.line(`As of step ${step} of ${config.steps}: ${model}, ${report}`);
  } finally {
    opened.trainer.close();
  }
}

interface Trained extends OpenTrainer {
  readonly config: TrainConfig;
  readonly step: number;
  readonly lists: ListSource["summary"];
}

async function writeModel(out: string, { config, trainer, info, step, lists }: Trained): Promise<string> {
  const directory = join(out, "model");
  const { release } = lock(directory, "--out");
  try {
    const provenance = {
      ...{ trainedWith: `matryoshka-rerank ${version()}`, base: basename(config.init), data: lists, steps: step },
      ...{ backend: info.backend, config: withoutPlaces(config) },
    };
    const { init, tokenTypes, carry } = config;
    await exportModel(trainer, directory, { init, info, tokenTypes, carry, provenance });
  } finally {
    release();
  }
  return directory;
}

async function writeReport(
  out: string,
  records: readonly LogRecord[],
  { config, info }: Pick<Trained, "config" | "info">,
): Promise<string> {
  const path = join(out, "report.html");
  const { exitLayers, backend } = info;
  await writeWhole(
    path,
    trainingReport(records, { title: basename(out), config: withoutPlaces(config), exitLayers, shape: info, backend }),
  );
  return path;
}

/** Names instead of paths: a model and a report travel, and where the data lay says nothing to whoever gets them. */
function withoutPlaces(config: TrainConfig): TrainConfig {
  const name = (_key: string, value: unknown) =>
    typeof value === "string" && isAbsolute(value) ? basename(value) : value;
  return JSON.parse(JSON.stringify(config, name)) as TrainConfig;
}

function words({ name, lists, candidates, skipped }: ListSource["summary"][number]): string {
  return `${name}: ${lists} lists, ${candidates} candidates${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}
