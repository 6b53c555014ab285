// Posed vertices: 52 shapes, joints, linear blend skinning; and their normals.

import { IDENTITY, matrix, multiply, product, quaternion, rotate } from "./maths.js";
import { ROW, rows } from "./gl.js";

/** The joint in whose frame the splats' harmonics are: the first of these that the rig has. */
const HEAD_CHAIN = ["head", "neck", "root"];

export class Rig {
  constructor(block) {
    const { shapes, joints, parents } = block.facts;
    this.shapeNames = shapes;
    this.jointNames = joints;
    this.parents = parents;
    this.neutral = block.numbers("neutral");
    this.rest = block.numbers("joints");
    this.count = this.neutral.length / 3;
    this.faces = block.has("triangles") ? facesOf(block) : new Uint32Array(0);
    this.head = Math.max(0, ...HEAD_CHAIN.map((name) => joints.indexOf(name)).filter((j) => j >= 0).slice(0, 1));
    this.shapes = sparse(block.numbers("shapes"), shapes.length, this.count);
    this.influences(block.numbers("weights"));
    // Four numbers a vertex, padded to whole rows: uploaded as they are.
    this.vertices = new Float32Array(4 * ROW * rows(this.count));
    this.normals = new Float32Array(this.vertices.length);
    this.unskinned = new Float32Array(3 * this.count);
    this.headRotation = matrix(IDENTITY);
  }

  /** Joints that move each vertex: of vertex v they are entries first[v] .. first[v + 1]. */
  influences(weights) {
    const joints = this.jointNames.length;
    this.first = new Uint32Array(this.count + 1);
    const joint = [];
    const weight = [];
    for (let v = 0; v < this.count; v++) {
      for (let j = 0; j < joints; j++) {
        const w = weights[v * joints + j];
        if (w > 1e-5) joint.push(j), weight.push(w);
      }
      this.first[v + 1] = joint.length;
    }
    this.joint = Uint16Array.from(joint);
    this.weight = Float32Array.from(weight);
  }

  /**
   * Updates `vertices` and `headRotation`.
   * @param expression coefficients of the shapes
   * @param quats by joint name, relative to the parent
   * @param translation metres
   */
  pose(expression, quats, translation) {
    const points = this.unskinned;
    points.set(this.neutral);
    for (let s = 0; s < this.shapes.length; s++) {
      const c = expression[s];
      if (!c) continue;
      const { index, shift } = this.shapes[s];
      for (let i = 0, k = 0; i < index.length; i++, k += 3) {
        const at = 3 * index[i];
        points[at] += c * shift[k];
        points[at + 1] += c * shift[k + 1];
        points[at + 2] += c * shift[k + 2];
      }
    }
    this.skin(this.jointMaps(quats, translation));
  }

  /** Rows of [R | t] per joint: rest-pose to posed coordinates. */
  jointMaps(quats, translation) {
    const maps = new Float32Array(12 * this.parents.length);
    const turned = [];
    const moved = [];
    for (let j = 0; j < this.parents.length; j++) {
      const parent = this.parents[j];
      const local = matrix(quats[this.jointNames[j]] || IDENTITY);
      const rest = this.rest.subarray(3 * j, 3 * j + 3);
      if (parent < 0) {
        turned[j] = local;
        moved[j] = [rest[0] + translation[0], rest[1] + translation[1], rest[2] + translation[2]];
      } else {
        const from = this.rest.subarray(3 * parent, 3 * parent + 3);
        const bone = rotate(turned[parent], [rest[0] - from[0], rest[1] - from[1], rest[2] - from[2]]);
        turned[j] = product(turned[parent], local);
        moved[j] = moved[parent].map((x, i) => x + bone[i]);
      }
      const back = rotate(turned[j], rest);
      for (let i = 0; i < 3; i++) {
        maps.set(turned[j].slice(3 * i, 3 * i + 3), 12 * j + 4 * i);
        maps[12 * j + 4 * i + 3] = moved[j][i] - back[i];
      }
    }
    this.headRotation = turned[this.head];
    return maps;
  }

