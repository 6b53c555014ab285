// Splats on the GPU, in two passes: `place` computes once per splat where it is, its ellipse and its colour, with the
// arithmetic of ops.rig_splats and ops.project_splats; `draw` blends its quad.

import { HEAD } from "./gl.js";

/** @param components of the expression's basis; @param harmonics per colour beyond the first */
export const placeShader = (components, harmonics) => `${HEAD}
#define COMPONENTS ${components}
#define HARMONICS ${harmonics}
uniform int u_count;
uniform sampler2D u_vertices;
uniform usampler2D u_corners;  // of the triangle; one over its neutral size
uniform sampler2D u_place;     // second and third barycentric coordinate, opacity's logit, red
uniform sampler2D u_offset;    // metres on the neutral face; green
uniform sampler2D u_quat;
uniform sampler2D u_scale;     // logarithms, blue
uniform isampler2D u_basis;
uniform isampler2D u_harmonics;
uniform vec4 u_zero[4];
#if COMPONENTS > 0
uniform vec4 u_change[4 * COMPONENTS];
#endif
#if HARMONICS > 0
uniform vec3 u_step[HARMONICS];
uniform vec3 u_base[HARMONICS];
#endif
uniform mat3 u_R;     // world to camera
uniform vec3 u_t;
uniform vec3 u_eye;
uniform mat3 u_head;  // world to head
uniform float u_focal;
uniform float u_near;
uniform vec2 u_size;
layout(location = 0) out uvec4 o_ellipse;  // centre, long half axis at one sigma, pixels
layout(location = 1) out uvec4 o_look;     // short half axis, opacity, colour

mat3 rotation(vec4 q) {
  float w = q.x, x = q.y, y = q.z, z = q.w;
  return mat3(
    1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y),
    2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x),
    2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y));
}

void main() {
  o_ellipse = uvec4(0);
  o_look = uvec4(0);
  ivec2 at = ivec2(gl_FragCoord.xy);
  int i = at.y * ROW + at.x;
  if (i >= u_count) return;

  // What the expression changes: offset 3, quaternion 4, scale 3, colour 3, opacity.
  vec4 change0 = u_zero[0], change1 = u_zero[1], change2 = u_zero[2], change3 = u_zero[3];
#if COMPONENTS > 0
  for (int e = 0; e < COMPONENTS; e++) {
    int from = (i * COMPONENTS + e) * 4;
    change0 += u_change[4 * e] * vec4(texelFetch(u_basis, TEXEL(from), 0));
    change1 += u_change[4 * e + 1] * vec4(texelFetch(u_basis, TEXEL(from + 1), 0));
    change2 += u_change[4 * e + 2] * vec4(texelFetch(u_basis, TEXEL(from + 2), 0));
    change3 += u_change[4 * e + 3] * vec4(texelFetch(u_basis, TEXEL(from + 3), 0));
  }
#endif
  vec4 place = texelFetch(u_place, at, 0);
  vec4 offset = texelFetch(u_offset, at, 0);
  vec4 scale = texelFetch(u_scale, at, 0);
  vec3 moved = offset.xyz + change0.xyz;
  vec4 quat = texelFetch(u_quat, at, 0) + vec4(change0.w, change1.xyz);
  vec3 spread = exp(scale.xyz + vec3(change1.w, change2.xy));
  vec3 first = vec3(place.w, offset.w, scale.w) + vec3(change2.zw, change3.x);
  float opacity = 1.0 / (1.0 + exp(-(place.z + change3.y)));

  // The triangle's frame.
  uvec4 corners = texelFetch(u_corners, at, 0);
  vec3 a = texelFetch(u_vertices, TEXEL(int(corners.x)), 0).xyz;
  vec3 edge = texelFetch(u_vertices, TEXEL(int(corners.y)), 0).xyz - a;
  vec3 other = texelFetch(u_vertices, TEXEL(int(corners.z)), 0).xyz - a;
  vec3 normal = cross(edge, other);
  float area = length(normal), turn = dot(quat, quat);
  if (!(area > 1e-20) || !(turn > 1e-24)) return;
  vec3 z = normal / area, x = normalize(edge), y = cross(z, x);
  mat3 frame = mat3(x, y, z);
  float size = sqrt(area);
  vec3 mean = a + place.x * edge + place.y * other + size * uintBitsToFloat(corners.w) * (frame * moved);
  mat3 axes = frame * rotation(quat * inversesqrt(turn));
  spread *= size;

  // The camera.
  vec3 p = u_R * mean + u_t;
  if (!(p.z >= u_near) || !(opacity >= 1.0 / 255.0)) return;
  float iz = 1.0 / p.z;
  vec2 slope = p.xy * iz;
  vec2 centre = u_focal * slope + 0.5 * u_size;
  vec2 limit = 0.65 * u_size / u_focal;
  vec2 held = clamp(slope, -limit, limit);
  mat3 M = u_R * axes;
  vec3 n0 = (u_focal * iz) * (vec3(M[0].x, M[1].x, M[2].x) - held.x * vec3(M[0].z, M[1].z, M[2].z)) * spread;
  vec3 n1 = (u_focal * iz) * (vec3(M[0].y, M[1].y, M[2].y) - held.y * vec3(M[0].z, M[1].z, M[2].z)) * spread;
  vec3 minors = cross(n0, n1);
  float a0 = dot(n0, n0), c0 = dot(n1, n1), b = dot(n0, n1);
  float det = dot(minors, minors) + 0.3 * (a0 + c0) + 0.09;  // 0.3 square pixels of low-pass
  float ca = a0 + 0.3, cc = c0 + 0.3;
  opacity *= sqrt(dot(minors, minors) / det);  // antialiased: as faint as the filter makes it wide
  if (!(opacity >= 1.0 / 255.0)) return;
  float apart = sqrt(0.25 * (ca - cc) * (ca - cc) + b * b);
  float wide = 0.5 * (ca + cc) + apart, narrow = det / wide;
  float reach = 2.0 * log(255.0 * opacity);
  vec2 room = max(max(0.5 - centre, centre - (u_size - 0.5)), 0.0);
  if (any(greaterThan(room * room, reach * vec2(ca, cc))) || !(det < 1e30)) return;
  vec2 along = apart > 0.0 ? normalize(ca >= cc ? vec2(wide - cc, b) : vec2(b, wide - ca)) : vec2(1, 0);

  // The colour, from where the head is seen.
  vec3 colour = 0.28209479177387814 * first;
#if HARMONICS > 0
  vec3 d = u_head * normalize(mean - u_eye);
  float basis[8];
  basis[0] = -0.4886025119029199 * d.y;
  basis[1] = 0.4886025119029199 * d.z;
  basis[2] = -0.4886025119029199 * d.x;
  basis[3] = 1.0925484305920792 * d.x * d.y;
  basis[4] = -1.0925484305920792 * d.y * d.z;
  basis[5] = 0.31539156525252005 * (2.0 * d.z * d.z - d.x * d.x - d.y * d.y);
  basis[6] = -1.0925484305920792 * d.x * d.z;
  basis[7] = 0.5462742152960396 * (d.x * d.x - d.y * d.y);
  for (int k = 0; k < HARMONICS; k++) {
    vec3 whole = vec3(texelFetch(u_harmonics, TEXEL(i * HARMONICS + k), 0).rgb);
    colour += basis[k] * (u_base[k] + u_step[k] * whole);
  }
#endif
  colour = max(colour + 0.5, 0.0);
  o_ellipse = floatBitsToUint(vec4(centre, along * sqrt(wide)));
  o_look = uvec4(floatBitsToUint(vec2(sqrt(narrow), opacity)), packHalf2x16(colour.rg), packHalf2x16(vec2(colour.b, 0)));
}`;

