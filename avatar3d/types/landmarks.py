"""Facial landmark schemes: MediaPipe's 478 points and iBUG's 68, and how they correspond.

Left is the subject's left.
"""

IBUG68_FROM_MEDIAPIPE: tuple[int, ...] = (
    # jaw, from the subject's right ear to the left
    162, 234, 93, 132, 58, 136, 150, 176, 152, 400, 379, 365, 288, 361, 323, 454, 389,
    # brows, right then left
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
    # nose: bridge, then nostrils from right to left
    168, 197, 5, 4, 75, 97, 2, 326, 305,
    # lids, right then left
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    # lips, outer then inner, from the right corner over the upper lip
    61, 39, 37, 0, 267, 269, 291, 321, 314, 17, 84, 91, 78, 81, 13, 311, 308, 402, 14, 178,
)  # fmt: skip
"""For each of iBUG's 68 points the nearest of MediaPipe's.

Chosen by the mean distance over 13 annotated faces, keeping left and right alike. The two schemes do not mark the same
places: the jaw line differs by up to 9% of the inter-ocular distance along the contour.
"""

RIGHT_EYE_OUTER, LEFT_EYE_OUTER = 33, 263
"""MediaPipe's outer eye corners: their distance is the inter-ocular distance that errors are given in."""
