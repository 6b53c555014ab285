// Puts the page together: unpacks the avatar, plays it, and offers `window.avatar3d`.

import { Camera, steer } from "./camera.js";
import { readBlock } from "./data.js";
import { unit } from "./gl.js";
import { IDENTITY } from "./maths.js";
import { MeshPicture } from "./mesh.js";
import { Motion, Player } from "./motion.js";
import { Pace } from "./pace.js";
import { buildPanel, byId } from "./panel.js";
import { Rig, turnHead } from "./rig.js";
import { SplatPicture } from "./splats.js";

const NO_WEBGL = "This avatar needs WebGL 2, which this browser does not offer; open the page in a current Chrome, Edge, Firefox or Safari.";
const REST = { yaw: 0, pitch: 0, roll: 0 };

class Page {
  constructor() {
    this.options = readOptions(location.search);
    document.body.classList.toggle("bare", !this.options.ui);
    this.canvas = byId("canvas");
    this.dirty = { pose: true, picture: true };
    this.turn = { ...REST };
    this.pace = new Pace();
  }

  async open() {
    const settings = { alpha: false, antialias: false, depth: false, powerPreference: "high-performance" };
    this.gl = this.canvas.getContext("webgl2", settings);
    if (!this.gl) throw new Error(NO_WEBGL);
    const data = byId("avatar");
    this.size = data.textContent.length;
    this.block = readBlock(data.textContent);
    data.remove();
    this.rig = new Rig(this.block);
    this.motion = new Motion(this.block);
    this.player = new Player(this.motion, soundOf(this.block));
    this.camera = new Camera(this.block.facts.front, this.motion.centre);
    this.automatic = this.options.camera === "orbit";
    this.picture = await this.makePicture();
    this.canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    this.canvas.addEventListener("webglcontextrestored", async () => {
      this.picture = await this.makePicture();
      this.touch();
    });
    this.neutralPose();
    if (this.motion.frames) this.setFrame(this.options.frame);
    if (this.options.ui) this.openControls();
    byId("message").textContent = "";
    this.draw();
    requestAnimationFrame((now) => this.loop(now));
  }

  makePicture() {
    this.picture?.release?.();
    if (this.block.facts.splats) return new SplatPicture(this.gl, this.rig, this.block);
    return MeshPicture.create(this.gl, this.rig, this.block);
  }

  // What is shown

  neutralPose() {
    this.pose = { expression: new Float32Array(this.rig.shapeNames.length), quats: {}, translation: [...this.motion.centre] };
    this.turn = { ...REST };
    this.touch();
  }

  neutral() {
    this.pause();
    this.neutralPose();
  }

  setFrame(frame) {
    if (!(frame >= 0 && frame < Math.max(1, this.motion.frames)))
      throw new RangeError(`frame ${frame} of ${this.motion.frames}; they count from 0`);
    if (this.motion.frames) {
      this.player.seek(frame / this.motion.fps);
      this.pose = this.motion.at(frame);
    }
    this.touch();
  }

  setShapes(values) {
    for (const [name, value] of Object.entries(values)) {
      const at = this.rig.shapeNames.indexOf(name);
      if (at < 0) throw new RangeError(`no shape is called ${name}`);
      this.pose.expression[at] = value;
    }
    this.pause();
    this.touch();
  }

  setHead(turn) {
    Object.assign(this.turn, turn);
    this.touch();
  }

  setCamera(where) {
    this.automatic = where === "orbit";
    if (typeof where === "string") this.camera.reset();
    else Object.assign(this.camera, where);
    this.touch();
  }

  play() {
    this.player.play();
    this.showTransport();
  }

  pause() {
    this.player.pause();
    this.showTransport();
  }

  // Drawing

  touch() {
    this.dirty.pose = this.dirty.picture = true;
  }

  get info() {
    const { gl, canvas } = this;
    const named = gl.getExtension("WEBGL_debug_renderer_info");
    const renderer = gl.getParameter(named ? named.UNMASKED_RENDERER_WEBGL : gl.RENDERER);
    return { ...this.picture.info, width: canvas.width, height: canvas.height, renderer };
  }

