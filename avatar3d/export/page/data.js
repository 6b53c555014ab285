// The block of arrays and facts that the page carries: gzip in base64. See docs/page.md.

import { gunzip } from "./inflate.js";

const KINDS = { u8: Uint8Array, i8: Int8Array, u16: Uint16Array, i16: Int16Array, u32: Uint32Array, f32: Float32Array };

export class Block {
  constructor(buffer) {
    const view = new DataView(buffer);
    const length = view.getUint32(8, true);
    if (view.getUint32(0) !== 0x41334450 || view.getUint32(4, true) !== 1) throw new Error("This page is damaged.");
    this.facts = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 12, length)));
    this.bytes = new Uint8Array(buffer, 12 + length);
  }

  has(name) {
    return name in this.facts.arrays;
  }

  entry(name) {
    return this.facts.arrays[name];
  }

  /** The array as it is stored. Wide numbers are stored plane by plane, lowest bytes first. */
  stored(name) {
    const { type, shape, at } = this.entry(name);
    const kind = KINDS[type];
    const width = kind.BYTES_PER_ELEMENT;
    const count = shape.reduce((a, b) => a * b, 1);
    const out = new Uint8Array(count * width);
    for (let plane = 0; plane < width; plane++) {
      const from = at + plane * count;
      for (let i = 0, to = plane; i < count; i++, to += width) out[to] = this.bytes[from + i];
    }
    return new kind(out.buffer);
  }

  /** The numbers that a stored array stands for: zero + step * integer, by trailing column. */
  numbers(name) {
    const { step, zero } = this.entry(name);
    const stored = this.stored(name);
    if (!step) return Float32Array.from(stored);
    const out = new Float32Array(stored.length);
    for (let i = 0, column = 0; i < out.length; i++) {
      out[i] = zero[column] + step[column] * stored[i];
      if (++column === step.length) column = 0;
    }
    return out;
  }
}

export function readBlock(text) {
  const letters = atob(text);
  const packed = new Uint8Array(letters.length);
  for (let i = 0; i < packed.length; i++) packed[i] = letters.charCodeAt(i);
  return new Block(gunzip(packed).buffer);
}
