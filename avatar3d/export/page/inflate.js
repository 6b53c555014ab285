// Gzip, decoded at once: so that the first picture is there when the page has loaded (RFC 1951, RFC 1952).

const LENGTHS = [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258];
const DISTANCES = [1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073,
  4097, 6145, 8193, 12289, 16385, 24577];
const ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const lengthBits = (i) => (i < 8 || i === 28 ? 0 : (i >> 2) - 1);
const distanceBits = (i) => (i < 4 ? 0 : (i >> 1) - 1);

/** Of a file as Python's gzip writes it: a header without extras, one member. */
export function gunzip(bytes) {
  if (bytes[0] !== 31 || bytes[1] !== 139 || bytes[2] !== 8 || bytes[3] !== 0) throw new Error("This page is damaged.");
  const size = new DataView(bytes.buffer, bytes.byteOffset + bytes.length - 4).getUint32(0, true);
  return inflate(bytes, 10, new Uint8Array(size));
}

function inflate(bytes, at, out) {
  let held = 0; // bits that are read but not used
  let count = 0;
  let to = 0;

  function bits(n) {
    while (count < n) {
      held |= bytes[at++] << count;
      count += 8;
    }
    const value = held & ((1 << n) - 1);
    held >>>= n;
    count -= n;
    return value;
  }

  function symbol({ table, most }) {
    while (count < most) {
      held |= bytes[at++] << count; // past the end: zeros
      count += 8;
    }
    const entry = table[held & ((1 << most) - 1)];
    held >>>= entry & 15;
    count -= entry & 15;
    return entry >> 4;
  }

  let last = 0;
  while (!last) {
    last = bits(1);
    const kind = bits(2);
    if (kind === 0) {
      at -= count >> 3; // whole bytes that were read ahead
      held = count = 0;
      const length = bytes[at] | (bytes[at + 1] << 8);
      out.set(bytes.subarray(at + 4, at + 4 + length), to);
      at += 4 + length;
      to += length;
      continue;
    }
    const [literals, distances] = kind === 1 ? fixed() : dynamic(bits, symbol);
    for (;;) {
      const value = symbol(literals);
      if (value < 256) {
        out[to++] = value;
        continue;
      }
      if (value === 256) break;
      const length = LENGTHS[value - 257] + bits(lengthBits(value - 257));
      const code = symbol(distances);
      const distance = DISTANCES[code] + bits(distanceBits(code));
      if (!(distance <= to && to + length <= out.length)) throw new Error("This page is damaged.");
      for (const end = to + length; to < end; to++) out[to] = out[to - distance];
    }
  }
  if (to !== out.length) throw new Error("This page is damaged.");
  return out;
}

function fixed() {
  const literals = Uint8Array.from({ length: 288 }, (_, i) => (i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8));
  return [codes(literals), codes(new Uint8Array(30).fill(5))];
}

function dynamic(bits, symbol) {
  const [literals, distances, used] = [bits(5) + 257, bits(5) + 1, bits(4) + 4];
  const small = new Uint8Array(19);
  for (let i = 0; i < used; i++) small[ORDER[i]] = bits(3);
  const coded = codes(small);
  const lengths = new Uint8Array(literals + distances);
  for (let i = 0; i < lengths.length; ) {
    const value = symbol(coded);
    if (value < 16) {
      lengths[i++] = value;
      continue;
    }
    const [repeated, times] =
      value === 16 ? [lengths[i - 1], 3 + bits(2)] : [0, value === 17 ? 3 + bits(3) : 11 + bits(7)];
    lengths.fill(repeated, i, i + times);
    i += times;
  }
  return [codes(lengths.subarray(0, literals)), codes(lengths.subarray(literals))];
}

/** Table from the next `most` bits to (symbol << 4 | length). */
function codes(lengths) {
  const most = Math.max(1, ...lengths);
  const table = new Uint16Array(1 << most);
  let code = 0;
  for (let length = 1; length <= most; length++, code <<= 1) {
    for (let s = 0; s < lengths.length; s++) {
      if (lengths[s] !== length) continue;
      let reversed = 0;
      for (let i = 0; i < length; i++) reversed |= ((code >> i) & 1) << (length - 1 - i);
      for (let i = reversed; i < table.length; i += 1 << length) table[i] = (s << 4) | length;
      code++;
    }
  }
  return { table, most };
}
