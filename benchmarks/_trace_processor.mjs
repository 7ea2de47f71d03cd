// Perfetto's trace processor, its WASM build in Node: load a trace, answer windows as its UI asks.
//
//     node _trace_processor.mjs FOLDER TRACE WINDOWS
//
// WINDOWS is a JSON file, a list of [start, width] as parts of the trace. Prints one JSON object.
// A track's table and the query of a window are those of the UI's slice tracks: a mipmap per track,
// asked for the window with a resolution of the next power of 2 of ns per pixel.

import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import vm from "node:vm";

const PIXELS = 1600;
const AT_ONCE = 32 << 20;

const [folder, trace, windowsFile] = process.argv.slice(2);
const began = performance.now();
const engine = await startEngine(folder);
const started = performance.now();
const bytes = new Uint8Array(fs.readFileSync(trace));
for (let at = 0; at < bytes.length; at += AT_ONCE) {
  await engine.parse(bytes.subarray(at, at + AT_ONCE));
}
await engine.notifyEof();
const loaded = performance.now();
const [whole] = rows(
  await engine.query("select count(*) as n, min(ts) as a, max(ts + dur) as b from slice"),
);
const tracks = rows(await engine.query("select distinct track_id as id from slice"));
for (const track of tracks) {
  await engine.query(
    `create virtual table mipmap_${track.id} using __intrinsic_slice_mipmap((` +
      `select id, ts, dur, depth from slice where track_id = ${track.id} and dur != -1))`,
  );
}
const ready = performance.now();
const times = [];
let shown = 0;
for (const [start, width] of JSON.parse(fs.readFileSync(windowsFile, "utf8"))) {
  const asked = performance.now();
  shown += await answer(Number(whole.b - whole.a), start, width);
  times.push(performance.now() - asked);
}
const said = {
  events: Number(whole.n),
  tracks: tracks.length,
  start_s: (started - began) / 1e3,
  load_s: (loaded - started) / 1e3,
  tables_s: (ready - loaded) / 1e3,
  times_ms: times,
  shown,
  peak_mb: (process.resourceUsage().maxRSS * 1024) / 1e6,
};
process.stdout.write(`${JSON.stringify(said)}\n`, () => process.exit(0));

/** The events or buckets of all tracks in one window. */
async function answer(span, start, width) {
  const from = whole.a + BigInt(Math.round(start * span));
  const to = from + BigInt(Math.round(width * span));
  const resolution = BigInt(2 ** Math.ceil(Math.log2(Math.max(1, (width * span) / PIXELS))));
  let found = 0;
  for (const track of tracks) {
    const result = await engine.query(
      `select (z.ts / ${resolution}) * ${resolution} as tsQ, ` +
        `((z.dur + ${resolution - 1n}) / ${resolution}) * ${resolution} as durQ, ` +
        `z.count as count, s.ts as ts, s.dur as dur, s.id, s.depth, s.name ` +
        `from mipmap_${track.id}(${from}, ${to}, ${resolution}) z ` +
        `cross join (select * from slice where track_id = ${track.id}) s using (id)`,
    );
    found += result.numRows();
  }
  return found;
}

function rows(result) {
  const found = [];
  for (const it = result.iter({}); it.valid(); it.next()) {
    found.push(Object.fromEntries(result.columns().map((name) => [name, it.get(name)])));
  }
  return found;
}

/** The engine as a worker of the UI has it, with both ends of its channel in this process. */
async function startEngine(place) {
  console.warn = () => {};
  const { EngineBase } = await import(pathToFileURL(path.join(place, "engine.mjs")).href);
  globalThis.self = globalThis;
  globalThis.WorkerGlobalScope = function WorkerGlobalScope() {};
  globalThis.location = { href: `${pathToFileURL(place).href}/` };
  globalThis.wasmOfTraceProcessor = fs.readFileSync(path.join(place, "trace_processor.wasm"));
  let glue = fs.readFileSync(path.join(place, "engine_bundle.node.js"), "utf8");
  const bridge = "const wasmBridge = new wasm_bridge_1.WasmBridge();";
  for (const [there, wanted] of [
    ["this.useMemory64 = hasMemory64Support();", "this.useMemory64 = false;"],
    ["locateFile: (s) => s,", "locateFile: (s) => s, wasmBinary: globalThis.wasmOfTraceProcessor,"],
    [bridge, `${bridge} globalThis.bridgeOfTraceProcessor = wasmBridge;`],
  ]) {
    if (!glue.includes(there)) throw new Error(`another build: it has no ${there}`);
    glue = glue.replace(there, wanted);
  }
  vm.runInThisContext(glue, { filename: "engine_bundle.node.js" });
  const { port1, port2 } = new MessageChannel();
  globalThis.bridgeOfTraceProcessor.initialize(port1);
  class Engine extends EngineBase {
    mode = "WASM";
    id = "benchmark";
    rpcSendRequestBytes(data) {
      port2.postMessage(data);
    }
  }
  const made = new Engine();
  port2.onmessage = (message) => {
    if (message.data instanceof Uint8Array) made.onRpcResponseBytes(message.data);
  };
  return made;
}
