"""The playground: are its numbers PyTorch's, are its curves exact, and can everybody use it?

The numbers are compared in Chromium, with the script and the losses that the page ships.
"""
import json
import re

import pytest
import torch
from browsing import DESKTOP, PHONE, ROOT, SITE, opened, tool
from test_site import DARK, FAINT, WIDE

from lossbook import playground as p

PAGE = "nbs/evidence/playground.html"
LOSSES = [(t.key, f.key) for t in p.toys() for f in t.forms]


# The numbers. `browser` is asked for because it says, or fails in CI, where there is no Chromium.

def test_operations_are_pytorchs_to_the_last_bit(browser):
    assert p.operations_differ() == dict.fromkeys(p.FORMATS, 0)


WRONG = {  # roundings that differ from the right one; each is a function of the right one `near` and the value v
    "truncated": "Math.abs(near) > Math.abs(v) ? near - Math.sign(v) * play.ulp(v, right) : near",
    "ties away from zero": "Math.abs(v - near) === play.ulp(v, right) / 2 && Math.abs(near) < Math.abs(v) ? near + Math.sign(v) * play.ulp(v, right) : near",
    "no subnormal numbers": "Math.abs(near) < 2 ** right.emin ? 0 : near",
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_rounding_is_rejected(browser, wrong):
    body = f"const right = play.formats[format], other = {{...right, round: v => {{ const near = right.round(v); return {wrong}; }}}};"
    work = p._BASIC.replace("=> {\n", f"=> {{ {body}\n").replace("play.arithmetic(play.formats[format])", "play.arithmetic(other)")
    assert body in work and "play.arithmetic(other)" in work
    differ = p.operations_differ(work)
    assert differ["bfloat16"] > 100 and differ["float16"] > 100


@pytest.fixture(scope="module")
def apart(browser):
    return p.functions_apart()


def test_functions_are_within_an_ulp_of_pytorchs(apart):
    "PyTorch's vector library promises 1 ulp and the browser is nearest, so less than 2 floats lie between."
    assert all(apart[n] <= 1 for n in ("exp", "log", "log1p", "pow")), apart


# How far a result can move if each inexact function moves by as many floats as PyTorch's differs: the sum over all calls.
SPREAD = """jobs => { const one = new Float32Array(1), bits = new Int32Array(one.buffer);
  const moved = (v, n) => { if (!Number.isFinite(v)) return v; if (v === 0) return n * 2 ** -149; one[0] = v; bits[0] += n; return one[0] === one[0] ? one[0] : v; };
  return jobs.map(j => { const l = losses[j.loss], f = l.forms.find(f => f.key === j.form), format = play.formats[j.format];
    return j.rows.map(row => { const base = play.run(l, f, format, row, (name, v) => v), sum = [0, 0];
      for (let i = 0; i < base.calls; i++) { const most = [0, 0];
        for (const part of [-1, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1]) { const other = play.run(l, f, format, row, (name, v, k) => k === i ? moved(v, Math.sign(part) * Math.ceil(Math.abs(part) * j.steps[name])) : v);
          for (const c of [0, 1]) most[c] = Math.max(most[c], Math.abs(other[c] - base[c])); }
        for (const c of [0, 1]) sum[c] += most[c]; }
      return sum; }); }); }"""


@pytest.fixture(scope="module")
def ways(browser):
    return p.both_ways(seed=5)


def test_every_form_gives_what_pytorch_gives(ways, apart):
    "NaN and infinities in the same places; what differs is the next number, or within twice what the functions can move."
    from lossbook.exact import ulp
    doubtful = []
    for job in ways:
        who, equal = (job["loss"], job["form"], job["format"]), p.same(job["got"], job["torch"])
        assert (job["got"].isfinite() == job["torch"].isfinite()).all(), who
        assert equal.double().mean() > (0.9 if job["format"] == "float32" else 0.999), who
        there = (~equal).any(0).nonzero()[:, 0].tolist()
        if there: doubtful.append({**{k: job[k] for k in ("loss", "form", "format")}, "rows": [job["rows"][i] for i in there], "steps": apart, "torch": job["torch"][:, there], "off": (job["got"] - job["torch"]).abs()[:, there]})
    sent = [{k: v for k, v in d.items() if k not in ("off", "torch")} for d in doubtful]
    assert sent, "nothing differs at all: then the test of the bound has lost its subject"
    for d, found in zip(doubtful, p.in_browser(SPREAD, sent)):
        room = 2 * torch.tensor([[float(v) for v in r] for r in found], dtype=torch.float64).T + torch.from_numpy(ulp(d["torch"], d["format"]))
        bad = (d["off"] > room).any(0).nonzero()[:, 0].tolist()
        assert not bad, (d["loss"], d["form"], d["format"], d["rows"][bad[0]], d["off"][:, bad[0]].tolist(), room[:, bad[0]].tolist())


def test_a_truncated_loss_is_rejected(ways):
    "The same comparison with a rounding that cuts off: most results are wrong."
    work = p._ALL.replace("play.formats[j.format]", "{...play.formats[j.format], round: v => { const right = play.formats[j.format], near = right.round(v); return " + WRONG["truncated"] + "; }}")
    jobs = [{k: j[k] for k in ("loss", "form", "format")} | {"rows": j["rows"][49:149]} for j in ways if j["format"] != "float32" and j["form"] in ("textbook", "probability")]
    mine = {(j["loss"], j["form"], j["format"]): j["torch"][:, 49:149] for j in ways}
    for job, found in zip(jobs, p.in_browser(work, jobs)):
        got = torch.tensor([[float(v) for v in r[:2]] for r in found], dtype=torch.float64).T
        assert p.same(got, mine[job["loss"], job["form"], job["format"]]).double().mean() < 0.9, job["form"]


def test_ulp_and_errors_are_the_books(browser):
    from lossbook.exact import ulp, ulp_error
    values = [0.0, 1e-45, 1e-40, 2.0**-126, 0.1, 1.0, 2 - 2**-23, 65504.0, 65519.0, 65520.0, 1e5, 3.4e38, 1e300]
    work = "values => Object.entries(play.formats).map(([n, f]) => values.map(v => [play.ulp(v, f), play.error(f.round(Math.fround(v * 1.01)), v, f)]))"
    for name, rows in zip(p.FORMATS, p.in_browser(work, values)):
        got = torch.tensor([v * 1.01 for v in values], dtype=torch.float64).float().to(getattr(torch, name))
        assert [r[0] for r in rows] == ulp(values, name).tolist()
        assert [float(r[1]) for r in rows] == ulp_error(got, values, name).tolist()


# The exact curves

BOUND = 64  # units of 2^-53, as the page says


def test_exact_curves_are_within_their_bound_of_enclosures(browser):
    far = p.exact_distance(count=25, seed=11)
    assert all(v <= BOUND for three in far.values() for v in three), far


@pytest.mark.parametrize("wrong", ["softplus: u => Math.log(1 + Math.exp(u))", "sigmoid: u => 1 - 1 / (1 + Math.exp(u))"], ids=["softplus", "sigmoid"])
def test_an_unstable_reference_is_rejected(browser, wrong):
    far = p.exact_distance(count=25, seed=11, work=p._EXACT.replace("play.exactly", f"{{...play.exactly, {wrong}}}"))
    assert max(v for three in far.values() for v in three) > 1e6


def test_the_page_and_the_record_are_of_this_script():
    cells = json.loads((ROOT / "nbs/evidence/playground.ipynb").read_text())["cells"]
    shown = "".join("".join(out["data"].get("text/html", [])) for c in cells for out in c.get("outputs", []) if "data" in out)
    assert p.program() in shown, "the page holds other losses: refresh the notebook"
    made = json.loads((ROOT / "nbs/evidence/records/playground.json").read_text())["result"]
    assert made["script"] == p.fingerprint_of_script(), "the deviation was measured with another script: LOSSBOOK_RECORD=playground"
    assert set(made["ways"]) == {f for _, f in LOSSES} and not any(made["operations"].values())
    assert not any(c["lost"] for cells in made["ways"].values() for c in cells.values())
    assert all(v <= BOUND for three in made["exact"].values() for v in three)


def test_javascript_is_refused_where_it_would_guess():
    import ast
    for wrong in ("def f(x): return x if x > 0 else -x", "def f(x): return x // 2", "def f(x): return g(x, lossy=True)", "def f(x): return x[0]"):
        with pytest.raises(ValueError, match="no JavaScript"): p._Rounded({}).visit(ast.parse(wrong).body[0])


def test_a_page_that_asks_for_a_script_gets_it(tmp_path):
    finish = tool("finish_site")
    page = '<html lang="en"><head></head><body><main><div id="a" data-script="{}"></div></main></body></html>'
    out = tmp_path / "_site/nbs"
    out.mkdir(parents=True)
    (out / "a.html").write_text(page.format("playground"))
    finish.main(tmp_path / "_site")
    assert '<script defer src="../site_libs/lossbook/playground.js"></script>' in (out / "a.html").read_text()
    assert (tmp_path / "_site/site_libs/lossbook/playground.js").read_text() == p.script()
    (out / "a.html").write_text(page.format("absent"))
    with pytest.raises(SystemExit, match="absent.js, which does not exist"): finish.main(tmp_path / "_site")


# In use

VIEW = "#play-loss_softmax_focal-form_clamp-clamp_7-type_bfloat16-show_value-reach_15-x_m2p25-gamma_3p5-level_7-easy_1p5"
STATE = "Object.fromEntries(Object.entries(lossbookPlay.state).map(([k, v]) => [k, String(v)]))"


def play(tab, where, hash=""):
    tab.goto("about:blank")
    opened(tab, where + hash)
    tab.wait_for_selector(".lb-play-on .lb-play-carry path.computed", state="attached")
    return tab


@pytest.fixture
def there(site): return (site / PAGE).as_uri()


def test_it_draws_from_a_file_without_network(tab, there):
    play(tab, there)
    found = tab.evaluate("[...document.querySelectorAll('.lb-play-panel > svg')].map(s => ({label: s.getAttribute('aria-label'), width: s.getAttribute('width'), box: s.getAttribute('viewBox').split(' ')[2], seen: s.getBoundingClientRect().width, paths: [...s.querySelectorAll('path')].map(e => e.getAttribute('d').length)}))")
    assert len(found) == 3
    for svg in found:
        assert len(svg["label"]) > 30 and max(svg["paths"]) > 500
        assert svg["width"] == svg["box"] and abs(float(svg["width"]) - svg["seen"]) < 1, "a drawing that is stretched is not crisp"
    assert tab.locator(".lb-play-off").count() == 0


def test_a_change_is_drawn_in_every_picture(tab, there):
    play(tab, there)
    def pictures(): return tab.evaluate("[...document.querySelectorAll('.lb-play-panel > svg')].map(s => s.innerHTML)")
    before = pictures()
    for change in ("gamma_4", "type_float16", "form_stable", "loss_bce", "loss_ce"):
        tab.evaluate(f"location.hash = '#play-{change}'")
        tab.wait_for_function("old => document.querySelector('.lb-play-carry > svg').innerHTML !== old", arg=before[2])
        assert all(a != b for a, b in zip(before, pictures())), change
        before = pictures()
    assert tab.evaluate("[...document.querySelectorAll('.lb-play-key svg')].every(s => s.children.length === 1)"), "a curve was drawn into the legend"


def test_the_numbers_shown_are_those_of_pytorch(tab, there):
    play(tab, there, "#play-loss_focal-form_textbook-type_bfloat16-x_m3-y_1-gamma_2-alpha_0p25")
    toy = next(t for t in p.toys() if t.key == "focal")
    value, slope = p.torch_values(toy, toy.forms[0], torch.bfloat16, [[-3.0, 1.0, 2.0, 0.25, 1e-4]])
    cells = [float(c.replace("−", "-")) for c in tab.locator(".lb-play-numbers tbody td:nth-child(3)").all_inner_texts()[:2]]
    assert cells == [pytest.approx(float(value), rel=1e-5), pytest.approx(float(slope), rel=1e-5)]


def test_everything_is_reached_and_moved_by_keyboard(tab, there):
    play(tab, there)
    tab.locator(".lb-play-presets button").first.focus()
    seen = []
    for _ in range(40):
        about = tab.evaluate("(e => ({id: e.id || e.value || e.textContent, inside: !!e.closest('#lb-playground'), outline: getComputedStyle(e).outlineStyle, width: parseFloat(getComputedStyle(e).outlineWidth)}))(document.activeElement)")
        if not about["inside"]: break
        assert about["outline"] == "solid" and about["width"] >= 2, f"the focus on {about['id']} is not seen"
        seen.append(about["id"])
        tab.keyboard.press("Tab")
    assert seen[0] == p.PRESETS[0].name and "Reset" in seen and "gradient" in seen
    assert {f"lb-play-{k}" for k in ("loss", "form", "type", "reach", "x", "y", "gamma", "alpha", "easy")} <= set(seen)
    tab.locator("#lb-play-x").focus()
    before, sentence = tab.evaluate("lossbookPlay.state.x"), tab.locator(".lb-play-told [role=status]").inner_text()
    for _ in range(4): tab.keyboard.press("ArrowRight")
    assert tab.evaluate("lossbookPlay.state.x") == before + 2
    assert tab.locator("output[for=lb-play-x]").inner_text() == "−10"
    tab.wait_for_function("old => document.querySelector('.lb-play-told [role=status]').textContent !== old", arg=sentence)
    assert "logit x = −10" in tab.locator(".lb-play-told [role=status]").inner_text()
    tab.locator("#lb-play-loss").focus()
    tab.keyboard.press("ArrowDown")
    assert tab.evaluate("lossbookPlay.state.loss") == "ce" and tab.locator("#lb-play-alpha").is_hidden() and tab.locator("#lb-play-level").is_visible()
    tab.locator("input[name=lb-play-show]:checked").focus()
    tab.keyboard.press("ArrowLeft")
    assert tab.evaluate("lossbookPlay.state.show") == "value"
    tab.wait_for_function("document.querySelector('.lb-play-curve figcaption').textContent === 'The loss'")
    tab.wait_for_function("location.hash.includes('loss_ce')")
    tab.locator(".lb-play-reset").focus()
    tab.keyboard.press("Enter")
    tab.wait_for_function("location.hash === ''")
    assert tab.evaluate("lossbookPlay.state.loss") == "focal" and tab.evaluate("lossbookPlay.state.x") == before


def test_the_address_holds_the_view(tab, there):
    wanted = {"loss": "softmax_focal", "form": "clamp", "clamp": "7", "type": "bfloat16", "show": "value", "reach": "15", "x": "-2.25", "gamma": "3.5", "level": "7", "easy": "1.5"}
    play(tab, there, VIEW)
    assert wanted.items() <= tab.evaluate(STATE).items() and tab.evaluate("'#' + lossbookPlay.view()") == VIEW
    tab.locator("#lb-play-gamma").focus()
    tab.keyboard.press("ArrowRight")
    tab.wait_for_function("location.hash.includes('gamma_3p75')")
    again, state = tab.evaluate("location.hash"), tab.evaluate(STATE)
    play(tab, there, again)
    assert tab.evaluate(STATE) == state
    tab.evaluate(f"location.hash = '{VIEW}'")
    tab.wait_for_function("lossbookPlay.state.gamma === 3.5")
    for odd in ("#play-", "#play-loss_nothing-form_x-type_float8-x_zz-gamma_999-y_m4", "#play-constructor_a-loss_toString-x_1e999", "#is-it-pytorch"):
        play(tab, there, odd)  # and no error on the console
        s = tab.evaluate("lossbookPlay.state")
        assert s["loss"] == "focal" and 0 <= s["gamma"] <= 6 and 0 <= s["y"] <= 1 and abs(s["x"]) <= float(s["reach"])


def test_examples_show_what_they_say(tab, there):
    play(tab, there)
    for preset in p.PRESETS:
        button = tab.get_by_role("button", name=preset.name, exact=True)
        button.click()
        assert tab.locator(".lb-play-story").inner_text() == preset.sentence and button.get_attribute("aria-pressed") == "true"
        assert tab.evaluate("lossbookPlay.view()").startswith(f"play-{preset.view}")
    curvature = tab.locator(".lb-play-numbers tr[data-row=curvature] td").first
    assert curvature.inner_text().startswith("−"), "the last example shows a negative curvature"


def test_a_drag_in_the_picture_moves_the_logit(tab, there):
    play(tab, there)
    box = tab.locator(".lb-play-curve > svg").bounding_box()
    tab.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 60)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 0.95 * box["width"], box["y"] + 60)
    tab.mouse.up()
    assert tab.evaluate("lossbookPlay.state.x") > 30