  get background() {
    if (this.options.background) return unit(this.options.background);
    if (!this.options.ui) return [1, 1, 1];
    return document.documentElement.dataset.theme === "dark" ? unit([29, 30, 33]) : unit([238, 238, 235]);
  }

  /** Poses where needed; true when the picture has to be drawn. */
  update(share = 1) {
    const { canvas } = this;
    const scale = share * Math.min(window.devicePixelRatio || 1, 2);
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((x) => Math.max(1, Math.round(x * scale)));
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
      this.dirty.picture = true;
    }
    if (this.automatic) this.camera.orbit(this.player.frame, this.motion.frames, this.motion.fps);
    this.view = this.camera.picture(width, height);
    if (this.dirty.pose) {
      const { expression, quats, translation } = this.pose;
      this.rig.pose(expression, turnHead(quats, this.rig.jointNames, this.turn), translation);
      this.picture.update(expression);
    }
    const needed = this.dirty.picture || this.dirty.pose;
    this.dirty.pose = this.dirty.picture = false;
    return needed;
  }

  paint(exact = true) {
    this.picture.draw(this.view, this.background, exact);
  }

  /** Draws now, completely: in the order of this very picture, not of one before. */
  draw() {
    this.update();
    this.picture.settled?.(this.view);
    this.paint();
  }

  /** The picture as a PNG. */
  image() {
    this.draw();
    return new Promise((done) => this.canvas.toBlob(done, "image/png"));
  }

  /** Pictures per second when they are drawn one after the other, each waited for. */
  async fps(seconds = 2) {
    const pixel = new Uint8Array(4);
    const { gl } = this;
    const was = this.player.playing;
    this.pause();
    const start = performance.now();
    let count = 0;
    for (let now = start; now - start < 1000 * seconds; now = performance.now(), count++) {
      if (this.motion.frames) this.setFrame(count % this.motion.frames);
      else this.touch();
      this.update();
      if (count === 0) this.picture.settled?.(this.view);
      else this.picture.request?.(this.view);
      this.paint(false);
      gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);
      await new Promise((next) => setTimeout(next, 0)); // lets a finished sort in
    }
    if (was) this.play();
    return count / ((performance.now() - start) / 1000);
  }

  loop(now) {
    requestAnimationFrame((next) => this.loop(next));
    if (document.hidden || this.gl.isContextLost()) return;
    if (this.player.playing) {
      this.player.tick(now);
      this.pose = this.motion.at(this.player.frame);
      this.touch();
    }
    const quick = this.options.ui || this.player.playing;
    const share = quick ? this.pace.scale(now, this.dirty.pose || this.dirty.picture) : 1;
    if (!this.update(share) && !this.picture.stale) return;
    if (quick) this.picture.request?.(this.view);
    else this.picture.settled?.(this.view);
    this.paint(!quick);
    if (this.options.ui && (!this.player.playing || now - (this.shown || 0) > 60)) this.show(now);
  }

  // Controls

  openControls() {
    const facts = this.block.facts;
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    byId("about").textContent = [facts.about, `${(this.size / 1e6).toFixed(1)} MB`].join(" · ");
    this.showSliders = buildPanel(this.rig.shapeNames, (values) => this.setShapes(values), (turn) => this.setHead(turn));
    steer(this.canvas, this.camera, () => {
      this.automatic = false;
      this.dirty.picture = true;
    });
    const press = (id, act) => byId(id).addEventListener("click", act);
    press("neutral", () => this.neutral());
    press("view", () => this.setCamera("front"));
    press("theme", () => {
      const root = document.documentElement.dataset;
      root.theme = root.theme === "dark" ? "light" : "dark";
      this.dirty.picture = true;
    });
    press("fold", () => {
      const folded = document.body.classList.toggle("folded");
      byId("fold").setAttribute("aria-expanded", String(!folded));
    });
    press("save", async () => download(await this.image(), `${document.title}.png`));
    press("play", () => this.toggle());
    press("mute", () => this.mute());
    byId("seek").addEventListener("input", (event) => this.setFrame(Number(event.target.value)));
    addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const act = { " ": () => this.toggle(), n: () => this.neutral(), m: () => this.mute() }[event.key];
      if (!act || (event.key === " " && event.target.tagName === "BUTTON")) return;
      event.preventDefault();
      act();
    });
    byId("transport").hidden = !this.motion.frames;
    byId("mute").hidden = !this.player.sound;
    byId("seek").max = Math.max(0, this.motion.frames - 1);
    this.showTransport();
    this.show(0);
  }

  toggle() {
    if (this.player.playing) this.pause();
    else this.play();
  }

  mute() {
    const { sound } = this.player;
    if (!sound) return;
    sound.muted = !sound.muted;
    byId("mute").textContent = sound.muted ? "Silent" : "Sound";
  }

  show(now) {
    this.shown = now;
    this.showSliders(this.pose.expression, this.turn);
    const seek = byId("seek");
    seek.value = this.player.frame;
    seek.style.setProperty("--fill", `${((100 * this.player.frame) / Math.max(1, this.motion.frames - 1)).toFixed(1)}%`);
    byId("clock").textContent = `${clock(this.player.time)} / ${clock(this.motion.duration)}`;
  }

  showTransport() {
    byId("play").textContent = this.player.playing ? "Pause" : "Play";
  }
}

