// The page's sliders and buttons. They know the player only by the functions that they are given.

const GROUPS = [
  ["Eyes", /^eye/], ["Brows", /^brow/], ["Jaw", /^jaw/], ["Mouth", /^mouth/], ["Cheeks and nose", /^(cheek|nose)/],
  ["Tongue", /^tongue/], ["More", /./],
];
const SIDE = /(Left|Right)$/;
const DIRECTION = /^(jaw|mouth)(Left|Right)$/; // not a side
const UNLINKED = /^eyeLook(In|Out)/; // together they would cross the eyes
const TURNS = [["yaw", "Turn", 60], ["pitch", "Nod", 45], ["roll", "Tilt", 45]];
const GAZE = [["across", "Across", 1], ["up", "Up", 1]];
// Looking to the subject's left, and up, by the coefficients that do it.
const LOOKS = {
  across: [["eyeLookOutLeft", "eyeLookInRight"], ["eyeLookInLeft", "eyeLookOutRight"]],
  up: [["eyeLookUpLeft", "eyeLookUpRight"], ["eyeLookDownLeft", "eyeLookDownRight"]],
};

export const byId = (id) => document.getElementById(id);

/**
 * Builds the sliders.
 * @param names of the shapes
 * @param change called with {name: coefficient}
 * @param turn called with {yaw, pitch, roll} in degrees
 * @returns show(expression, turn): puts the sliders where they should be
 */
export function buildPanel(names, change, turn) {
  const sliders = new Map();
  const home = byId("groups");
  const linked = byId("linked");

  const head = group(home, "Head", true);
  const turned = TURNS.map(([what, label, most]) =>
    signed(head, label, most, "°", 1, (value) => turn({ [what]: value })),
  );
  const gaze = group(home, "Gaze", true);
  const looks = GAZE.map(([what, label, most]) =>
    signed(gaze, label, most, "", 0.01, (value) => {
      const [positive, negative] = LOOKS[what];
      const all = {};
      for (const name of positive) all[name] = Math.max(value, 0);
      for (const name of negative) all[name] = Math.max(-value, 0);
      change(all);
    }),
  );

  const left = new Set(names);
  for (const [title, pattern] of GROUPS) {
    const members = names.filter((name) => left.has(name) && pattern.test(name));
    if (!members.length) continue;
    members.forEach((name) => left.delete(name));
    const box = group(home, title, title === "Eyes" || title === "Jaw", members.some((name) => stemOf(name) !== name));
    for (const name of members) {
      const stem = stemOf(name);
      const pair = [`${stem}Right`, `${stem}Left`]; // as they stand in the picture
      const paired = stem !== name && pair.every((one) => members.includes(one));
      if (paired && name !== pair[1]) continue;
      const line = row(box, label(stem), paired ? "" : "one");
      for (const one of paired ? pair : [name]) {
        const input = slider(line, 0, 1, 0.01, one);
        sliders.set(one, input);
        input.addEventListener("input", () => {
          const all = { [one]: Number(input.value) };
          if (paired && linked.checked && !UNLINKED.test(stem)) for (const other of pair) all[other] = Number(input.value);
          change(all);
        });
        input.addEventListener("dblclick", () => change({ [one]: 0 }));
      }
    }
  }

  return function show(expression, pose) {
    const value = Object.fromEntries(names.map((name, i) => [name, expression[i]]));
    for (const [name, input] of sliders) put(input, value[name]);
    TURNS.forEach(([what], i) => turned[i](pose[what]));
    GAZE.forEach(([what], i) => {
      const mean = (some) => some.reduce((sum, name) => sum + (value[name] || 0), 0) / some.length;
      const [positive, negative] = LOOKS[what];
      looks[i](mean(positive) - mean(negative));
    });
  };
}

const stemOf = (name) => (DIRECTION.test(name) ? name : name.replace(SIDE, ""));

function group(home, title, open, sided = false) {
  const box = document.createElement("details");
  box.open = open && (innerWidth > 760 || title === "Head");
  const summary = document.createElement("summary");
  summary.append(title);
  if (sided) {
    const sides = document.createElement("span");
    sides.className = "sides";
    for (const text of ["right", "left"]) sides.append(Object.assign(document.createElement("span"), { textContent: text }));
    summary.append(sides);
  }
  box.append(summary);
  home.append(box);
  return box;
}

function row(box, text, kind) {
  const line = document.createElement("div");
  line.className = `shape ${kind}`;
  line.append(Object.assign(document.createElement("span"), { textContent: text, title: text }));
  box.append(line);
  return line;
}

function slider(line, low, high, step, name) {
  const input = Object.assign(document.createElement("input"), { type: "range", min: low, max: high, step, value: 0 });
  input.setAttribute("aria-label", name);
  input.title = name;
  line.append(input);
  return input;
}

/** A slider around zero with its value beside it. */
function signed(box, text, most, unit, step, changed) {
  const line = row(box, text, "turn");
  const input = slider(line, -most, most, step, text);
  const value = Object.assign(document.createElement("span"), { className: "value" });
  line.append(value);
  const show = (x) => {
    put(input, x);
    value.textContent = `${x.toFixed(step < 1 ? 2 : 0)}${unit}`;
  };
  input.addEventListener("input", () => changed(Number(input.value)));
  input.addEventListener("dblclick", () => changed(0));
  return show;
}

function put(input, value) {
  if (document.activeElement !== input || Number(input.value) !== value) input.value = value;
  const [low, high] = [Number(input.min), Number(input.max)];
  const at = (x) => (100 * Math.min(Math.max((x - low) / (high - low), 0), 1)).toFixed(1);
  const [from, to] = [at(Math.min(0, value)), at(Math.max(0, value))];
  input.style.setProperty("--from", `${from}%`);
  input.style.setProperty("--fill", `${to}%`);
}

/** "mouthLowerDown" -> "Lower down"; names of one word stay. */
function label(stem) {
  const words = stem.replace(/([A-Z])/g, " $1").trim().split(" ");
  const rest = words.length > 1 ? words.slice(1) : words;
  const text = rest.join(" ").toLowerCase();
  return text[0].toUpperCase() + text.slice(1);
}