def test_the_mix_adds_up(tab, there):
    "The share that the page tells is the share of the bars."
    play(tab, there, "#play-loss_bce-form_stable-easy_2")
    bars = tab.evaluate("[...document.querySelectorAll('.lb-play-carry > svg rect.bar')].map(r => [r.getAttribute('class'), +r.getAttribute('height')])")
    easy, whole = sum(h for c, h in bars if "easy" in c), sum(h for _, h in bars)
    told = float(re.search(r"carry ([\d.]+) % of the gradient", tab.locator(".lb-play-carry .lb-play-said").inner_text())[1])
    assert abs(100 * easy / whole - told) < 1


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("size", ["phone", "desktop"])
def test_every_loss_fits(tab, there, size, mode):
    tab.set_viewport_size(PHONE if size == "phone" else DESKTOP)
    play(tab, there)
    if mode == "dark": assert tab.evaluate(DARK)
    for loss, form in LOSSES:
        for kind in p.FORMATS if form == "textbook" else ("float32",):
            tab.evaluate(f"location.hash = '#play-loss_{loss}-form_{form}-type_{kind}-x_m11'")
            tab.wait_for_function(f"lossbookPlay.state.loss === '{loss}' && lossbookPlay.state.form === '{form}' && lossbookPlay.state.type === '{kind}'")
            tab.wait_for_timeout(60)
            assert not (wide := tab.evaluate(WIDE)), f"{loss}, {form}, {kind}: {wide}"
            assert tab.evaluate("(t => t.getBoundingClientRect().right <= t.parentElement.getBoundingClientRect().right + 1)(document.querySelector('.lb-play-numbers'))"), f"{loss}, {form}, {kind}: the numbers are wider than their column"
    small = tab.evaluate("""[...document.querySelectorAll('#lb-playground :is(button, select, input[type=range], .lb-play-show label)')].filter(e => e.getClientRects().length)
      .map(e => [e.id || e.textContent, e.getBoundingClientRect().height]).filter(([, h]) => h < 40)""")
    assert not small, f"too small to touch: {small}"
    assert not (faint := tab.evaluate(FAINT)), f"too little contrast: {faint}"
    left = tab.evaluate("['.lb-play-curve', '.lb-play-sliders', '.lb-play-error'].map(s => Math.round(document.querySelector(s).getBoundingClientRect().left))")
    assert (len(set(left)) == 1) == (size == "phone"), "one column on a phone, two on a desktop"
    line = tab.evaluate("getComputedStyle(document.querySelector('.lb-play-curve path.exact')).stroke")
    assert line == ("rgb(0, 103, 165)" if mode == "light" else "rgb(91, 180, 240)"), "the curve follows the page's colours"


def test_without_javascript_a_sentence_says_so(browser, there):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(there)
    assert page.locator(".lb-play-off").is_visible() and "JavaScript" in page.locator(".lb-play-off").inner_text()
    context.close()


def test_names_and_values_of_the_controls_are_told(tab, there):
    "Every control has a name, and the pictures have words."
    play(tab, there)
    for element in tab.locator("#lb-playground :is(select, input):visible").all():
        assert element.evaluate("e => e.labels.length === 1 && e.labels[0].textContent.trim().length > 0"), element.get_attribute("id")
    assert tab.locator("#lb-playground svg[role=img][aria-label]").count() == 3
    assert tab.locator("#lb-playground [role=status]").count() >= 2
