// The textured mesh, drawn as `avatar3d render` draws it: light at the vertices (with a normal map, at every sample),
// texture in linear light, samples averaged in linear light, blended with the background in sRGB.

import { attach, COVER, HEAD, nearest, program, refill, table } from "./gl.js";
import { Tangents } from "./tangents.js";

const LIGHT = `
uniform vec3 u_light[9];
// Ramamoorthi and Hanrahan (2001).
vec3 irradiance(vec3 n) {
  return max(0.282095 * u_light[0] + 0.488603 * (n.y * u_light[1] + n.z * u_light[2] + n.x * u_light[3])
    + 1.092548 * (n.x * n.y * u_light[4] + n.y * n.z * u_light[5] + n.x * n.z * u_light[7])
    + 0.315392 * (3.0 * n.z * n.z - 1.0) * u_light[6] + 0.546274 * (n.x * n.x - n.y * n.y) * u_light[8], 0.0);
}`;

const VERTEX = `${HEAD}${LIGHT}
layout(location = 0) in uint a_vertex;
layout(location = 1) in vec2 a_uv;
uniform mat4 u_clip;
uniform sampler2D u_vertices;
uniform sampler2D u_normals;
uniform sampler2D u_tangents;
uniform vec3 u_albedo;
out vec3 v_lit;
out vec2 v_uv;
out vec3 v_normal;
out vec4 v_tangent;
void main() {
  ivec2 at = TEXEL(int(a_vertex));
  vec3 n = texelFetch(u_normals, at, 0).xyz;
  float size = length(n);
  n = size > 0.0 ? n / size : vec3(0);
  v_lit = irradiance(n) * u_albedo;
  v_uv = a_uv;
  v_normal = n;
  v_tangent = texelFetch(u_tangents, TEXEL(gl_VertexID), 0);
  gl_Position = u_clip * vec4(texelFetch(u_vertices, at, 0).xyz, 1);
}`;

const MOST_WRINKLES = 6;

const FRAGMENT = `${HEAD}${LIGHT}
precision highp sampler2DArray;
uniform sampler2D u_texture;
uniform sampler2D u_bumps;
uniform sampler2DArray u_wrinkles;
uniform float u_weights[${MOST_WRINKLES}];
uniform int u_layers;
uniform bool u_textured;
uniform bool u_bumpy;
uniform vec3 u_albedo;
in vec3 v_lit;
in vec2 v_uv;
in vec3 v_normal;
in vec4 v_tangent;
out vec4 o_linear;
void main() {
  vec3 albedo = u_textured ? texture(u_texture, v_uv).rgb : vec3(1);
  vec3 lit = v_lit;
  if (u_bumpy) {
    vec3 bend = (255.0 * texture(u_bumps, v_uv).xyz - 128.0) / 127.5;
    if (u_layers > 0) bend = vec3(bend.xy / max(bend.z, 0.1), 1);
    for (int i = 0; i < u_layers; i++)
      if (u_weights[i] != 0.0) bend.xy += u_weights[i] * texture(u_wrinkles, vec3(v_uv, i)).xy;
    vec3 n = normalize(v_normal);
    vec3 t = normalize(v_tangent.xyz);
    lit = irradiance(normalize(bend.x * t + bend.y * v_tangent.w * cross(n, t) + bend.z * n)) * u_albedo;
  }
  o_linear = vec4(lit * albedo, 1);
}`;

const RESOLVE = `${HEAD}
uniform sampler2D u_drawn;
uniform int u_samples;
uniform vec3 u_background;
out vec4 o_colour;
void main() {
  vec4 sum = vec4(0);
  ivec2 at = ivec2(gl_FragCoord.xy) * u_samples;
  for (int j = 0; j < u_samples; j++)
    for (int i = 0; i < u_samples; i++) sum += texelFetch(u_drawn, at + ivec2(i, j), 0);
  vec3 linear = clamp(sum.rgb / max(sum.a, 1e-6), 0.0, 1.0);
  vec3 high = 1.055 * pow(max(linear, 1e-8), vec3(1.0 / 2.4)) - 0.055;
  vec3 srgb = mix(high, linear * 12.92, lessThanEqual(linear, vec3(0.0031308)));
  o_colour = vec4(mix(u_background, srgb, sum.a / float(u_samples * u_samples)), 1);
}`;

export class MeshPicture {
  static async create(gl, rig, block) {
    const picture = new MeshPicture(gl, rig, block);
    if (block.has("texture")) await picture.load(block);
    return picture;
  }

