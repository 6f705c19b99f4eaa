// lossbook: the playground. The formulas come from the page, generated from the losses; here are the
// number formats, the operations as PyTorch rounds them, and what is drawn.
(() => {
  "use strict";

  // -- number formats -------------------------------------------------------------------------------

  const single = new Float32Array(1), bits = new Uint32Array(single.buffer);
  const sign = v => (v < 0 || Object.is(v, -0) ? -1 : 1);
  const nearestEven = v => v + 6755399441055744 - 6755399441055744; // 1.5 * 2^52: no bit after the point is left

  // To bfloat16 by the upper half of the float32: add half of the last kept bit, ties to even.
  const toBfloat16 = v => {
    single[0] = v;
    if (v !== v) return NaN;
    bits[0] = (bits[0] + 0x7fff + ((bits[0] >>> 16) & 1)) & 0xffff0000;
    return single[0];
  };
  // To float16 by its grid: 2^-24 below the normal numbers, else 2^(e-10).
  const toFloat16 = v => {
    const a = Math.abs(v = Math.fround(v));
    if (!(a < 65520)) return v !== v ? NaN : sign(v) * Infinity;
    single[0] = a;
    const grid = 2 ** (Math.max((bits[0] >>> 23) - 127, -14) - 10);
    return sign(v) * nearestEven(a / grid) * grid;
  };
  const formats = {
    float32: {p: 24, emin: -126, emax: 127, round: Math.fround},
    bfloat16: {p: 8, emin: -126, emax: 127, round: toBfloat16},
    float16: {p: 11, emin: -14, emax: 15, round: toFloat16},
  };

  const ulp = (value, f) => {
    const a = Math.min(Math.abs(value), (2 - 2 ** (1 - f.p)) * 2 ** f.emax);
    let e = a ? Math.floor(Math.log2(a)) : f.emin;
    if (2 ** e > a) e--; else if (2 ** (e + 1) <= a) e++;
    return 2 ** (Math.max(e, f.emin) - f.p + 1);
  };
  // The error of a computed value in ulp of the exact one, or of `scale`.
  const error = (got, exact, f, scale = exact) => {
    const largest = (2 - 2 ** (1 - f.p)) * 2 ** f.emax;
    if (Math.abs(exact) >= largest + ulp(largest, f) / 2) return got === Math.sign(exact) * Infinity ? 0 : Infinity;
    const e = Math.abs(got - exact) / ulp(scale, f);
    return e === e ? e : Infinity;
  };

  // -- the operations of one format, with PyTorch's derivatives ------------------------------------

  // A tensor is a node of a tape, a plain number is a Python float. Each operation is computed in
  // float64 from rounded numbers, rounded to float32 and then to the format, as PyTorch's kernels do.
  // PyTorch's exp is not always the nearest float32. `nudge(name, v, i)` may move the i-th result of a function
  // that is not exact, to find out how far that matters.
  const arithmetic = (format, nudge) => {
    const f32 = Math.fround, R = v => format.round(f32(v));
    let tape = [], calls = 0;
    const T = nudge ? (name, v) => nudge(name, f32(v), calls++) : (name, v) => f32(v);
    const node = (v, parents, pull) => {
      const n = {v, g: undefined, needs: parents.some(p => p.needs), parents, pull};
      tape.push(n);
      return n;
    };
    const plain = a => typeof a === "number";
    const of = a => (plain(a) ? f32(a) : a.v);
    const binary = (number, tensor) => (a, b) => (plain(a) && plain(b) ? number(a, b) : tensor(a, b));
    const tensors = (...list) => list.filter(a => !plain(a));
    const exp = v => T("exp", Math.exp(v));
    const softTail = x => T("log1p", Math.log1p(exp(-Math.abs(x))));
    const logistic = x => T("sigmoid", 1 / f32(1 + f32(Math.exp(-x))));
    const logOfLogistic = x => T("logsigmoid", f32(Math.min(x, 0) - f32(Math.log1p(f32(Math.exp(-Math.abs(x)))))));
    // Some powers have kernels of their own; in bfloat16 those round after each step.
    const S = format === formats.bfloat16 ? R : f32;
    const power = (a, n) => (n === 2 ? f32(a * a) : n === 3 ? f32(S(a * a) * a) : n === -2 ? f32(1 / S(a * a))
      : n === -0.5 ? T("rsqrt", 1 / Math.sqrt(a)) : n === -1 ? f32(1 / a) : n === 0.5 ? T("sqrt", Math.sqrt(a)) : n === 0 ? 1 : n === 1 ? a : T("pow", Math.pow(a, f32(n))));
    const rows = (a, b) => { // exponentials of two scores less the larger one, and their sum
      const top = Math.max(a, b), first = exp(f32(a - top));
      return {top, first, sum: f32(first + exp(f32(b - top)))};
    };
    const o = {
      tensor: (v, needs = false) => Object.assign(node(R(v), [], null), {needs}),
      add: binary((a, b) => a + b, (a, b) => node(R(of(a) + of(b)), tensors(a, b), g => tensors(a, b).map(() => g))),
      sub: binary((a, b) => a - b, (a, b) => node(R(of(a) - of(b)), tensors(a, b),
        g => (plain(a) ? [-g] : plain(b) ? [g] : [g, -g]))),
      mul: binary((a, b) => a * b, (a, b) => node(R(of(a) * of(b)), tensors(a, b),
        g => (plain(a) ? [R(g * of(a))] : plain(b) ? [R(g * of(b))] : [R(g * b.v), R(g * a.v)]))),
      div: binary((a, b) => a / b, (a, b) => {
        if (plain(a)) { // Python's number / tensor is a reciprocal times the number
          const r = R(1 / b.v), one = node(r, [b], g => [R(-g * R(r * r))]);
          return a === 1 ? one : o.mul(one, a);
        }
        const q = R(a.v / of(b));
        return node(q, tensors(a, b), g => (plain(b) ? [R(g / of(b))] : [R(g / b.v), R(-g * R(q / b.v))]));
      }),
      neg: a => (plain(a) ? -a : node(-a.v, [a], g => [-g])),
      pow: binary(Math.pow, (a, n) => node(R(power(a.v, n)), [a],
        g => [n === 0 ? 0 : R(g * R(n * R(power(a.v, n - 1))))])),
      exp: a => { const r = R(exp(a.v)); return node(r, [a], g => [R(g * r)]); },
      log: a => node(R(T("log", Math.log(a.v))), [a], g => [R(g / a.v)]),
      clamp: (a, low, high) => {
        const l = R(low), h = R(high);
        return node(a.v !== a.v ? NaN : Math.min(Math.max(a.v, l), h), [a], g => [a.v >= l && a.v <= h ? g : 0]);
      },
      sigmoid: a => {
        const r = R(logistic(a.v)), Q = format === formats.float16 ? R : f32; // float16 rounds after each step
        return node(r, [a], g => [R(Q(g * Q(1 - r)) * r)]);
      },
      softmax: (a, b) => { // the share of the first of two
        const {first, sum} = rows(a.v, b.v), r = R(T("softmax", first / sum));
        return node(r, [a, b], g => { const whole = f32(g * r); return [R(f32(g - whole) * r), NaN]; });
      },
      log_softmax: (a, b) => {
        // The sum and its logarithm are kept in the format; the backward pass has one fused multiply-add.
        const {top, sum} = rows(a.v, b.v), r = R(f32(f32(a.v - top) - R(T("log", Math.log(R(sum))))));
        return node(r, [a, b], g => [R(g - exp(r) * g), NaN]);
      },
      binary_cross_entropy_with_logits: (x, y) => node(R(R(R(1 - y.v) * x.v) - R(logOfLogistic(x.v))), [x, y],
        g => [R(R(R(logistic(x.v)) - y.v) * g), NaN]),
      softplus: a => { // linear above 20
        const z = exp(a.v);
        return node(a.v > 20 ? a.v : R(T("log1p", Math.log1p(z))), [a], g => [a.v > 20 ? g : R(f32(f32(g * z) / f32(z + 1)))]);
      },
      // The book's own two functions; their derivatives are formulas of their own and need no tape.
      book_softplus: a => node(R(f32(Math.max(a.v, 0) + softTail(a.v))), [], null),
      book_sigmoid: a => { const e = exp(-Math.abs(a.v)); return node(R(f32((a.v < 0 ? e : 1) / f32(1 + e))), [], null); },
    };
    // The derivative of the last node in the first tensor, by the tape backwards.
    o.backward = (out, input) => {
      out.g = 1;
      for (let i = tape.length - 1; i >= 0; i--) {
        const n = tape[i];
        if (n.g === undefined || !n.pull || !n.needs) continue;
        n.pull(n.g).forEach((g, k) => { const p = n.parents[k]; if (p.needs) p.g = p.g === undefined ? g : R(p.g + g); });
      }
      return input.g ?? 0;
    };
    o.round = R;
    o.calls = () => calls;
    return o;
  };

  // -- losses ----------------------------------------------------------------------------------------

  const exactly = {
    softplus: u => (u > 0 ? u + Math.log1p(Math.exp(-u)) : Math.log1p(Math.exp(u))),
    sigmoid: u => { const e = Math.exp(-Math.abs(u)); return (u < 0 ? e : 1) / (1 + e); },
  };
  const NUMBERS = ["gamma", "alpha", "m"]; // what a caller of PyTorch writes as Python numbers
  const isNumber = (loss, i) => i >= loss.inputs.length || NUMBERS.includes(loss.inputs[i]); // beyond: epsilon

  // Loss and derivative as a form gives them in a format; the arguments in the order of the loss, then epsilon.
  const run = (loss, form, format, args, nudge) => {
    const machine = arithmetic(form.gradient ? formats.float32 : format, nudge), R = v => format.round(Math.fround(v));
    const inputs = () => args.map((a, i) => (isNumber(loss, i) ? a : machine.tensor(R(a), i === 0)));
    const first = inputs(), value = form.value(machine, ...first);
    const found = form.gradient ? [R(value.v), R(form.gradient(machine, ...inputs()).v)] : [value.v, machine.backward(value, first[0])];
    return Object.assign(found, {calls: machine.calls()});
  };
  // What the same arguments are after rounding: the exact value belongs to these.
  const rounded = (loss, format, args) => args.map((a, i) => (isNumber(loss, i) ? Math.fround(a) : format.round(Math.fround(a))));
  // A derivative between two labels is a difference; its error is counted in ulp of the larger part.
  const gradientScale = (loss, args, exact) => {
    const at = loss.inputs.indexOf("y");
    if (at < 0) return exact;
    const part = y => loss.exact(exactly, ...args.map((a, i) => (i === at ? y : a)))[1];
    return Math.max(Math.abs(args[at] * part(1)), Math.abs((1 - args[at]) * part(0)));
  };
  const compare = (loss, form, format, args) => {
    const at = rounded(loss, format, args), exact = loss.exact(exactly, ...at), got = run(loss, form, format, args);
    return {at, exact, got, errors: [error(got[0], exact[0], format), error(got[1], exact[1], format, gradientScale(loss, at, exact[1]))]};
  };

  window.lossbookPlay = {formats, arithmetic, ulp, error, exactly, run, rounded, compare};

  // -- the page ----------------------------------------------------------------------------------------

  const root = document.getElementById("lb-playground"), page = window.lossbookPlayground;
  if (!root || !page) return;
  const losses = Object.fromEntries(page.losses.map(l => [l.key, l]));
  const GREEK = {gamma: "γ", alpha: "α"};
  const SHOWN = {value: "loss", gradient: "gradient", curvature: "curvature"};
  const REACH = {15: 0.25, 40: 0.5, 120: 1}; // half the width of the axis: the step of the slider
  const START = {loss: "focal", form: "textbook", type: "float32", show: "gradient", clamp: "4", reach: "40", x: -12, y: 1, gamma: 2, alpha: 0.25, m: 0.25, level: 0, easy: 2};
  const state = {...START};
  const loss = () => losses[state.loss];
  const form = () => loss().forms.find(f => f.key === state.form);
  const format = () => formats[state.type];
  const ofLogit = l => l.inputs[0] === "x";
  const axis = l => (ofLogit(l) ? "logit x" : "gap s₁ − s₂");
  const RANGES = {
    x: () => ({name: axis(loss()), min: -state.reach, max: +state.reach, step: REACH[state.reach]}),
    y: () => ({name: "target y", min: 0, max: 1, step: 0.05}),
    gamma: () => (state.loss === "pair" ? {name: "γ", min: 1, max: 32, step: 0.5} : {name: "γ", min: 0, max: 6, step: 0.25}),
    alpha: () => ({name: "α", min: 0, max: 1, step: 0.05}),
    m: () => ({name: "m", min: 0, max: 1, step: 0.05}),
    level: () => ({name: "score s₂", note: "s₁ is the gap above it", min: 0, max: 100, step: 1}),
    easy: () => ({name: ofLogit(loss()) ? "share of easy negatives" : "share of easy examples", min: 0, max: 4, step: 0.25}),
  };
  const used = l => Object.keys(RANGES).filter(k => k === "x" || k === "easy" || (k === "level" ? !ofLogit(l) : l.inputs.includes(k)));
  const share = () => 1 - 10 ** -state.easy;
  // The arguments of a loss at a logit or gap: the state, in the order of the loss.
  const argumentsAt = (l, x, y = state.y) => [...l.inputs.map(n => (n === "x" ? x : n === "s_1" ? x + state.level : n === "s_2" ? state.level : n === "y" ? y : state[n])), 10 ** -state.clamp];

  // Words and numbers
  const trim = s => s.replace(/(\.\d*?)0+(?=e|$)/, "$1").replace(/\.(?=e|$)/, "");
  const number = v => (v !== v ? "NaN" : v === Infinity ? "∞" : v === -Infinity ? "−∞" : v === 0 ? "0"
    : (Math.abs(v) >= 0.001 && Math.abs(v) < 1e6 ? trim(v.toPrecision(6)) : trim(v.toExponential(3)).replace(/e([+-])(\d+)/, (_, s, d) => `·10${s === "-" ? "⁻" : ""}${superscript(d)}`)).replace("-", "−"));
  const superscript = d => String(d).replace(/\d/g, c => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]);
  const percent = v => (v > 0 && v < 0.0005 ? "less than 0.1 %" : `${trim((100 * v).toFixed(v > 0.9995 && v < 1 ? 2 : 1))} %`);
  const verdict = (e, got, exact) => (got !== got ? "NaN" : !Number.isFinite(got) && Number.isFinite(exact) ? "infinite" : e >= 2 ** (format().p - 1) ? "no digit right"
    : e <= 0.5 ? "≤ ½\u00a0ulp" : `${e < 9.95 ? trim(e.toFixed(1)) : number(+e.toPrecision(2))} ulp`);

  // Elements
  const h = (tag, attributes = {}, ...children) => {
    const e = document.createElement(tag);
    for (const [k, v] of Object.entries(attributes)) k.startsWith("on") ? e.addEventListener(k.slice(2), v) : e.setAttribute(k, v);
    e.append(...children);
    return e;
  };
  const choice = (key, label, options) => {
    const select = h("select", {id: `lb-play-${key}`, onchange: () => change({[key]: select.value})}, ...options.map(([v, t]) => h("option", {value: v}, t)));
    return h("div", {class: "lb-play-choice", "data-key": key}, h("label", {for: `lb-play-${key}`}, label), select);
  };
  const slider = key => {
    const input = h("input", {type: "range", id: `lb-play-${key}`, oninput: () => change({[key]: +input.value})});
    return h("div", {class: "lb-play-slider", "data-key": key}, h("label", {for: `lb-play-${key}`}), h("output", {for: `lb-play-${key}`}), input);
  };
  const panel = (name, drag) => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("role", "img");
    if (drag) {
      const move = e => {
        const box = svg.getBoundingClientRect(), left = MARGIN.left, width = box.width - left - MARGIN.right, {step} = RANGES.x();
        const x = state.reach * (2 * Math.min(1, Math.max(0, (e.clientX - box.left - left) / width)) - 1);
        change({x: Math.round(x / step) * step});
      };
      svg.addEventListener("pointerdown", e => { if (e.button === 0) { move(e); svg.setPointerCapture(e.pointerId); } });
      svg.addEventListener("pointermove", e => { if (svg.hasPointerCapture(e.pointerId)) move(e); });
    }
    return h("figure", {class: `lb-play-panel lb-play-${name}`}, h("figcaption"), h("p", {class: "lb-play-legend"}), svg, ...(name === "carry" ? [h("p", {class: "lb-play-said"})] : []));
  };

  const MARGIN = {left: 46, right: 12, top: 16, bottom: 34}, HEIGHT = {curve: 210, error: 190, carry: 180};
  const said = h("p", {class: "lb-play-said", role: "status", "aria-live": "polite"});
  const rows = Object.entries(SHOWN).map(([k, t]) => h("tr", {"data-row": k}, h("th", {scope: "row"}, t), h("td"), h("td"), h("td")));
  const table = h("table", {class: "lb-play-numbers"}, h("thead", {}, h("tr", {}, h("td"), h("th", {scope: "col"}, "exact"), h("th", {scope: "col"}), h("th", {scope: "col"}, "error"))), h("tbody", {}, ...rows));
  const curve = panel("curve", true), wrong = panel("error", true), carry = panel("carry", false);
  const radios = h("fieldset", {class: "lb-play-show"}, h("legend", {}, "Draw the"), ...Object.entries(SHOWN).map(([k, t]) =>
    h("label", {}, h("input", {type: "radio", name: "lb-play-show", value: k, onchange: () => change({show: k})}), t)));
  const story = h("p", {class: "lb-play-story", role: "status", "aria-live": "polite"});
  const presets = h("div", {class: "lb-play-presets", role: "group", "aria-label": "Examples"}, ...page.presets.map((p, i) =>
    h("button", {type: "button", "aria-pressed": "false", onclick: () => change({...START, ...read(p.view)}, i)}, p.name)));
  const reset = h("button", {type: "button", class: "lb-play-reset", onclick: () => change({...START})}, "Reset");
  root.replaceChildren(
    h("div", {class: "lb-play-bar"}, presets, reset), story,
    h("div", {class: "lb-play-choices"},
      choice("loss", "Loss", page.losses.map(l => [l.key, l.title])), choice("form", "Computed as", []),
      choice("type", "Format", Object.keys(formats).map(k => [k, k])),
      choice("reach", "Axis", Object.keys(REACH).map(k => [k, `−${k} to ${k}`]))),
    h("div", {class: "lb-play-body"},
      h("div", {class: "lb-play-inputs"}, radios,
        h("div", {class: "lb-play-sliders"}, choice("clamp", "Clamp ε", [["4", "10⁻⁴"], ["7", "10⁻⁷"]]), ...Object.keys(RANGES).filter(k => k !== "easy").map(slider)),
        h("div", {class: "lb-play-told"}, table, said)),
      h("div", {class: "lb-play-panels"}, curve, wrong)),
    h("div", {class: "lb-play-mix"}, slider("easy"), carry),
  );
  root.classList.add("lb-play-on");

  // The view in the address: #play-loss_focal-x_m12p5, which is also a valid selector for the site's scripts.
  const write = v => (typeof v === "number" ? String(v).replace("-", "m").replace(".", "p") : v);
  const view = () => {
    const keys = ["loss", "form", ...(state.form === "clamp" ? ["clamp"] : []), "type", "show", "reach", ...used(loss())];
    return "play-" + keys.map(k => `${k}_${write(state[k])}`).join("-");
  };
  const home = view();
  const read = text => {
    const found = {};
    for (const part of text.replace(/^#?play-/, "").split("-")) {
      const [, key, value] = /^([a-z]+)_(\w+)$/.exec(part) || [];
      if (Object.hasOwn(RANGES, key)) { const v = parseFloat(value.replace("m", "-").replace("p", ".")); if (Number.isFinite(v)) found[key] = v; }
      else if (Object.hasOwn(START, key)) found[key] = value;
    }
    return found;
  };
  const valid = s => {
    if (!Object.hasOwn(losses, s.loss)) s.loss = START.loss;
    if (!losses[s.loss].forms.some(f => f.key === s.form)) s.form = "textbook";
    for (const [key, known] of [["type", formats], ["show", SHOWN], ["reach", REACH], ["clamp", {4: 1, 7: 1}]]) if (!Object.hasOwn(known, s[key])) s[key] = START[key];
  };

  let waiting = 0, frame = 0, silence = 0, started = false;
  const change = (changes, preset = -1) => {
    Object.assign(state, changes);
    valid(state);
    root.querySelectorAll(".lb-play-presets button").forEach((b, i) => b.setAttribute("aria-pressed", i === preset));
    story.textContent = preset < 0 ? "Choose an example, or move anything." : page.presets[preset].sentence;
    controls();
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(draw);
    clearTimeout(waiting);
    if (started) waiting = setTimeout(() => history.replaceState(null, "", view() === home ? location.pathname + location.search : `#${view()}`), 250);
  };

  const controls = () => {
    const l = loss(), keys = used(l);
    const select = root.querySelector("#lb-play-form");
    select.replaceChildren(...l.forms.map(f => h("option", {value: f.key}, f.title)));
    for (const key of ["loss", "form", "clamp", "type", "reach"]) root.querySelector(`#lb-play-${key}`).value = state[key];
    root.querySelector("[data-key=clamp]").hidden = state.form !== "clamp";
    for (const radio of radios.querySelectorAll("input")) radio.checked = radio.value === state.show;
    for (const [key, range] of Object.entries(RANGES)) {
      const box = root.querySelector(`.lb-play-slider[data-key=${key}]`), input = box.querySelector("input"), r = range();
      box.hidden = !keys.includes(key);
      Object.assign(input, {min: r.min, max: r.max, step: r.step});
      input.value = state[key];
      if (keys.includes(key)) state[key] = +input.value; // the slider knows its range and its steps
      const meaning = r.note ?? l.meanings[key];
      box.querySelector("label").replaceChildren(r.name, ...(meaning && key !== "y" ? [h("small", {}, ` ${meaning}`)] : []));
      const words = key === "easy" ? percent(share()) : number(state[key]);
      box.querySelector("output").textContent = words;
      input.setAttribute("aria-valuetext", words); // the share moves by powers of ten
    }
  };

  // -- drawing -----------------------------------------------------------------------------------------

  const round2 = v => v.toFixed(2);
  const steps = (low, high, wanted) => {
    const raw = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 5, 10].find(s => s * power >= raw) * power;
    return Array.from({length: Math.floor(high / step) - Math.ceil(low / step) + 1}, (_, i) => (Math.ceil(low / step) + i) * step);
  };
  const plainNumber = v => (Math.abs(v) < 1e-12 ? "0" : number(+v.toPrecision(6)));
  // A frame with axes; the lines are drawn into it by functions of the two scales.
  const chart = (figure, {height, xs, ys, log, label, ticks, words}) => {
    const svg = figure.querySelector(":scope > svg"), width = Math.max(240, Math.floor(figure.clientWidth)), m = MARGIN;
    const X = v => m.left + ((v - xs[0]) / (xs[1] - xs[0])) * (width - m.left - m.right);
    const to = log ? Math.log10 : v => v, [low, high] = ys.map(to);
    const Y = v => height - m.bottom - ((to(v) - low) / (high - low)) * (height - m.top - m.bottom);
    const parts = [];
    for (const v of ticks ?? steps(...ys, 4)) parts.push(`<line class="grid" x1="${m.left}" x2="${width - m.right}" y1="${round2(Y(v))}" y2="${round2(Y(v))}"/><text x="${m.left - 6}" y="${round2(Y(v) + 4)}" text-anchor="end">${log ? `10${superscript(Math.round(Math.log10(v)))}`.replace(/^10⁰$/, "1").replace(/^10¹$/, "10") : plainNumber(v)}</text>`);
    for (const v of steps(...xs, width > 420 ? 8 : 5)) parts.push(`<line class="grid" x1="${round2(X(v))}" x2="${round2(X(v))}" y1="${m.top}" y2="${height - m.bottom}"/><text x="${round2(X(v))}" y="${height - m.bottom + 15}" text-anchor="middle">${plainNumber(v)}</text>`);
    parts.push(`<text x="${(m.left + width - m.right) / 2}" y="${height - 3}" text-anchor="middle">${label}</text>`);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("width", width);
    svg.setAttribute("height", height);
    svg.setAttribute("aria-label", words);
    return {X, Y, parts, width, bottom: height - m.bottom, finish: () => { svg.innerHTML = parts.join(""); }};
  };
  // Where nothing finite was computed: a band above the picture, one for each run of columns.
  const bands = (c, list, wide) => {
    let lost = 0, from = null;
    [...list, {x: Infinity, y: 0}].forEach(({x, y}, i) => {
      if (!Number.isFinite(y)) { lost++; from ??= x; return; }
      if (from !== null) c.parts.push(`<rect class="lost" x="${round2(from - wide / 2)}" width="${round2(list[i - 1].x - from + wide)}" y="3" height="8"/>`);
      from = null;
    });
    return lost;
  };
  const path = (points, name) => {
    let d = "", pen = false;
    for (const [x, y] of points) { if (Number.isFinite(y)) { d += `${pen ? "L" : "M"}${round2(x)} ${round2(y)}`; pen = true; } else pen = false; }
    return `<path class="${name}" d="${d}"/>`;
  };
  const swatch = (name, words) => { const s = h("span", {class: "lb-play-key"}); s.innerHTML = `<svg width="30" height="12" aria-hidden="true">${name.startsWith("bar") ? `<rect class="${name}" x="2" y="1" width="22" height="10"/>` : `<path class="${name}" d="M1 6H27"/>`}</svg>`; s.append(words); return s; };
  const title = (figure, words, ...keys) => { figure.querySelector("figcaption").textContent = words; figure.querySelector(".lb-play-legend").replaceChildren(...keys); };

  const drawCurve = columns => {
    const l = loss(), which = Object.keys(SHOWN).indexOf(state.show), reach = +state.reach, both = which < 2;
    const exact = columns.map(c => c.smooth[which]), got = both ? columns.map(c => c.sample[0].got[which]) : [];
    const all = exact.concat(got.filter(Number.isFinite)), peak = Math.max(...exact.map(Math.abs), 1e-6);
    let [low, high] = [Math.max(Math.min(...all, 0), -1.5 * peak), Math.min(Math.max(...all, 0), 1.5 * peak)];
    const room = 0.08 * (high - low || 1);
    [low, high] = [low - (low < 0 ? room : 0), high + (high > 0 || low === high ? room : 0)];
    const name = SHOWN[state.show], formName = `${form().title}, ${state.type}`;
    const c = chart(curve, {height: HEIGHT.curve, xs: [-reach, reach], ys: [low, high], label: axis(l), words: `The ${name} of ${l.title} over the ${axis(l)}: the exact curve${both ? ` and that of the form “${formName}”` : ""}.`});
    c.parts.push(`<line class="zero" x1="${c.X(-reach)}" x2="${c.X(reach)}" y1="${round2(c.Y(0))}" y2="${round2(c.Y(0))}"/>`);
    c.parts.push(`<line class="here" x1="${round2(c.X(state.x))}" x2="${round2(c.X(state.x))}" y1="${MARGIN.top}" y2="${c.bottom}"/>`);
    c.parts.push(path(columns.map((k, i) => [c.X(k.x), c.Y(exact[i])]), "exact"));
    let lost = 0;
    if (both) {
      c.parts.push(path(columns.map((k, i) => [c.X(k.x), Number.isFinite(got[i]) ? c.Y(Math.min(high, Math.max(low, got[i]))) : NaN]), "computed"));
      lost = bands(c, columns.map((k, i) => ({x: c.X(k.x), y: got[i]})), (c.X(reach) - c.X(-reach)) / columns.length);
    }
    const at = l.exact(exactly, ...argumentsAt(l, state.x))[which];
    c.parts.push(`<circle class="dot" cx="${round2(c.X(state.x))}" cy="${round2(c.Y(Math.min(high, Math.max(low, at))))}" r="4.5"/>`);
    c.finish();
    title(curve, `The ${name}`, swatch("exact", "exact"), ...(both ? [swatch("computed", formName)] : ["drawn exactly only"]), ...(lost ? [swatch("bar lost", "NaN or ∞")] : []));
  };

  const drawErrors = columns => {
    const l = loss(), f = format(), which = state.show === "value" ? 0 : 1, reach = +state.reach, top = 2 ** (f.p + 3), floor = 0.03;
    const name = which ? "gradient" : "loss", own = state.form === "stable";
    const c = chart(wrong, {height: HEIGHT.error, xs: [-reach, reach], ys: [floor, top], log: true, label: axis(l), ticks: (f.p > 20 ? [0, 2, 4, 6, 8] : f.p > 10 ? [0, 1, 2, 3, 4] : [0, 1, 2, 3]).map(e => 10 ** e).filter(v => v < top), words: `Error of the ${name} in ulp over the ${axis(l)}, on a logarithmic axis: the form “${form().title}”${own ? "" : " and the stable form"} in ${state.type}.`});
    c.parts.push(`<line class="here" x1="${round2(c.X(state.x))}" x2="${round2(c.X(state.x))}" y1="${MARGIN.top}" y2="${c.bottom}"/>`);
    const guides = [[0.5, "nearest float", 14], [2 ** f.p, "no digit right", -4]];
    for (const [v] of guides) c.parts.push(`<line class="guide" x1="${MARGIN.left}" x2="${c.width - MARGIN.right}" y1="${round2(c.Y(v))}" y2="${round2(c.Y(v))}"/>`);
    const line = key => columns.map(k => [c.X(k.x), c.Y(Math.min(top, Math.max(floor, ...k[key].map(s => s.errors[which]))))]);
    if (!own) c.parts.push(path(line("stable"), "exact"));
    c.parts.push(path(line("sample"), own ? "exact" : "computed"));
    for (const [v, words, shift] of guides) c.parts.push(`<text class="guide" x="${c.width - MARGIN.right - 2}" y="${round2(c.Y(v) + shift)}" text-anchor="end">${words}</text>`);
    c.finish();
    title(wrong, `Error of the ${name}, in ulp of ${state.type}`, ...(own ? [] : [swatch("computed", form().title)]), swatch("exact", "stable form"));
  };

  const normal = (x, mean, sd) => Math.exp(-0.5 * ((x - mean) / sd) ** 2) / sd;
  const drawCarry = () => {
    const l = loss(), f = format(), logit = ofLogit(l), easy = share(), WIDTH = 0.5, EDGE = 12;
    const groups = logit
      ? [["easy negatives", -5, 1, 0, easy], ["hard negatives", 0, 1, 0, (1 - easy) / 2], ["positives", 0, 2, 1, (1 - easy) / 2]]
      : [["easy examples", 5, 1, 1, easy], ["hard examples", 0, 1.5, 1, 1 - easy]];
    const middles = Array.from({length: 2 * EDGE / WIDTH}, (_, i) => -EDGE + WIDTH * (i + 0.5));
    const easier = l.easier && losses[l.easier], sums = groups.map(() => 0), before = groups.map(() => 0);
    const bins = middles.map(x => {
      const bin = {x, parts: [], got: 0};
      groups.forEach(([, mean, sd, y, weight], i) => {
        const mass = weight * normal(x, mean, sd), args = argumentsAt(l, x, y), slope = Math.abs(l.exact(exactly, ...args)[1]);
        bin.parts.push(mass * slope);
        bin.got += mass ? mass * Math.abs(run(l, form(), f, args)[1]) : 0;
        sums[i] += mass * slope;
        if (easier) before[i] += mass * Math.abs(easier.exact(exactly, ...argumentsAt(easier, x, y))[1]);
      });
      return bin;
    });
    const total = sums.reduce((a, b) => a + b), totalBefore = before.reduce((a, b) => a + b);
    const stack = bins.map(b => b.parts.reduce((a, v) => a + v) / total), got = bins.map(b => b.got / total);
    const high = 1.1 * Math.max(...stack, 1e-9), names = ["easy", "hard", "yes"];
    const c = chart(carry, {height: HEIGHT.carry, xs: [-EDGE, EDGE], ys: [0, 100 * high], label: `${axis(l)} of the examples`, words: `Share of the whole gradient by ${axis(l)}, in percent, stacked by kind of example.`});
    c.parts.unshift('<defs><pattern id="lb-play-hatch" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="hatch-back" width="5" height="5"/><line class="hatch" x1="0" x2="0" y1="0" y2="5"/></pattern><pattern id="lb-play-dots" width="5" height="5" patternUnits="userSpaceOnUse"><rect class="dots-back" width="5" height="5"/><circle class="dots" cx="2.5" cy="2.5" r="1.2"/></pattern></defs>');
    const wide = c.X(WIDTH) - c.X(0);
    bins.forEach(b => {
      let y = 0;
      b.parts.forEach((v, i) => { const part = (100 * v) / total; if (part > 1e-6) c.parts.push(`<rect class="bar ${names[i]}" x="${round2(c.X(b.x) - wide / 2 + 0.5)}" width="${round2(wide - 1)}" y="${round2(c.Y(y + part))}" height="${round2(c.Y(y) - c.Y(y + part))}"/>`); y += part; });
    });
    const line = [];
    bins.forEach((b, i) => { const y = Number.isFinite(got[i]) ? c.Y(100 * Math.min(high, got[i])) : NaN; line.push([c.X(b.x) - wide / 2, y], [c.X(b.x) + wide / 2, y]); });
    c.parts.push(path(line, "computed"));
    const lost = bands(c, bins.map((b, i) => ({x: c.X(b.x), y: got[i]})), wide);
    c.finish();
    title(carry, "Which examples carry the gradient, in percent of all of it", ...groups.map(([name], i) => swatch(`bar ${names[i]}`, name)), swatch("computed", `as computed: ${form().title}, ${state.type}`), ...(lost ? [swatch("bar lost", "NaN or ∞")] : []));
    const first = groups[0][0], many = sums[0] / total;
    carry.querySelector(".lb-play-said").textContent = `${first[0].toUpperCase()}${first.slice(1)} are ${percent(easy)} of the examples and carry ${percent(many)} of the gradient${easier ? `; with ${easier.title} they would carry ${percent(before[0] / totalBefore)}` : ""}.`;
  };

  const numbers = () => {
    const l = loss(), c = compare(l, form(), format(), argumentsAt(l, state.x));
    table.querySelectorAll("thead th")[1].textContent = state.type;
    rows.forEach((row, i) => {
      const [exact, got, error] = row.querySelectorAll("td"), known = i < 2;
      exact.textContent = number(c.exact[i]);
      got.textContent = known ? number(c.got[i]) : "";
      error.textContent = known ? verdict(c.errors[i], c.got[i], c.exact[i]) : "";
      row.classList.toggle("lb-play-wrong", known && c.errors[i] >= 2 ** (format().p - 1));
    });
    const x = ofLogit(l) ? c.at[0] : c.at[0] - c.at[1], told = i => `${number(c.got[i])}${c.errors[i] <= 0.5 ? "" : number(c.got[i]) === number(c.exact[i]) ? `, ${verdict(c.errors[i], c.got[i], c.exact[i])} off` : ` instead of ${number(c.exact[i])}`}`;
    clearTimeout(silence); // a moving slider would be read at every step
    silence = setTimeout(() => { said.textContent = `At ${axis(l).replace(/ /, " ")} = ${number(x)}: loss ${told(0)}, gradient ${told(1)}.`; }, 300);
  };

  // In each column of the picture a few inputs, so that an error that comes and goes is seen.
  const PLACES = [0.5, 0.11, 0.31, 0.83];
  const draw = () => {
    const l = loss(), reach = +state.reach, count = Math.min(170, Math.max(90, Math.floor(curve.clientWidth / 3))), wide = (2 * reach) / count;
    const stable = l.forms.find(f => f.key === "stable");
    const columns = Array.from({length: count}, (_, i) => {
      const at = PLACES.map(p => argumentsAt(l, -reach + wide * (i + p)));
      return {
        x: -reach + wide * (i + 0.5), smooth: l.exact(exactly, ...at[0]),
        sample: at.map(a => compare(l, form(), format(), a)), stable: state.form === "stable" ? [] : at.map(a => compare(l, stable, format(), a)),
      };
    });
    drawCurve(columns);
    drawErrors(columns);
    drawCarry();
    numbers();
  };

  new ResizeObserver(() => { cancelAnimationFrame(frame); frame = requestAnimationFrame(draw); }).observe(root);
  // By the event and not by the address, which a waiting write may have changed again.
  addEventListener("hashchange", e => { const {hash} = new URL(e.newURL); if (hash.startsWith("#play-")) change({...START, ...read(hash)}); });
  Object.assign(window.lossbookPlay, {state, view, losses});
  change(location.hash.startsWith("#play-") ? read(location.hash) : {});
  started = true;
})();
