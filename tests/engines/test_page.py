"""The exported page in headless Chromium, drawn in software, against our own posing and pictures."""

import io
from dataclasses import replace

import browser
import numpy as np
import page_browser
import pytest
import torch
from page_browser import run_page
from PIL import Image
from rig_factory import make_avatar, make_gaussians, make_motion

from avatar3d.export import SOUND_RATE, export
from avatar3d.export.film import FilmSettings, film
from avatar3d.export.picture import front_camera, posed_vertices
from avatar3d.export.splat_frame import posed_splats
from avatar3d.models.anchors import with_anchors
from avatar3d.render.splats import render_gaussians
from avatar3d.types import Motion, Wrinkles

SIZE = 256


@pytest.fixture(scope="module", autouse=True)
def installed():
    try:
        browser.chromium()
    except browser.Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def avatar():
    motion = make_motion(frames=12, fps=25.0)
    rotations = {name: 0.4 * values for name, values in motion.rotations.items()}
    return make_avatar(replace(motion, rotations=rotations, translation=0.3 * motion.translation))


@pytest.fixture(scope="module")
def page(avatar, tmp_path_factory):
    return export(avatar, tmp_path_factory.mktemp("page") / "me.html")


@pytest.fixture(scope="module")
def splat_avatar(avatar):
    splats = make_gaussians(avatar.rig, 3000)
    small = {"log_scales": splats.log_scales - 0.8, "offsets": 0.3 * splats.offsets}
    by_turn = 0.5 * torch.randn(len(splats.mixing), 3, generator=torch.Generator().manual_seed(9))
    small["mixing"] = torch.cat([splats.mixing, by_turn], 1)
    return replace(avatar, gaussians=replace(splats, **small))


def pixels(content) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content) if isinstance(content, bytes) else content).convert("RGB"), float)


def ours(avatar, folder, **settings) -> np.ndarray:
    film(avatar, folder / "ours.png", avatar.motion, FilmSettings(size=SIZE, **settings))
    return pixels(folder / "ours.png")


def psnr_inside(a: np.ndarray, b: np.ndarray, background: int = 255) -> float:
    """Over the pixels that are not background in either picture."""
    drawn = (np.abs(a - background).max(2) > 0) | (np.abs(b - background).max(2) > 0)
    assert drawn.mean() > 0.1
    return 10 * np.log10(255**2 / max(((a - b)[drawn] ** 2).mean(), 1e-9))


def test_pictures_and_posing(avatar, page, tmp_path):
    script = """await a.ready;
        const take = async (name) => send(name, await a.image());
        await take("first");
        a.setFrame(7); await take("frame"); await send("vertices", a.vertices);
        a.setCamera("orbit"); await take("orbit");
        a.setCamera("front"); a.neutral(); a.setShapes({ jawOpen: 0.5, mouthSmileLeft: 1 }); a.setHead({ yaw: 20 });
        await take("made");
        return { frames: a.frames, names: a.shapeNames, info: a.info, fps: await a.fps(0.5) };"""
    found, sent, asked = run_page(page, script, query="camera=front&frame=0&ui=0", size=(SIZE, SIZE))
    assert asked.count("/page.html") == 1 and set(asked) <= {"/", "/page.html", "/favicon.ico"}
    assert found["frames"] == 12 and found["names"] == list(avatar.rig.shape_names) and found["fps"] > 0
    assert found["info"]["triangles"] == len(avatar.rig.faces) and found["info"]["width"] == SIZE
    for name, settings in {"first": {}, "frame": {"frame": 7}, "orbit": {"camera": "orbit", "frame": 7}}.items():
        psnr = psnr_inside(pixels(sent[name]), ours(avatar, tmp_path, **settings))
        assert psnr > 30, (name, psnr)
    vertices = np.frombuffer(sent["vertices"], np.float32).reshape(-1, 3)
    expected = posed_vertices(avatar.rig, avatar.motion, 7).numpy()
    assert np.abs(vertices - expected).max() < 1e-4
    assert psnr_inside(pixels(sent["first"]), pixels(sent["frame"])) < 25, "frames differ"


