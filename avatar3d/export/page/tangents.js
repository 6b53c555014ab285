// Tangents of the posed mesh, as geometry/tangents.py: what the normal map's directions are relative to.

import { ROW, rows } from "./gl.js";

export class Tangents {
  /**
   * @param vertex the rig's vertex of every drawn one
   * @param uvs theirs, v from the top
   * @param triangles drawn vertices of every corner
   */
  constructor(vertex, uvs, triangles) {
    this.vertex = vertex;
    this.triangles = triangles;
    this.count = vertex.length;
    this.values = new Float32Array(4 * ROW * rows(this.count));
    this.area = new Float64Array(triangles.length / 3);
    this.sides = new Float32Array(4 * this.area.length); // of the texture: du, dv to the second and third corner
    for (let f = 0; f < this.area.length; f++) {
      const [a, b, c] = [0, 1, 2].map((k) => 2 * triangles[3 * f + k]);
      const d = [uvs[b] - uvs[a], uvs[a + 1] - uvs[b + 1], uvs[c] - uvs[a], uvs[a + 1] - uvs[c + 1]];
      this.sides.set(d, 4 * f);
      const area = d[0] * d[3] - d[1] * d[2];
      this.area[f] = Math.abs(area) > 1e-12 ? area : 0;
    }
    this.side = new Float32Array(this.count).fill(1);
    triangles.forEach((v, i) => { if (this.area[Math.floor(i / 3)] < 0) this.side[v] = -1; });
  }

  /** @param p points @param n normals of any length, four numbers for each of the rig's vertices */
  update(p, n) {
    const { vertex, triangles, values: out, sides, area } = this;
    out.fill(0);
    const at = [0, 0, 0];
    const flat = (x, y, z, m) => {
      const size = n[m] * n[m] + n[m + 1] * n[m + 1] + n[m + 2] * n[m + 2];
      const d = size > 0 ? (x * n[m] + y * n[m + 1] + z * n[m + 2]) / size : 0;
      const [a, b, c] = [x - d * n[m], y - d * n[m + 1], z - d * n[m + 2]];
      const s = 1 / Math.max(Math.hypot(a, b, c), 1e-20);
      return [a * s, b * s, c * s];
    };
    for (let f = 0; f < area.length; f++) {
      if (!area[f]) continue;
      for (let k = 0; k < 3; k++) at[k] = 4 * vertex[triangles[3 * f + k]];
      const [a, b, c] = at;
      const s = Math.sign(area[f]);
      const v2 = sides[4 * f + 3] * s;
      const v1 = sides[4 * f + 1] * s;
      const along = [0, 1, 2].map((i) => (p[b + i] - p[a + i]) * v2 - (p[c + i] - p[a + i]) * v1);
      const size = Math.hypot(...along);
      if (!(size > 1e-30)) continue;
      for (let k = 0; k < 3; k++) {
        const [m, next, last] = [at[k], at[(k + 1) % 3], at[(k + 2) % 3]];
        const t = flat(along[0] / size, along[1] / size, along[2] / size, m);
        const ahead = flat(p[next] - p[m], p[next + 1] - p[m + 1], p[next + 2] - p[m + 2], m);
        const behind = flat(p[last] - p[m], p[last + 1] - p[m + 1], p[last + 2] - p[m + 2], m);
        const angle = Math.acos(Math.min(1, Math.max(-1, ahead[0] * behind[0] + ahead[1] * behind[1] + ahead[2] * behind[2])));
        const to = 4 * triangles[3 * f + k];
        for (let i = 0; i < 3; i++) out[to + i] += angle * t[i];
      }
    }
    for (let v = 0; v < this.count; v++) {
      const m = 4 * vertex[v];
      let t = flat(out[4 * v], out[4 * v + 1], out[4 * v + 2], m);
      if (Math.hypot(...t) < 0.5) t = flat(...anyAcross(n.subarray(m, m + 3)), m);
      out.set(t, 4 * v);
      out[4 * v + 3] = this.side[v];
    }
  }
}

/** The axis that lies most across a direction. */
function anyAcross(n) {
  const size = Array.from(n, Math.abs);
  const least = size.indexOf(Math.min(...size));
  return [0, 1, 2].map((i) => (i === least ? 1 : 0));
}
