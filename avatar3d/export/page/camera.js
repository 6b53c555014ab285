// Where the head is seen from. Camera space as everywhere in avatar3d: +x right, +y down, +z forward.

import { clamp, rotate } from "./maths.js";

const NEAR = 0.01;
const FAR = 50;
const ORBIT = (50 * Math.PI) / 180;

export class Camera {
  /** @param front target, distance (metres) and fieldOfView (radians) of the picture from the front. */
  constructor(front, centre) {
    this.front = front;
    this.home = front.target.map((x, i) => x + centre[i]);
    this.reset();
  }

  reset() {
    this.target = [...this.home];
    this.distance = this.front.distance;
    this.yaw = 0; // to the subject's left, radians
    this.pitch = 0; // upwards
  }

  /** The turn of `avatar3d render --camera orbit` at a frame. */
  orbit(frame, frames, fps) {
    this.yaw = ORBIT * Math.sin((2 * Math.PI * frame) / Math.max(frames, Math.trunc(4 * fps)));
  }

  turn(dx, dy) {
    this.yaw -= dx;
    this.pitch = clamp(this.pitch + dy, -1.45, 1.45);
  }

  zoom(factor) {
    this.distance = clamp(this.distance * factor, 0.15 * this.front.distance, 5 * this.front.distance);
  }

  /** Moves the target by pixels of the picture. */
  pan(dx, dy, height) {
    const metres = (2 * this.distance * Math.tan(this.front.fieldOfView / 2)) / height;
    const { R } = this.view();
    for (let i = 0; i < 3; i++) this.target[i] -= metres * (dx * R[i] + dy * R[3 + i]);
  }

  /** R (row-major) and t: world to camera space. */
  view() {
    const { yaw, pitch } = this;
    const forward = [-Math.sin(yaw) * Math.cos(pitch), -Math.sin(pitch), -Math.cos(yaw) * Math.cos(pitch)];
    const right = [Math.cos(yaw), 0, -Math.sin(yaw)];
    const down = [
      forward[1] * right[2] - forward[2] * right[1],
      forward[2] * right[0] - forward[0] * right[2],
      forward[0] * right[1] - forward[1] * right[0],
    ];
    const eye = this.target.map((x, i) => x - this.distance * forward[i]);
    const R = [...right, ...down, ...forward];
    return { R, t: rotate(R, eye).map((x) => -x), eye };
  }

  /** Everything that drawing needs: the square picture of the front camera fits into width x height. */
  picture(width, height) {
    const { R, t, eye } = this.view();
    const focal = Math.min(width, height) / 2 / Math.tan(this.front.fieldOfView / 2);
    const zz = (FAR + NEAR) / (FAR - NEAR);
    const zw = (-2 * FAR * NEAR) / (FAR - NEAR);
    const x = (2 * focal) / width;
    const y = (-2 * focal) / height;
    // Column-major, clip space from world space.
    const clip = new Float32Array(16);
    for (let c = 0; c < 4; c++) {
      const [a, b, d] = c < 3 ? [R[c], R[3 + c], R[6 + c]] : t;
      clip.set([x * a, y * b, zz * d + (c === 3 ? zw : 0), d], 4 * c);
    }
    return { R, t, eye, focal, width, height, near: NEAR, clip };
  }
}

/** Mouse, touch and keys on the canvas. `changed(what)` is called after every move. */
export function steer(canvas, camera, changed) {
  const fingers = new Map();
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  const lift = (event) => fingers.delete(event.pointerId);
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY];
    const dx = now[0] - before[0];
    const dy = now[1] - before[1];
    const size = Math.min(canvas.clientWidth, canvas.clientHeight);
    if (fingers.size === 2) {
      const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
      const span = (p) => Math.max(8, Math.hypot(p[0] - other[0], p[1] - other[1]));
      camera.zoom(span(before) / span(now));
      camera.pan(dx / 2, dy / 2, size);
    } else if (event.buttons & 6 || event.shiftKey) camera.pan(dx, dy, size);
    else camera.turn((3 * dx) / size, (3 * dy) / size);
    fingers.set(event.pointerId, now);
    changed();
  });
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      camera.zoom(Math.exp(clamp(event.deltaY, -100, 100) * 0.0015));
      changed();
    },
    { passive: false },
  );
  canvas.addEventListener("dblclick", () => {
    camera.reset();
    changed();
  });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0.08, 0], ArrowRight: [-0.08, 0], ArrowUp: [0, 0.08], ArrowDown: [0, -0.08] }[event.key];
    if (!step) return;
    event.preventDefault();
    camera.turn(...step);
    changed();
  });
}