def test_a_normal_map(avatar, tmp_path):
    """Lit as our own pictures are, and not as without it."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    waves = torch.stack([0.5 * torch.sin(x * 0.8), 0.5 * torch.sin(y * 0.5), torch.full((64, 64), 0.7)], -1)
    normals = (127.5 * torch.nn.functional.normalize(waves, dim=-1) + 128).floor().to(torch.uint8)
    looks = replace(avatar.appearance, normals=normals)
    bumpy = replace(avatar, appearance=looks)
    script = """await a.ready; await send("first", await a.image());
        a.setFrame(7); await send("frame", await a.image());"""
    made = export(bumpy, tmp_path / "bumpy.html")
    _, sent, _ = run_page(made, script, query="camera=front&frame=0&ui=0", size=(SIZE, SIZE))
    for name, frame in {"first": 0, "frame": 7}.items():
        expected = ours(bumpy, tmp_path, frame=frame)
        psnr = psnr_inside(pixels(sent[name]), expected)
        assert psnr > 30, (name, psnr)
        assert psnr_inside(ours(avatar, tmp_path, frame=frame), expected) < psnr - 6


def test_wrinkles(avatar, tmp_path):
    """Come with the expression as in our own pictures."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    flat = torch.tensor([128, 128, 255], dtype=torch.uint8).expand(64, 64, 3).contiguous()
    maps = torch.stack([torch.stack([torch.sin(x * 0.7), 0.0 * x], -1), torch.stack([0.0 * x, torch.sin(y * 0.4)], -1)])
    mixing = torch.zeros(2, 52)
    mixing[0, 3], mixing[1, 7] = 0.9, -2.0
    own = Wrinkles(slopes=(127 * maps).round().to(torch.int8), scales=torch.tensor([0.8, 0.6]), mixing=mixing)
    looks = replace(avatar.appearance, normals=flat)
    plain, lined = (replace(avatar, appearance=replace(looks, wrinkles=w)) for w in (None, own))
    page = export(lined, tmp_path / "lined.html")
    script = "await a.ready; a.setFrame(7); await send('frame', await a.image());"
    _, sent, _ = run_page(page, script, query="camera=front&ui=0", size=(SIZE, SIZE))
    expected = ours(lined, tmp_path, frame=7)
    psnr = psnr_inside(pixels(sent["frame"]), expected)
    assert psnr > 30 and psnr_inside(ours(plain, tmp_path, frame=7), expected) < psnr - 6


def drawn_splats(avatar, frame: int, size: int) -> np.ndarray:
    """By our own renderer, from the front, on white."""
    camera = front_camera(avatar.rig, size, centre=avatar.motion.translation.median(0).values)
    picture = render_gaussians(posed_splats(avatar, avatar.motion, frame), camera).rgb[0]
    return (picture.clamp(0, 1) * 255 + 0.5).floor().double().numpy()


def test_splats(splat_avatar, tmp_path):
    page = export(splat_avatar, tmp_path / "splats.html")
    script = """await a.ready;
        await send("first", await a.image());
        a.setFrame(5); await send("frame", await a.image());
        await send("vertices", a.vertices);
        a.play(); await new Promise((done) => setTimeout(done, 700)); a.pause();
        a.setFrame(5); await new Promise((done) => setTimeout(done, 700)); await send("again", await a.image());
        return a.info;"""
    info, sent, _ = run_page(page, script, query="camera=front&frame=0&ui=0", size=(SIZE, SIZE))
    assert info["appearance"] == "splats" and info["splats"] == 3000 and info["sortsInWorker"]
    vertices = np.frombuffer(sent["vertices"], np.float32).reshape(-1, 3)
    expected = posed_vertices(with_anchors(splat_avatar.rig), splat_avatar.motion, 5).numpy()
    assert np.abs(vertices - expected).max() < 1e-4
    for name, frame in {"first": 0, "frame": 5, "again": 5}.items():
        psnr = psnr_inside(pixels(sent[name]), drawn_splats(splat_avatar, frame, SIZE))
        assert psnr > 36, (name, psnr)
    assert psnr_inside(pixels(sent["first"]), pixels(sent["frame"])) < 25, "frames differ"


