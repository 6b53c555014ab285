"""Speech and text to motion: phones, their synthesis with known times, and what the mouth does in them."""

from avatar3d.drive.speech.closure import close_lips, lip_gap, open_lips, tooth_gap, touch_teeth
from avatar3d.drive.speech.coarticulation import articulate, closures, labiodentals
from avatar3d.drive.speech.phones import Phone, Speech, articulations
from avatar3d.drive.speech.rate import RATE
from avatar3d.drive.speech.synthesis import synthesize, voices

__all__ = [
    "RATE",
    "Phone",
    "Speech",
    "articulate",
    "articulations",
    "close_lips",
    "closures",
    "labiodentals",
    "lip_gap",
    "open_lips",
    "synthesize",
    "tooth_gap",
    "touch_teeth",
    "voices",
]