export const DRAW_VERTEX = `${HEAD}
uniform usampler2D u_order;
uniform usampler2D u_ellipse;
uniform usampler2D u_look;
uniform vec2 u_size;
out vec2 v_away;       // sigmas times the root of log2(e) / 2
flat out vec4 v_colour;  // and the logarithm of the opacity, to base 2
void main() {
  int place = gl_VertexID >> 2, side = gl_VertexID & 3;  // four corners each
  int splat = int(texelFetch(u_order, TEXEL(place), 0).x);
  ivec2 at = TEXEL(splat);
  uvec4 look = texelFetch(u_look, at, 0);
  float opacity = uintBitsToFloat(look.y);
  vec2 corner = vec2(side & 1, side >> 1) * 2.0 - 1.0;
  if (!(opacity > 0.0)) {
    gl_Position = vec4(2, 2, 2, 1);
    return;
  }
  vec4 ellipse = uintBitsToFloat(texelFetch(u_ellipse, at, 0));
  // Beyond this many sigmas alpha is under 1/255.
  vec2 sigmas = sqrt(2.0 * log(255.0 * opacity)) * corner;
  vec2 across = normalize(vec2(-ellipse.w, ellipse.z)) * uintBitsToFloat(look.x);
  vec2 pixel = ellipse.xy + sigmas.x * ellipse.zw + sigmas.y * across;
  v_away = 0.8493218002880191 * sigmas;
  v_colour = vec4(unpackHalf2x16(look.z), unpackHalf2x16(look.w).x, log2(opacity));
  gl_Position = vec4((pixel / u_size * 2.0 - 1.0) * vec2(1, -1), 0, 1);
}`;

export const DRAW_FRAGMENT = `${HEAD}
in vec2 v_away;
flat in vec4 v_colour;
out vec4 o_colour;
void main() {
  float alpha = min(0.99, exp2(v_colour.a - dot(v_away, v_away)));
  alpha = alpha < 1.0 / 255.0 ? 0.0 : alpha;  // in software, to discard costs more than it saves
  o_colour = vec4(v_colour.rgb * alpha, alpha);
}`;

export const COPY = `${HEAD}
uniform sampler2D u_picture;
out vec4 o_colour;
void main() { o_colour = vec4(texelFetch(u_picture, ivec2(gl_FragCoord.xy), 0).rgb, 1); }`;
