"""The names that users import: a test notices when one disappears."""

import avatar3d

NAMES = {
    "contact_sheet", "demo_clip", "drive", "export", "fit", "load", "load_avatar", "models", "open_capture", "ops",
    "reconstruct", "render", "save", "stabilize", "track", "types", "view",
}  # fmt: skip


def test_names_are_all_there_and_no_others():
    assert set(avatar3d.__all__) == NAMES
    assert all(getattr(avatar3d, name) is not None for name in NAMES)
    assert callable(avatar3d.track) and callable(avatar3d.export)  # not the packages of those names


def test_types_and_operations():
    for name in ("Avatar", "Camera", "Capture", "Motion", "Rig", "TextureSet", "Track"):
        assert hasattr(avatar3d.types, name)
    for name in ("skin", "rasterize", "interpolate", "sample_texture", "antialias", "ssim", "nearest_on_mesh"):
        assert callable(getattr(avatar3d.ops, name))
