"""The viewer: our own pictures of an avatar, drawn as the browser's camera asks for them, behind viser's sliders.

What is seen is what `render` draws: the browser gets pictures, not splats or meshes, so that it needs no graphics card
and shows every kind of avatar alike.
"""

import contextlib
import io
import logging
import math
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from avatar3d.errors import DependencyError
from avatar3d.geometry.rotation import quat_to_matrix
from avatar3d.geometry.transform import make_transform
from avatar3d.types import ARKIT_NAMES, Avatar, Camera, Motion
from avatar3d.view.puppet import Puppet, frame_at

Draw = Callable[[Motion, Camera, UInt8[np.ndarray, "h w 3"], bool], UInt8[np.ndarray, "h w 3"]]
"""A motion of one frame, a camera, what is behind, and whether to draw clay -> the picture."""
RATE = 15.0
"""Pictures a second that resolution is given up for while something moves."""
SMALLEST, LARGEST = 192, 1080
"""Heights of pictures, pixels."""
STILL = 0.25
"""Seconds without change after which the picture is drawn in full."""
GROUPS = {"Eyes": ("eye",), "Brows": ("brow",), "Jaw and tongue": ("jaw", "tongue"), "Mouth": ("mouth",),
          "Cheeks and nose": ("cheek", "nose")}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ViewSettings:
    """Where a viewer is served and how it begins."""

    host: str = "127.0.0.1"
    """Interface that is listened on; 0.0.0.0 lets other machines in."""
    port: int = 8080
    """Where this is taken, the next free one."""
    background: tuple[int, int, int] = (255, 255, 255)
    """sRGB."""
    target: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """What the camera looks at and turns about, metres."""
    distance: float = 1.0
    """Of the camera from it, metres."""
    field_of_view: float = math.radians(24)
    """Over the height, radians."""


