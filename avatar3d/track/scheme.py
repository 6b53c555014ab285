"""What is where in the 478 landmarks. Right and left are the subject's."""

COUNT = 478
FACE = 468
"""Landmarks of the face without the irises."""
RIGHT_EYE, LEFT_EYE = 33, 263
"""Outer corners."""
OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150,
    136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
LID_PAIRS = (
    (161, 163), (160, 144), (159, 145), (158, 153), (157, 154),
    (388, 390), (387, 373), (386, 374), (385, 380), (384, 381),
)  # fmt: skip
"""Points of the upper and the lower lid margin that meet when the eye closes."""
LIP_PAIRS = (
    (191, 95), (80, 88), (81, 178), (82, 87), (13, 14), (312, 317), (311, 402), (310, 318), (415, 324),
)  # fmt: skip
"""Points of the inner margin of upper and lower lip that meet when the mouth closes."""
LIDS = (33, 133, 246, 173, 7, 155, 263, 362, 466, 398, 249, 382, *(i for pair in LID_PAIRS for i in pair))
LIPS_INNER = (78, 308, *(i for pair in LIP_PAIRS for i in pair))
IRISES = tuple(range(468, 478))
MOVING = frozenset(
    (
        *LIDS, *LIPS_INNER, *IRISES,
        0, 11, 12, 15, 16, 17, 18, 37, 38, 39, 40, 41, 42, 61, 62, 72, 73, 74, 76, 77, 83, 84, 85, 86, 89, 90, 91, 96,
        146, 180, 181, 182, 183, 184, 185, 194, 199, 200, 201, 204, 208, 211, 32, 106, 43, 57, 106, 140, 148, 152, 171,
        175, 176, 262, 267, 268, 269, 270, 271, 272, 291, 292, 302, 303, 304, 306, 307, 313, 314, 315, 316, 319, 320,
        321, 325, 335, 375, 377, 396, 400, 403, 404, 405, 406, 407, 408, 409, 418, 421, 424, 428, 431, 273, 287, 369,
    )
)  # fmt: skip
"""Lips, chin, lids and irises: what moves most against the skull."""