  constructor(gl, rig, block) {
    this.gl = gl;
    this.rig = rig;
    this.light = Float32Array.from(block.facts.light.flat());
    this.albedo = block.facts.albedo;
    this.draws = program(gl, VERTEX, FRAGMENT);
    this.resolves = program(gl, COVER, RESOLVE);
    this.vertices = table(gl, "rgba32f", rig.count);
    this.normals = table(gl, "rgba32f", rig.count);
    this.array = gl.createVertexArray();
    gl.bindVertexArray(this.array);
    const buffer = (target, data) => {
      gl.bindBuffer(target, gl.createBuffer());
      gl.bufferData(target, data, gl.STATIC_DRAW);
    };
    buffer(gl.ARRAY_BUFFER, Uint32Array.from(block.stored("corner_vertex")));
    gl.enableVertexAttribArray(0);
    gl.vertexAttribIPointer(0, 1, gl.UNSIGNED_INT, 0, 0);
    buffer(gl.ARRAY_BUFFER, block.numbers("corner_uv"));
    gl.enableVertexAttribArray(1);
    gl.vertexAttribPointer(1, 2, gl.FLOAT, false, 0, 0);
    const triangles = Uint32Array.from(block.stored("triangles"));
    buffer(gl.ELEMENT_ARRAY_BUFFER, triangles);
    if (block.has("bumps")) {
      this.tangents = new Tangents(block.stored("corner_vertex"), block.numbers("corner_uv"), triangles);
      this.tangentTable = table(gl, "rgba32f", this.tangents.count);
    }
    this.mixing = [];
    this.weights = new Float32Array(MOST_WRINKLES);
    this.wrinkles = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, this.wrinkles);
    if (block.has("wrinkles")) {
      const [layers, height, width] = block.entry("wrinkles").shape;
      Object.assign(this, block.facts.wrinkles); // mixing, scales
      const data = block.stored("wrinkles");
      gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
      gl.texImage3D(gl.TEXTURE_2D_ARRAY, 0, gl.RG8_SNORM, width, height, layers, 0, gl.RG, gl.BYTE, data);
      gl.pixelStorei(gl.UNPACK_ALIGNMENT, 4);
    } else {
      gl.texImage3D(gl.TEXTURE_2D_ARRAY, 0, gl.RG8_SNORM, 1, 1, 1, 0, gl.RG, gl.BYTE, new Int8Array(2));
    }
    gl.texParameteri(gl.TEXTURE_2D_ARRAY, gl.TEXTURE_MAX_LEVEL, 0);
    gl.bindVertexArray(null);
    this.corners = triangles.length;
    this.empty = table(gl, "rgba32f", 1);
  }

  async load(block) {
    const { gl } = this;
    this.texture = await this.image(block.stored("texture"), block.facts.texture, gl.SRGB8_ALPHA8);
    if (block.has("bumps")) this.bumps = await this.image(block.stored("bumps"), block.facts.bumps, gl.RGBA8);
    const sampler = (smallest) => {
      const made = gl.createSampler();
      gl.samplerParameteri(made, gl.TEXTURE_MIN_FILTER, smallest);
      gl.samplerParameteri(made, gl.TEXTURE_MAG_FILTER, gl.LINEAR);
      gl.samplerParameteri(made, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
      gl.samplerParameteri(made, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
      return made;
    };
    this.samplers = { exact: sampler(gl.LINEAR), quick: sampler(gl.LINEAR_MIPMAP_LINEAR) };
  }

  async image(bytes, type, format) {
    const { gl } = this;
    const picture = new Blob([bytes], { type });
    const image = new Image(); // the page counts as loaded when it has arrived
    await new Promise((done, failed) => {
      image.onload = done;
      image.onerror = () => failed(new Error("This page is damaged: its texture cannot be read."));
      image.src = URL.createObjectURL(picture);
    });
    gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
    const texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, format, gl.RGBA, gl.UNSIGNED_BYTE, image);
    gl.generateMipmap(gl.TEXTURE_2D);
    URL.revokeObjectURL(image.src);
    return texture;
  }

  /** After the rig was posed. */
  update(expression) {
    const { gl, rig } = this;
    rig.updateNormals();
    refill(gl, this.vertices, "rgba32f", rig.count, rig.vertices);
    refill(gl, this.normals, "rgba32f", rig.count, rig.normals);
    if (!this.tangents) return;
    this.mixing.forEach((mix, i) => {
      const sum = mix.reduce((total, m, s) => total + m * expression[s], 0);
      this.weights[i] = Math.min(1, Math.max(-1, sum)) * this.scales[i];
    });
    this.tangents.update(rig.vertices, rig.normals);
    refill(gl, this.tangentTable, "rgba32f", this.tangents.count, this.tangents.values);
  }

  get info() {
    return { appearance: "mesh", vertices: this.rig.count, triangles: this.corners / 3 };
  }

  /**
   * @param view Camera.picture
   * @param background sRGB, 0..1
   * @param exact two by two samples for every pixel, each shaded, as our own renderer; else the GPU's antialiasing
   */
  draw(view, background, exact) {
    const { gl } = this;
    const target = this.target(view.width, view.height, exact);
    gl.bindFramebuffer(gl.FRAMEBUFFER, target.drawn);
    gl.viewport(0, 0, target.samples * view.width, target.samples * view.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    gl.disable(gl.BLEND);
    const { made, places } = this.draws;
    gl.useProgram(made);
    gl.uniformMatrix4fv(places.u_clip, false, view.clip);
    gl.uniform3fv(places.u_light, this.light);
    gl.uniform3fv(places.u_albedo, this.albedo);
    gl.uniform1i(places.u_textured, this.texture ? 1 : 0);
    attach(gl, 0, this.vertices, places.u_vertices);
    attach(gl, 1, this.normals, places.u_normals);
    attach(gl, 2, this.texture || this.empty, places.u_texture);
    attach(gl, 3, this.tangentTable || this.empty, places.u_tangents);
    attach(gl, 4, this.bumps || this.empty, places.u_bumps);
    gl.uniform1i(places.u_bumpy, this.bumps ? 1 : 0);
    gl.uniform1i(places.u_layers, this.mixing.length);
    gl.uniform1fv(places.u_weights, this.weights);
    gl.activeTexture(gl.TEXTURE5);
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, this.wrinkles);
    gl.uniform1i(places.u_wrinkles, 5);
    const sampler = this.texture ? this.samplers[exact ? "exact" : "quick"] : null;
    for (const unit of [2, 4]) gl.bindSampler(unit, sampler);
    gl.bindSampler(5, this.texture ? this.samplers.exact : null);
    gl.bindVertexArray(this.array);
    gl.drawElements(gl.TRIANGLES, this.corners, gl.UNSIGNED_INT, 0);
    gl.bindVertexArray(null);
    for (const unit of [2, 4, 5]) gl.bindSampler(unit, null);
    gl.disable(gl.DEPTH_TEST);
    if (target.resolved) {
      gl.bindFramebuffer(gl.READ_FRAMEBUFFER, target.drawn);
      gl.bindFramebuffer(gl.DRAW_FRAMEBUFFER, target.resolved);
      gl.blitFramebuffer(0, 0, view.width, view.height, 0, 0, view.width, view.height, gl.COLOR_BUFFER_BIT, gl.NEAREST);
    }
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, view.width, view.height);
    gl.useProgram(this.resolves.made);
    attach(gl, 0, target.picture, this.resolves.places.u_drawn);
    gl.uniform1i(this.resolves.places.u_samples, target.samples);
    gl.uniform3fv(this.resolves.places.u_background, background);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  /** Framebuffers of the picture's size. Eight bits are sRGB-coded, so that linear light loses nothing visible. */
  target(width, height, exact) {
    const key = `${width} ${height} ${exact}`;
    if (this.last && this.last.key === key) return this.last;
    const { gl } = this;
    if (this.last) this.last.release();
    const samples = exact ? 2 : 1;
    const w = samples * width;
    const h = samples * height;
    const picture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, picture);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.SRGB8_ALPHA8, w, h);
    nearest(gl);
    const multi = exact ? 0 : Math.min(4, gl.getParameter(gl.MAX_SAMPLES));
    const renderbuffer = (format, place) => {
      const made = gl.createRenderbuffer();
      gl.bindRenderbuffer(gl.RENDERBUFFER, made);
      gl.renderbufferStorageMultisample(gl.RENDERBUFFER, multi, format, w, h);
      gl.framebufferRenderbuffer(gl.FRAMEBUFFER, place, gl.RENDERBUFFER, made);
      return made;
    };
    const [drawn, resolved] = [gl.createFramebuffer(), multi ? gl.createFramebuffer() : null];
    gl.bindFramebuffer(gl.FRAMEBUFFER, resolved || drawn);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, picture, 0);
    gl.bindFramebuffer(gl.FRAMEBUFFER, drawn);
    const depth = renderbuffer(gl.DEPTH_COMPONENT24, gl.DEPTH_ATTACHMENT);
    const colour = multi ? renderbuffer(gl.SRGB8_ALPHA8, gl.COLOR_ATTACHMENT0) : null;
    const release = () => {
      for (const buffer of [depth, colour]) gl.deleteRenderbuffer(buffer);
      for (const buffer of [drawn, resolved]) gl.deleteFramebuffer(buffer);
      gl.deleteTexture(picture);
    };
    this.last = { key, samples, picture, drawn, resolved, release };
    return this.last;
  }
}
