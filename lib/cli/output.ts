/**
 * Where a command's words go: results on stdout, progress and errors on stderr, progress only where someone watches.
 */
import { once } from "node:events";

export class Output {
  readonly json: boolean;
  readonly #watched: boolean;
  #progress = false;

  constructor({ json, quiet }: { readonly json: boolean; readonly quiet: boolean }) {
    this.json = json;
    this.#watched = !quiet && process.stderr.isTTY === true;
  }

  /** Writes a line to stdout, waiting where the reader is slower. */
  async line(line: string): Promise<void> {
    this.#clear();
    // Where the reader has gone, whoever listens to stdout ends the command.
    if (!process.stdout.write(`${line}\n`)) await once(process.stdout, "drain").catch(() => {});
  }

  /** One JSON document, indented for people where stdout is a terminal. */
  async object(value: unknown): Promise<void> {
    await this.line(JSON.stringify(value, undefined, process.stdout.isTTY ? 2 : undefined));
  }

  /** A line on stderr that the next one replaces. */
  progress(line: string): void {
    if (!this.#watched) return;
    process.stderr.write(`\r\x1b[2K${line}`);
    this.#progress = true;
  }

  /** A remark on stderr that is not an error. */
  note(line: string): void {
    this.#clear();
    process.stderr.write(`${line}\n`);
  }

  error(code: string, message: string): void {
    this.#clear();
    process.stderr.write(
      this.json ? `${JSON.stringify({ error: { code, message } })}\n` : `matryoshka: ${code}: ${message}\n`,
    );
  }

  #clear(): void {
    if (this.#progress) process.stderr.write("\r\x1b[2K");
    this.#progress = false;
  }
}

/** Columns padded to their widest cell, numbers to the right; the first row is the heading. */
export function table(rows: readonly (readonly (string | number)[])[]): string {
  const columns = (rows[0] ?? []).map((_, c) => ({
    width: rows.reduce((width, row) => Math.max(width, String(row[c] ?? "").length), 0),
    right: rows
      .slice(1)
      .every((row) => typeof row[c] === "number" || /^-?[\d.,]+( ?[%×a-zA-Z/]*)?$/.test(String(row[c]))),
  }));
  return rows
    .map((row) =>
      row
        .map((cell, c) => {
          const { width, right } = columns[c]!;
          return right ? String(cell).padStart(width) : String(cell).padEnd(width);
        })
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
