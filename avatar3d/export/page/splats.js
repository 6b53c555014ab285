// The avatar as Gaussian splats on its rig.

import { attach, COVER, nearest, program, refill, ROW, rows, table } from "./gl.js";
import { makeSorter, startWorker } from "./sorter.js";
import { COPY, DRAW_FRAGMENT, DRAW_VERTEX, placeShader } from "./splat_shaders.js";

const COLUMNS = 11; // of the basis beside the offset: quaternion 4, scale 3, colour 3, opacity
const PADDED = 16;

export class SplatPicture {
  constructor(gl, rig, block) {
    this.gl = gl;
    this.rig = rig;
    const facts = block.facts.splats;
    this.count = facts.count;
    this.harmonics = facts.harmonics - 1;
    this.components = facts.components;
    this.mixing = this.components ? block.numbers("splat_mixing") : null;
    this.limits = block.has("splat_limits") ? block.numbers("splat_limits") : null;
    this.values = new Float32Array(this.components);
    this.places = program(gl, COVER, placeShader(this.components, this.harmonics));
    this.draws = program(gl, DRAW_VERTEX, DRAW_FRAGMENT);
    this.copies = program(gl, COVER, COPY);
    this.precise = gl.getExtension("EXT_color_buffer_float") || gl.getExtension("EXT_color_buffer_half_float");
    this.fill(block);
    this.ellipses = table(gl, "rgba32ui", this.count);
    this.looks = table(gl, "rgba32ui", this.count);
    this.placed = gl.createFramebuffer();
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.placed);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, this.ellipses, 0);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT1, gl.TEXTURE_2D, this.looks, 0);
    gl.drawBuffers([gl.COLOR_ATTACHMENT0, gl.COLOR_ATTACHMENT1]);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    this.order = table(gl, "r32ui", this.count);
    // Quads by index, not as instances: some drivers draw those one by one.
    const quads = new Uint32Array(6 * this.count);
    for (let i = 0, v = 0; i < quads.length; i += 6, v += 4) quads.set([v, v + 1, v + 2, v + 2, v + 1, v + 3], i);
    this.array = gl.createVertexArray();
    gl.bindVertexArray(this.array);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, quads, gl.STATIC_DRAW);
    gl.bindVertexArray(null);
  }

  /** Fills the textures that never change, and what sorting needs. */
  fill(block) {
    const { gl, count, components, harmonics } = this;
    const corners = Uint32Array.from(block.stored("splat_corners"));
    const [weights, offsets, quats, scales, logits, colours] = ["weights", "offsets", "quats", "log_scales", "logits",
      "colours"].map((name) => block.numbers(`splat_${name}`));
    const inverses = this.rig.inverseSizes(corners);
    const interleave = (kind, parts) => {
      const out = new kind(4 * ROW * rows(count));
      let column = 0;
      for (const [values, width, first, used] of parts) {
        for (let k = 0; k < used; k++, column++)
          for (let i = 0; i < count; i++) out[4 * i + column] = values[width * i + first + k];
      }
      return out;
    };
    const one = (kind, format, parts) => table(gl, format, count, interleave(kind, parts));
    this.vertices = table(gl, "rgba32f", this.rig.count);
    this.inputs = {
      u_corners: one(Uint32Array, "rgba32ui", [[corners, 3, 0, 3], [new Uint32Array(inverses.buffer), 1, 0, 1]]),
      u_place: one(Float32Array, "rgba32f", [[weights, 2, 0, 2], [logits, 1, 0, 1], [colours, 3, 0, 1]]),
      u_offset: one(Float32Array, "rgba32f", [[offsets, 3, 0, 3], [colours, 3, 1, 1]]),
      u_quat: one(Float32Array, "rgba32f", [[quats, 4, 0, 4]]),
      u_scale: one(Float32Array, "rgba32f", [[scales, 3, 0, 3], [colours, 3, 2, 1]]),
    };
    const change = components ? block.stored("splat_basis_offsets") : new Int16Array(0);
    const padded = new Int16Array(PADDED * count * components);
    if (components) {
      const basis = block.stored("splat_basis");
      for (let i = 0; i < count * components; i++) {
        for (let k = 0; k < 3; k++) padded[PADDED * i + k] = change[3 * i + k];
        for (let k = 0; k < COLUMNS; k++) padded[PADDED * i + 3 + k] = basis[COLUMNS * i + k];
      }
    }
    this.inputs.u_basis = table(gl, "rgba16i", Math.max(1, 4 * count * components), padded);
    const rest = new Int8Array(4 * count * harmonics);
    if (harmonics) {
      const stored = block.stored("splat_harmonics");
      for (let i = 0; i < count * harmonics; i++)
        for (let k = 0; k < 3; k++) rest[4 * i + k] = stored[3 * i + k];
    }
    this.inputs.u_harmonics = table(gl, "rgba8i", Math.max(1, count * harmonics), rest);
    const coding = (name, length) => {
      const { step, zero } = block.has(name) ? block.entry(name) : { step: [], zero: [] };
      return [step, zero].map((x) => Float32Array.from({ length }, (_, i) => x[x.length === 1 ? 0 : i]));
    };
    [this.basisStep, this.basisZero] = coding("splat_basis", COLUMNS * components);
    [this.harmonicStep, this.harmonicZero] = coding("splat_harmonics", 3 * harmonics);
    this.offsetStep = components ? block.entry("splat_basis_offsets").step[0] : 0;
    const splats = { count, size: ROW * rows(count), corners, weights, offsets, inverses, change, components,
      step: this.offsetStep };
    this.sort = makeSorter(splats);
    this.worker = startWorker(splats);
    this.busy = false;
    this.stale = false;
    if (this.worker) this.worker.onmessage = ({ data }) => this.sorted(data);
  }

  get info() {
    return { appearance: "splats", splats: this.count, components: this.components, harmonics: this.harmonics + 1,
      sortsInWorker: Boolean(this.worker) };
  }

  release() {
    this.worker?.terminate();
  }

  /** After the rig was posed. */
  update(expression) {
    refill(this.gl, this.vertices, "rgba32f", this.rig.count, this.rig.vertices);
    const inputs = [...expression, ...turnOf(this.rig.headRotation)];
    const columns = this.mixing ? this.mixing.length / this.components : 0; // with or without the turn
    for (let e = 0; e < this.components; e++) {
      let value = 0;
      for (let s = 0; s < columns; s++) value += this.mixing[e * columns + s] * inputs[s];
      if (this.limits) value = Math.min(Math.max(value, this.limits[2 * e]), this.limits[2 * e + 1]);
      this.values[e] = value;
    }
    this.asked = null;
  }

  /** Sorts at once. */
  settled(view) {
    this.stale = false;
    this.asked = depthRow(view);
    this.upload(this.sort(this.rig.vertices, this.values, this.asked));
    this.skip = this.busy; // what the worker is at is older than this
  }

  /** Asks the worker for the order of this view, unless it was asked or is busy. */
  request(view) {
    const row = depthRow(view);
    this.stale = false;
    if (this.asked && row.every((x, i) => x === this.asked[i])) return;
    if (!this.worker) return this.settled(view);
    if (this.busy) {
      this.stale = true; // again with the next picture
      return;
    }
    this.busy = true;
    this.asked = row;
    const vertices = this.rig.vertices.slice(0, 4 * this.rig.count);
    this.worker.postMessage({ vertices, values: this.values, row }, [vertices.buffer]);
  }

  sorted(order) {
    this.busy = false;
    this.stale = true;
    if (!this.skip) this.upload(order);
    this.skip = false;
  }

  upload(order) {
    refill(this.gl, this.order, "r32ui", this.count, order);
  }

  /** @param exact blend in half floats, so that many faint layers lose nothing; else in the canvas' eight bits */
  draw(view, background, exact) {
    const { gl } = this;
    gl.disable(gl.BLEND);
    this.place(view);
    const target = exact && this.precise ? this.target(view.width, view.height) : null;
    gl.bindFramebuffer(gl.FRAMEBUFFER, target && target.buffer);
    gl.viewport(0, 0, view.width, view.height);
    gl.clearColor(...background, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    const { made, places } = this.draws;
    gl.useProgram(made);
    attach(gl, 0, this.ellipses, places.u_ellipse);
    attach(gl, 1, this.looks, places.u_look);
    attach(gl, 2, this.order, places.u_order);
    gl.uniform2f(places.u_size, view.width, view.height);
    gl.bindVertexArray(this.array);
    gl.drawElements(gl.TRIANGLES, 6 * this.count, gl.UNSIGNED_INT, 0);
    gl.bindVertexArray(null);
    gl.disable(gl.BLEND);
    if (!target) return;
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.useProgram(this.copies.made);
    attach(gl, 0, target.picture, this.copies.places.u_picture);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  place(view) {
    const { gl, components, values } = this;
    const { made, places } = this.places;
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.placed);
    gl.viewport(0, 0, ROW, rows(this.count));
    gl.useProgram(made);
    gl.uniform1i(places.u_count, this.count);
    attach(gl, 0, this.vertices, places.u_vertices);
    Object.entries(this.inputs).forEach(([name, texture], i) => {
      if (places[name]) attach(gl, i + 1, texture, places[name]);
    });
    const zero = new Float32Array(PADDED);
    const change = new Float32Array(PADDED * components);
    for (let e = 0; e < components; e++) {
      change.fill(values[e] * this.offsetStep, PADDED * e, PADDED * e + 3);
      for (let k = 0; k < COLUMNS; k++) {
        zero[3 + k] += values[e] * this.basisZero[COLUMNS * e + k];
        change[PADDED * e + 3 + k] = values[e] * this.basisStep[COLUMNS * e + k];
      }
    }
    gl.uniform4fv(places.u_zero, zero);
    if (components) gl.uniform4fv(places.u_change, change);
    if (this.harmonics) {
      gl.uniform3fv(places.u_step, this.harmonicStep);
      gl.uniform3fv(places.u_base, this.harmonicZero);
      gl.uniform3fv(places.u_eye, view.eye);
      gl.uniformMatrix3fv(places.u_head, false, this.rig.headRotation); // as columns: the transpose, world to head
    }
    gl.uniformMatrix3fv(places.u_R, true, view.R);
    gl.uniform3fv(places.u_t, view.t);
    gl.uniform1f(places.u_focal, view.focal);
    gl.uniform1f(places.u_near, view.near);
    gl.uniform2f(places.u_size, view.width, view.height);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  /** A picture of half floats. */
  target(width, height) {
    const { gl } = this;
    if (this.last && this.last.width === width && this.last.height === height) return this.last;
    if (this.last) {
      gl.deleteTexture(this.last.picture);
      gl.deleteFramebuffer(this.last.buffer);
    }
    const picture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, picture);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA16F, width, height);
    nearest(gl);
    const buffer = gl.createFramebuffer();
    gl.bindFramebuffer(gl.FRAMEBUFFER, buffer);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, picture, 0);
    this.last = { width, height, picture, buffer };
    return this.last;
  }
}

/** Depth of a point is the dot product with the first three, plus the fourth. */
function depthRow({ R, t }) {
  return [R[6], R[7], R[8], t[2]];
}

/** Rotation vector of a matrix whose rows follow each other. */
function turnOf(R) {
  const v = [R[7] - R[5], R[2] - R[6], R[3] - R[1]];
  const twice = Math.hypot(...v); // the sine of the angle, twice
  const angle = Math.atan2(twice, R[0] + R[4] + R[8] - 1);
  return v.map((x) => x * (twice > 1e-7 ? angle / twice : 0.5));
}
