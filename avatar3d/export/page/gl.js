// The little of WebGL 2 that every part of the page needs.

/** Texels in a row of the textures that hold one thing per texel. */
export const ROW = 2048;

export const rows = (count) => Math.max(1, Math.ceil(count / ROW));

export const HEAD = `#version 300 es
#define ROW ${ROW}
#define TEXEL(i) ivec2((i) % ROW, (i) / ROW)
precision highp float;
precision highp int;
precision highp sampler2D;
precision highp usampler2D;
precision highp isampler2D;
`;

/** A triangle that covers the picture. */
export const COVER = `${HEAD}
void main() { gl_Position = vec4(vec2((gl_VertexID << 1) & 2, gl_VertexID & 2) * 2.0 - 1.0, 0, 1); }`;

export function program(gl, vertex, fragment) {
  const made = gl.createProgram();
  for (const [type, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(type);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS) && !gl.isContextLost())
      throw new Error(`shader: ${gl.getShaderInfoLog(shader)}`);
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS) && !gl.isContextLost())
    throw new Error(`program: ${gl.getProgramInfoLog(made)}`);
  const places = {};
  for (let i = 0; i < gl.getProgramParameter(made, gl.ACTIVE_UNIFORMS); i++) {
    const name = gl.getActiveUniform(made, i).name.replace("[0]", "");
    places[name] = gl.getUniformLocation(made, name);
  }
  return { made, places };
}

/** A texture of one thing per texel, in rows of ROW. Formats: "rgba32f", "rgba8i", ... */
export function table(gl, format, count, data = null) {
  const texture = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, texture);
  const { inner, outer, type } = FORMATS(gl)[format];
  gl.texImage2D(gl.TEXTURE_2D, 0, inner, ROW, rows(count), 0, outer, type, padded(data, format, count));
  nearest(gl);
  return texture;
}

/** Uploads a table's numbers again; `data` fills whole rows. */
export function refill(gl, texture, format, count, data) {
  gl.bindTexture(gl.TEXTURE_2D, texture);
  const { outer, type } = FORMATS(gl)[format];
  gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, ROW, rows(count), outer, type, data);
}

export function nearest(gl) {
  for (const [name, value] of [[gl.TEXTURE_MIN_FILTER, gl.NEAREST], [gl.TEXTURE_MAG_FILTER, gl.NEAREST],
    [gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE], [gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE]])
    gl.texParameteri(gl.TEXTURE_2D, name, value);
}

function FORMATS(gl) {
  return {
    rgba32f: { inner: gl.RGBA32F, outer: gl.RGBA, type: gl.FLOAT, width: 4, kind: Float32Array },
    rgba16i: { inner: gl.RGBA16I, outer: gl.RGBA_INTEGER, type: gl.SHORT, width: 4, kind: Int16Array },
    rgba8i: { inner: gl.RGBA8I, outer: gl.RGBA_INTEGER, type: gl.BYTE, width: 4, kind: Int8Array },
    r32ui: { inner: gl.R32UI, outer: gl.RED_INTEGER, type: gl.UNSIGNED_INT, width: 1, kind: Uint32Array },
    rgba32ui: { inner: gl.RGBA32UI, outer: gl.RGBA_INTEGER, type: gl.UNSIGNED_INT, width: 4, kind: Uint32Array },
  };
}

function padded(data, format, count) {
  if (!data) return null;
  const { width, kind } = FORMATS({})[format];
  const whole = width * ROW * rows(count);
  if (data.length === whole) return data;
  const out = new kind(whole);
  out.set(data);
  return out;
}

export function attach(gl, unit, texture, place) {
  gl.activeTexture(gl.TEXTURE0 + unit);
  gl.bindTexture(gl.TEXTURE_2D, texture);
  gl.uniform1i(place, unit);
}

/** Colour from 0..255 numbers as sRGB in 0..1. */
export const unit = (rgb) => rgb.map((x) => x / 255);
