"""Steps of `tools/make_head_asset.py`, one module per subject; nothing of it is needed at run time."""