  skin(maps) {
    const { unskinned: p, vertices: out, first, joint, weight } = this;
    const map = new Float32Array(12);
    for (let v = 0; v < this.count; v++) {
      let m = maps;
      let at = 12 * joint[first[v]];
      if (first[v + 1] - first[v] !== 1 || weight[first[v]] < 0.9999) {
        map.fill(0);
        for (let e = first[v]; e < first[v + 1]; e++)
          for (let i = 0, from = 12 * joint[e]; i < 12; i++) map[i] += weight[e] * maps[from + i];
        m = map;
        at = 0;
      }
      const x = p[3 * v];
      const y = p[3 * v + 1];
      const z = p[3 * v + 2];
      out[4 * v] = m[at] * x + m[at + 1] * y + m[at + 2] * z + m[at + 3];
      out[4 * v + 1] = m[at + 4] * x + m[at + 5] * y + m[at + 6] * z + m[at + 7];
      out[4 * v + 2] = m[at + 8] * x + m[at + 9] * y + m[at + 10] * z + m[at + 11];
    }
  }

  /** One over the size (square root of twice the area) of triangles of the neutral face; 0 for those without. */
  inverseSizes(corners) {
    const out = new Float32Array(corners.length / 3);
    const p = this.neutral;
    for (let i = 0; i < out.length; i++) {
      const [a, b, c] = [0, 1, 2].map((k) => 3 * corners[3 * i + k]);
      const ux = p[b] - p[a], uy = p[b + 1] - p[a + 1], uz = p[b + 2] - p[a + 2];
      const vx = p[c] - p[a], vy = p[c + 1] - p[a + 1], vz = p[c + 2] - p[a + 2];
      const area = Math.hypot(uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx);
      out[i] = area > 1e-20 ? 1 / Math.sqrt(area) : 0;
    }
    return out;
  }

  /** Area-weighted normals of the posed vertices, not of unit length. */
  updateNormals() {
    const { vertices: p, normals: n, faces } = this;
    n.fill(0);
    for (let f = 0; f < faces.length; f += 3) {
      const a = 4 * faces[f];
      const b = 4 * faces[f + 1];
      const c = 4 * faces[f + 2];
      const ux = p[b] - p[a], uy = p[b + 1] - p[a + 1], uz = p[b + 2] - p[a + 2];
      const vx = p[c] - p[a], vy = p[c + 1] - p[a + 1], vz = p[c + 2] - p[a + 2];
      const x = uy * vz - uz * vy, y = uz * vx - ux * vz, z = ux * vy - uy * vx;
      n[a] += x, n[a + 1] += y, n[a + 2] += z;
      n[b] += x, n[b + 1] += y, n[b + 2] += z;
      n[c] += x, n[c + 1] += y, n[c + 2] += z;
    }
  }
}

/** Rotations of neck and head that together turn the head by yaw, pitch and roll in degrees, on top of `quats`. */
export function turnHead(quats, names, { yaw, pitch, roll }) {
  const chain = ["neck", "head"].filter((name) => names.includes(name));
  const share = Math.PI / 180 / Math.max(1, chain.length);
  const turn = multiply(
    quaternion([0, 1, 0], yaw * share),
    multiply(quaternion([1, 0, 0], pitch * share), quaternion([0, 0, 1], roll * share)),
  );
  const out = { ...quats };
  for (const name of chain) out[name] = multiply(quats[name] || IDENTITY, turn);
  return out;
}

function facesOf(block) {
  const vertex = block.stored("corner_vertex");
  return Uint32Array.from(block.stored("triangles"), (corner) => vertex[corner]);
}

/** For every shape the vertices that it moves, and by how much. */
function sparse(shapes, count, vertices) {
  const out = [];
  for (let s = 0; s < count; s++) {
    const all = shapes.subarray(3 * s * vertices, 3 * (s + 1) * vertices);
    const index = [];
    for (let v = 0; v < vertices; v++) if (all[3 * v] || all[3 * v + 1] || all[3 * v + 2]) index.push(v);
    const shift = new Float32Array(3 * index.length);
    index.forEach((v, i) => shift.set(all.subarray(3 * v, 3 * v + 3), 3 * i));
    out.push({ index: Uint32Array.from(index), shift });
  }
  return out;
}
