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
    const [t, ahead, behind] = [new Float64Array(3), new Float64Array(3), new Float64Array(3)];
    for (let f = 0; f < area.length; f++) {
      if (!area[f]) continue;
      const a = 4 * vertex[triangles[3 * f]], b = 4 * vertex[triangles[3 * f + 1]], c = 4 * vertex[triangles[3 * f + 2]];
      const v2 = area[f] > 0 ? sides[4 * f + 3] : -sides[4 * f + 3];
      const v1 = area[f] > 0 ? sides[4 * f + 1] : -sides[4 * f + 1];
      let x = (p[b] - p[a]) * v2 - (p[c] - p[a]) * v1;
      let y = (p[b + 1] - p[a + 1]) * v2 - (p[c + 1] - p[a + 1]) * v1;
      let z = (p[b + 2] - p[a + 2]) * v2 - (p[c + 2] - p[a + 2]) * v1;
      const size = Math.sqrt(x * x + y * y + z * z);
      if (!(size > 1e-30)) continue;
      x /= size, y /= size, z /= size;
      for (let k = 0; k < 3; k++) {
        const m = k === 0 ? a : k === 1 ? b : c, next = k === 0 ? b : k === 1 ? c : a, last = k === 0 ? c : k === 1 ? a : b;
        flatten(t, x, y, z, n, m);
        flatten(ahead, p[next] - p[m], p[next + 1] - p[m + 1], p[next + 2] - p[m + 2], n, m);
        flatten(behind, p[last] - p[m], p[last + 1] - p[m + 1], p[last + 2] - p[m + 2], n, m);
        const cosine = ahead[0] * behind[0] + ahead[1] * behind[1] + ahead[2] * behind[2];
        const angle = Math.acos(Math.min(1, Math.max(-1, cosine)));
        const to = 4 * triangles[3 * f + k];
        out[to] += angle * t[0], out[to + 1] += angle * t[1], out[to + 2] += angle * t[2];
      }
    }
    for (let v = 0; v < this.count; v++) {
      const m = 4 * vertex[v];
      flatten(t, out[4 * v], out[4 * v + 1], out[4 * v + 2], n, m);
      if (t[0] * t[0] + t[1] * t[1] + t[2] * t[2] < 0.25) flatten(t, ...anyAcross(n.subarray(m, m + 3)), n, m);
      out.set(t, 4 * v);
      out[4 * v + 3] = this.side[v];
    }
  }
}

/** The unit vector of what a vector has across the normal that starts at n[m]. */
function flatten(to, x, y, z, n, m) {
  const size = n[m] * n[m] + n[m + 1] * n[m + 1] + n[m + 2] * n[m + 2];
  const d = size > 0 ? (x * n[m] + y * n[m + 1] + z * n[m + 2]) / size : 0;
  const a = x - d * n[m], b = y - d * n[m + 1], c = z - d * n[m + 2];
  const s = 1 / Math.max(Math.sqrt(a * a + b * b + c * c), 1e-20);
  to[0] = a * s, to[1] = b * s, to[2] = c * s;
}

/** The axis that lies most across a direction. */
function anyAcross(n) {
  const size = Array.from(n, Math.abs);
  const least = size.indexOf(Math.min(...size));
  return [0, 1, 2].map((i) => (i === least ? 1 : 0));
}
