// The motion that the page carries, read at any time between its frames.

export class Motion {
  constructor(block) {
    const facts = block.facts.motion;
    this.frames = facts ? facts.frames : 0;
    this.fps = facts ? facts.fps : 30;
    this.joints = facts ? facts.joints : [];
    this.source = facts ? facts.source : "";
    this.centre = facts ? facts.centre : [0, 0, 0];
    if (!this.frames) return;
    this.expression = block.numbers("motion_expression");
    this.quats = block.has("motion_quats") ? block.numbers("motion_quats") : null;
    this.translation = block.has("motion_translation") ? block.numbers("motion_translation") : null;
  }

  get duration() {
    return this.frames / this.fps;
  }

  /** Coefficients, joint rotations by name, and translation at a frame, which need not be a whole number. */
  at(frame) {
    const whole = Math.min(Math.max(Math.floor(frame), 0), this.frames - 1);
    const next = Math.min(whole + 1, this.frames - 1);
    const share = Math.min(Math.max(frame - whole, 0), 1);
    const mix = (values, width) => {
      const out = new Float32Array(width);
      for (let i = 0; i < width; i++)
        out[i] = (1 - share) * values[whole * width + i] + share * values[next * width + i];
      return out;
    };
    const quats = {};
    const all = this.quats ? mix(this.quats, 4 * this.joints.length) : [];
    this.joints.forEach((name, j) => {
      const q = all.subarray(4 * j, 4 * j + 4); // neighbouring frames have the same sign
      const length = Math.hypot(...q);
      quats[name] = [...q].map((x) => x / length);
    });
    return {
      expression: mix(this.expression, this.expression.length / this.frames),
      quats,
      translation: this.translation ? mix(this.translation, 3) : [0, 0, 0],
    };
  }
}

/** Plays a motion by the clock, or by its sound where there is one. */
export class Player {
  constructor(motion, sound) {
    this.motion = motion;
    this.sound = sound;
    this.playing = false;
    this.time = 0;
    this.last = 0;
  }

  get frame() {
    return Math.min(this.time * this.motion.fps, this.motion.frames - 1);
  }

  play() {
    if (!this.motion.frames) return;
    if (this.time >= this.motion.duration - 1e-6) this.time = 0;
    this.playing = true;
    this.last = performance.now();
    this.startSound();
  }

  pause() {
    this.playing = false;
    if (this.sound) this.sound.pause();
  }

  seek(time) {
    this.time = Math.min(Math.max(time, 0), this.motion.duration);
    if (this.playing) this.startSound();
  }

  startSound() {
    if (!this.sound || this.time >= (this.sound.duration || Infinity)) return;
    this.sound.currentTime = this.time;
    this.sound.play().catch(() => {}); // a browser that wants a touch first: the picture plays without sound
  }

  /** Moves on to the time of this picture. */
  tick(now) {
    if (!this.playing) return;
    this.time += (now - this.last) / 1000;
    this.last = now;
    const sound = this.sound;
    if (sound && !sound.paused && !sound.ended && Math.abs(sound.currentTime - this.time) > 0.06)
      this.time = sound.currentTime;
    if (this.time >= this.motion.duration) {
      this.time %= this.motion.duration;
      this.startSound();
    }
  }
}