class View:
    """A viewer that is being served, until `stop`. In a notebook it shows itself."""

    def __init__(self, avatar: Avatar, motion: Motion | None, draw: Draw, settings: ViewSettings) -> None:
        try:
            import viser
        except ModuleNotFoundError as error:
            raise DependencyError("viser", "view", "avatar3d view") from error
        self.puppet = Puppet(motion=motion)
        self._draw, self._settings = draw, settings
        self._clay, self._background = False, settings.background
        self._lock = threading.Condition()
        self._changed: dict[int, float] = {}  # by client: when what it sees last changed
        self._drawn: dict[int, tuple[float, int]] = {}  # by client: for which change, and how high
        self._cost = 2e-7  # seconds a pixel, learned
        self._playing: tuple[float, int] | None = None  # since when, from which frame
        self._stopped = False
        logging.getLogger("websockets.server").setLevel(logging.CRITICAL)  # browsers knock without coming in
        with contextlib.redirect_stdout(None):  # viser prints a box; the address is for whoever serves to say
            self.server: Any = viser.ViserServer(
                host=settings.host, port=settings.port, label="avatar3d", verbose=False
            )
        self._begin()
        self._controls(avatar)
        self.server.on_client_connect(self._welcome)
        self.server.on_client_disconnect(lambda client: self._forget(client.client_id))
        self._thread = threading.Thread(target=self._work, name="avatar3d view", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        host = "127.0.0.1" if self._settings.host == "0.0.0.0" else self._settings.host
        return f"http://{host}:{self.server.get_port()}"

    def play(self) -> None:
        """Plays the motion from where it is, round and round."""
        with self._lock:
            self._playing = (time.monotonic(), self.puppet.frame)
            self._lock.notify()

    def pause(self) -> None:
        """Stops at the frame that is on."""
        with self._lock:
            self._playing = None

    def screenshot(self, camera: Camera) -> UInt8[np.ndarray, "h w 3"]:
        """What is on stage, through any camera."""
        behind = np.empty((camera.height, camera.width, 3), np.uint8)
        behind[:] = self._background
        return self._draw(self.puppet.pose(), camera, behind, self._clay)

    def stop(self) -> None:
        """Ends serving."""
        with self._lock:
            self._stopped = True
            self._lock.notify()
        self._thread.join(timeout=10)
        with contextlib.redirect_stdout(None):
            self.server.stop()

    def _repr_html_(self) -> str:
        return f'<iframe src="{self.url}" width="100%" height="600" frameborder="0"></iframe>'

    def _begin(self) -> None:
        s = self._settings
        self.server.scene.set_up_direction("+y")
        self.server.scene.world_axes.visible = False
        camera = self.server.initial_camera
        camera.fov = s.field_of_view
        camera.position = (s.target[0], s.target[1], s.target[2] + s.distance)
        camera.look_at = s.target
        camera.up = (0.0, 1.0, 0.0)
        self.server.gui.configure_theme(show_logo=False, show_share_button=False)

    def _welcome(self, client: Any) -> None:
        client.camera.on_update(lambda camera: self._touch(client.client_id))
        self._touch(client.client_id)

    def _forget(self, client_id: int) -> None:
        with self._lock:
            self._changed.pop(client_id, None)
            self._drawn.pop(client_id, None)

    def _touch(self, client_id: int | None = None) -> None:
        """Something that this client sees has changed; or all of them."""
        with self._lock:
            now = time.monotonic()
            for each in [client_id] if client_id is not None else list(self._changed):
                self._changed[each] = now
            self._lock.notify()

    def _controls(self, avatar: Avatar) -> None:
        gui, puppet = self.server.gui, self.puppet
        sliders: list[Any] = []

        def slider(label: str, low: float, high: float, set_value: Callable[[float], None]) -> None:
            handle = gui.add_slider(label, low, high, 0.01, 0.0)

            @handle.on_update
            def _(_: Any) -> None:
                set_value(handle.value)
                self._touch()

            sliders.append(handle)

        if puppet.motion is not None:
            self._playback(gui)
        tabs = gui.add_tab_group()
        with tabs.add_tab("Pose"):
            for i, (label, most) in enumerate((("Turn", 60), ("Nod", 45), ("Tilt", 45))):
                slider(label, -float(most), float(most), lambda value, i=i: self._turn(i, math.radians(value)))
            for i, label in enumerate(("Gaze across", "Gaze up")):
                slider(label, -1.0, 1.0, lambda value, i=i: self._gaze(i, value))
        with tabs.add_tab("Face"):
            for group, begins in GROUPS.items():
                with gui.add_folder(group, expand_by_default=group == "Mouth"):
                    for i, name in enumerate(ARKIT_NAMES):
                        if name.startswith(begins):
                            slider(name, 0.0, 1.0, lambda value, i=i: puppet.coefficients.__setitem__(i, value))
        with tabs.add_tab("Picture"):
            self._picture_controls(gui, avatar)
        reset = gui.add_button("Reset sliders")

        @reset.on_click
        def _(_: Any) -> None:
            for handle in sliders:
                handle.value = 0.0

    def _turn(self, axis: int, angle: float) -> None:
        turn = list(self.puppet.turn)
        turn[axis] = angle
        self.puppet.turn = (turn[0], turn[1], turn[2])

    def _gaze(self, axis: int, amount: float) -> None:
        gaze = list(self.puppet.gaze)
        gaze[axis] = amount
        self.puppet.gaze = (gaze[0], gaze[1])

    def _playback(self, gui: Any) -> None:
        play = gui.add_checkbox("Play", False)
        self._frame = gui.add_slider("Frame", 0, self.puppet.frames - 1, 1, 0, disabled=self.puppet.frames < 2)

        @play.on_update
        def _(_: Any) -> None:
            self.play() if play.value else self.pause()

        @self._frame.on_update
        def _(event: Any) -> None:
            if event.client is not None:  # a person's hand, not our own playing
                with self._lock:
                    self.puppet.frame = int(self._frame.value)
                    if self._playing is not None:
                        self._playing = (time.monotonic(), self.puppet.frame)
                self._touch()

    def _picture_controls(self, gui: Any, avatar: Avatar) -> None:
        colour = gui.add_rgb("Background", self._background)
        clay = gui.add_checkbox("Clay", False, hint="The shape alone")
        front = gui.add_button("Camera to the front")
        shot = gui.add_button("Screenshot", hint="A PNG of 1080 lines, through your camera")
        what = f"{len(avatar.gaussians.face)} splats" if avatar.gaussians is not None else "textured mesh"
        gui.add_markdown(f"{avatar.model}, {what}")

        @colour.on_update
        def _(_: Any) -> None:
            self._background = colour.value
            self._touch()

        @clay.on_update
        def _(_: Any) -> None:
            self._clay = clay.value
            self._touch()

        @front.on_click
        def _(event: Any) -> None:
            s, camera = self._settings, event.client.camera
            with event.client.atomic():
                camera.position = (s.target[0], s.target[1], s.target[2] + s.distance)
                camera.look_at = s.target
                camera.up_direction = (0.0, 1.0, 0.0)

        @shot.on_click
        def _(event: Any) -> None:
            out = io.BytesIO()
            Image.fromarray(self.screenshot(_camera(event.client.camera, LARGEST))).save(out, format="png")
            event.client.send_file_download("avatar.png", out.getvalue(), save_immediately=True)

    def _work(self) -> None:
        """Draws for whoever waits, until the end: what moves small and soon, what stands in full."""
        while True:
            with self._lock:
                self._lock.wait(timeout=1 / RATE if self._playing else 0.1)
                if self._stopped:
                    return
                if self._playing and self.puppet.motion is not None and self._changed:
                    since, first = self._playing
                    motion = self.puppet.motion
                    frame = (first + frame_at(time.monotonic() - since, motion.fps, motion.frames)) % motion.frames
                    if frame != self.puppet.frame:
                        self.puppet.frame = frame
                        self._changed = dict.fromkeys(self._changed, time.monotonic())
                frame, waiting = self.puppet.frame, dict(self._changed)
            if self._playing and self._frame.value != frame:
                self._frame.value = frame
            clients = self.server.get_clients()
            for client_id, changed in waiting.items():
                if client_id in clients:
                    self._serve(client_id, clients[client_id], changed)

    def _serve(self, client_id: int, client: Any, changed: float) -> None:
        camera = client.camera
        if camera.update_timestamp == 0.0 or camera.image_height < 2:
            return
        full = int(min(max(camera.image_height, SMALLEST), LARGEST))
        quick = int(math.sqrt(1 / RATE / self._cost / max(camera.aspect, 0.1)))
        height = full if time.monotonic() - changed > STILL else min(max(quick, SMALLEST), full)
        if self._drawn.get(client_id, (0.0, 0)) >= (changed, height):
            return
        begin = time.perf_counter()
        seen = _camera(camera, height)
        picture = self.screenshot(seen)
        still = height == full
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a browser that was closed meanwhile
            client.scene.set_background_image(picture, format="jpeg", jpeg_quality=95 if still else 80)
        self._cost += 0.3 * ((time.perf_counter() - begin) / (seen.width * seen.height) - self._cost)
        self._drawn[client_id] = (changed, height)


def _camera(handle: Any, height: int) -> Camera:
    """The browser's camera (OpenCV's axes already), with pictures of this height."""
    width = max(2, round(height * handle.aspect))
    R = quat_to_matrix(torch.tensor(handle.wxyz, dtype=torch.float64)).T
    position = torch.tensor(handle.position, dtype=torch.float64)
    return Camera.from_focal(height / 2 / math.tan(handle.fov / 2), width, height, make_transform(R, -R @ position))
