// Keeps movement smooth where drawing is slow: fewer pixels while something moves, all of them when it rests.

const SCALES = [1, 0.75, 0.55, 0.4];
const SLOW = 45; // milliseconds between pictures
const FAST = 21;
const PAUSE = 250;

export class Pace {
  constructor() {
    this.level = 0;
    this.mean = 30;
    this.last = 0;
    this.since = 0;
  }

  /** Share of the pixels' density that the picture at this time should have; `moving` when it differs from the last. */
  scale(now, moving) {
    if (!moving) return now - this.last > PAUSE ? 1 : SCALES[this.level];
    const between = now - this.last;
    this.last = now;
    if (between > PAUSE) return SCALES[this.level]; // a first picture after a rest
    this.mean += 0.2 * (between - this.mean);
    if (now - this.since > 400 && this.mean > SLOW && this.level < SCALES.length - 1) this.change(now, 1);
    else if (now - this.since > 3000 && this.mean < FAST && this.level > 0) this.change(now, -1);
    return SCALES[this.level];
  }

  change(now, by) {
    this.level += by;
    this.since = now;
    this.mean = (SLOW + FAST) / 2;
  }
}
