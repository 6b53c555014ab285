// The viseme detector of the npm package @met4citizen/headaudio (MIT) on a file of sound, for tools/speech_table.py:
//   node tools/headaudio_visemes.mjs PACKAGE_FOLDER SAMPLES.f32 RATE FRAMES_PER_SECOND > visemes.json
// Values are eased as its audio node eases them (100 ms from 0 to 1); its node drops viseme 0 (aa) by testing the number
// for truth, which is not repeated here.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, path, rate, fps] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(`${folder}/modules/${name}.mjs`));
const { Processor } = await load("processor");
const { Training } = await load("training");
const NAMES = ["aa", "E", "I", "O", "U", "PP", "SS", "TH", "DD", "FF", "kk", "nn", "RR", "CH", "sil"];

const bytes = readFileSync(`${folder}/dist/model-en-mixed.bin`);
const training = new Training();
globalThis.fetch = async () => ({ ok: true, arrayBuffer: async () => bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) });
const { model } = await training.loadModel("model");

let active = -1;
const worklet = { port: { postMessage: (m) => {
  if (m.event === "viseme" && m.viseme !== null) active = m.viseme === 14 ? -1 : m.viseme;
  if (m.event === "ended") active = -1;
} } };
const processor = new Processor({ sampleRate: Number(rate) }, worklet);
processor._onmessage({ data: { event: "model", model } });

const raw = readFileSync(path);
const samples = new Float32Array(raw.buffer, raw.byteOffset, raw.length / 4);
const step = Number(rate) / Number(fps);
const ease = (t) => {
  const base = (u) => 1 / (1 + Math.exp(-5 * u)) - 0.5;
  return (0.5 / base(1)) * base(2 * Math.max(Math.min(t, 1), 0) - 1) + 0.5;
};
const alphas = new Array(NAMES.length).fill(0), rows = [];
for (let at = 0; at < samples.length; at += step) {
  for (let i = Math.round(at); i < Math.round(at + step); i += 128) {
    processor.process(samples.subarray(i, Math.min(i + 128, Math.round(at + step), samples.length)));
  }
  for (let i = 0; i < alphas.length; i++) {
    const change = 10 / Number(fps);
    alphas[i] = Math.max(0, Math.min(1, alphas[i] + (i === active ? change : -change)));
  }
  rows.push(alphas.map(ease).map((v, i) => v * (i === 5 || i === 9 ? 0.75 : 0.65)));
}
process.stdout.write(JSON.stringify({ names: NAMES, fps: Number(fps), rows, cpu: process.cpuUsage() }));
