"""Speech and text to motion: phones, what the mouth does in them, and everything that is on top of it."""

from avatar3d.drive.speech.closure import close_lips, lip_gap, open_lips, tooth_gap, touch_teeth
from avatar3d.drive.speech.coarticulation import articulate, closures, labiodentals
from avatar3d.drive.speech.cues import Cue
from avatar3d.drive.speech.editing import Keyframe, Region, edit
from avatar3d.drive.speech.learn_style import learn_style
from avatar3d.drive.speech.perform import perform
from avatar3d.drive.speech.performer import Performer
from avatar3d.drive.speech.phones import Phone, Speech, articulations
from avatar3d.drive.speech.rate import RATE
from avatar3d.drive.speech.settings import SpeechSettings
from avatar3d.drive.speech.style import Style, load_style, save_style
from avatar3d.drive.speech.synthesis import synthesize, voices

__all__ = [
    "RATE",
    "Cue",
    "Keyframe",
    "Performer",
    "Phone",
    "Region",
    "Speech",
    "SpeechSettings",
    "Style",
    "articulate",
    "articulations",
    "close_lips",
    "closures",
    "edit",
    "labiodentals",
    "learn_style",
    "lip_gap",
    "load_style",
    "open_lips",
    "perform",
    "save_style",
    "synthesize",
    "tooth_gap",
    "touch_teeth",
    "voices",
]