function readOptions(text) {
  const given = new URLSearchParams(text);
  const named = { white: [255, 255, 255], black: [0, 0, 0] };
  const background = (given.get("background") || "").replace(/^#/, "");
  const hex = /^[0-9a-f]{6}$/i.test(background) ? [0, 2, 4].map((i) => parseInt(background.slice(i, i + 2), 16)) : null;
  return {
    camera: given.get("camera") === "orbit" ? "orbit" : "front",
    frame: Math.max(0, Math.trunc(Number(given.get("frame")) || 0)),
    ui: given.get("ui") !== "0",
    background: named[background] || hex,
  };
}

function soundOf(block) {
  if (!block.has("sound")) return null;
  return new Audio(URL.createObjectURL(new Blob([block.stored("sound")], { type: block.facts.sound })));
}

function download(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const clock = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;

const page = new Page();
const ready = page.open();
ready.catch((error) => {
  byId("message").textContent = error.message;
  document.body.classList.add("bare");
});

window.avatar3d = {
  /** Resolves when the first picture is drawn; rejects with the reason where it cannot be. */
  ready,
  get shapeNames() { return [...page.rig.shapeNames]; },
  get frames() { return page.motion.frames; },
  get frame() { return page.player.frame; },
  /** Coefficients by name. */
  get shapes() { return Object.fromEntries(page.rig.shapeNames.map((name, i) => [name, page.pose.expression[i]])); },
  /** {duration, time} in seconds, paused, muted; null without sound. */
  get sound() {
    const { sound } = page.player;
    return sound && { duration: sound.duration, time: sound.currentTime, paused: sound.paused, muted: sound.muted };
  },
  get head() { return { ...page.turn }; },
  /** {name: coefficient}; pauses the motion. */
  setShapes: (values) => page.setShapes(values),
  /** {yaw, pitch, roll} in degrees, on top of the motion. */
  setHead: (turn) => page.setHead(turn),
  /** A frame of the motion, from 0. */
  setFrame: (frame) => page.setFrame(frame),
  /** "front", "orbit", or any of {yaw, pitch (radians), distance (metres), target}. */
  setCamera: (where) => page.setCamera(where),
  play: () => page.play(),
  pause: () => page.pause(),
  neutral: () => page.neutral(),
  /** Draws now. */
  draw: () => page.draw(),
  /** The picture as a PNG blob. */
  image: () => page.image(),
  /** Measures: pictures per second as they are drawn while it plays, one after the other. */
  fps: (seconds) => page.fps(seconds),
  get info() { return page.info; },
  /** Posed vertices [v, 3], world space, metres. */
  get vertices() { return Float32Array.from({ length: 3 * page.rig.count }, (_, i) => page.rig.vertices[i + Math.floor(i / 3)]); },
};