def test_a_still_of_plain_splats(splat_avatar, tmp_path):
    """Neither motion, nor expression-dependent change, nor view dependence; the last triangles are anchors'."""
    splats = make_gaussians(splat_avatar.rig, 500, degree=0, components=0)
    still = Motion(fps=25.0, expression=torch.zeros(1, 52), translation=torch.zeros(1, 3))
    avatar = replace(splat_avatar, gaussians=splats, motion=still)
    page_browser.screenshot(export(avatar, tmp_path / "me.html", "none"), tmp_path / "shot.png", "ui=0", (512, 512))
    assert psnr_inside(pixels(tmp_path / "shot.png"), drawn_splats(avatar, 0, 512)) > 36


def test_the_picture_is_there_when_the_page_has_loaded(avatar, page, tmp_path):
    page_browser.screenshot(page, tmp_path / "shot.png", "camera=front&frame=3&ui=0&background=black", (512, 512))
    film(avatar, tmp_path / "ours.png", avatar.motion, FilmSettings(size=512, frame=3, background="black"))
    assert psnr_inside(pixels(tmp_path / "shot.png"), pixels(tmp_path / "ours.png"), background=0) > 30


def test_controls(page):
    script = """await a.ready;
        const shape = (name) => page.querySelector(`input[aria-label="${name}"]`);
        const move = (input, to) => { input.value = to; input.dispatchEvent(new Event("input")); };
        const next = () => new Promise((done) => setTimeout(done, 300));
        const sliders = a.shapeNames.filter((name) => shape(name)).length;
        page.getElementById("neutral").click();
        move(shape("eyeBlinkLeft"), 0.75); move(shape("jawLeft"), 0.5); move(shape("Across"), 0.5);
        move(shape("Turn"), 30);
        await next();
        const after = a.shapes;
        page.getElementById("play").click();
        for (let i = 0; i < 60 && !a.frame; i++) await next();
        const playing = page.getElementById("play").textContent;
        page.getElementById("play").click();
        return { sliders, after, head: a.head, playing, clock: page.getElementById("clock").textContent,
          frame: a.frame, panel: page.getElementById("panel").offsetWidth };"""
    found, _, _ = run_page(page, script, size=(900, 500))
    assert found["sliders"] == 52 and found["panel"] > 200
    moved = {name: value for name, value in found["after"].items() if value}
    assert moved == pytest.approx({
        "eyeBlinkLeft": 0.75, "eyeBlinkRight": 0.75, "jawLeft": 0.5, "eyeLookOutLeft": 0.5, "eyeLookInRight": 0.5
    })  # fmt: skip
    assert found["head"] == {"yaw": 30, "pitch": 0, "roll": 0}
    assert found["playing"] == "Pause" and found["frame"] > 0 and "/ 0:00.5" in found["clock"]


def test_sound_plays_with_the_motion(avatar, tmp_path):
    tone = 0.1 * torch.sin(torch.arange(SOUND_RATE) * 0.06)
    page = export(avatar, tmp_path / "loud.html", sound=tone)
    script = """await a.ready;
        for (let i = 0; i < 100 && !a.sound.duration; i++) await new Promise((done) => setTimeout(done, 50));
        const muted = [a.sound.muted];
        page.getElementById("mute").click(); muted.push(a.sound.muted);
        a.setFrame(6); a.play();
        const started = !a.sound.paused; await new Promise((done) => setTimeout(done, 100));
        a.pause();
        return [a.sound.duration, a.sound.time, started, a.sound.paused, muted];"""
    (duration, time, started, paused, muted), _, _ = run_page(page, script, size=(900, 400))
    assert duration == pytest.approx(avatar.motion.duration, abs=0.06) and 0 <= time <= duration
    assert started and paused and muted == [False, True]


def test_a_browser_without_webgl_is_told_so(page):
    script = """let reason = ""; await a.ready.catch((error) => { reason = error.message; });
        const panel = getComputedStyle(page.getElementById("panel"));
        return [reason, page.getElementById("message").textContent, panel.display];"""
    (reason, shown, panel), _, _ = run_page(page, script, flags=["--disable-3d-apis"], size=(400, 300))
    assert shown == reason and "needs WebGL 2" in shown and shown.count(".") == 1 and panel == "none"


def test_a_damaged_page_says_so(page, tmp_path):
    text = page.read_text()
    at = text.index('id="avatar">') + 4000
    (tmp_path / "bad.html").write_text(text[:at] + "AAAAAAAA" + text[at + 8 :])
    found, _, _ = run_page(tmp_path / "bad.html", "return a.ready.then(() => 'drawn', (error) => error.message);")
    assert found != "drawn"
