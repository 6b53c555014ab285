"""Runs inside Blender: imports a GLB and dumps what it found.

python blender_dump.py avatar.glb out.npz fps times...   (with the module bpy), or
blender -b --factory-startup -P blender_dump.py -- avatar.glb out.npz fps times...
"""

import sys

import bpy
import numpy as np

glb, out, fps, *times = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:]
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
rate = round(float(fps))
scene.render.fps = rate  # the importer places keys at time x this, between frames where need be
bpy.ops.import_scene.gltf(filepath=glb)
mesh = next(o for o in scene.objects if o.type == "MESH" and o.data.shape_keys)
armature = next(o for o in scene.objects if o.type == "ARMATURE")


def coordinates(items) -> np.ndarray:
    """Back to glTF's axes: Blender's importer turns +y up into +z up."""
    flat = np.empty(3 * len(items))
    items.foreach_get("co", flat)
    x, y, z = flat.reshape(-1, 3).T
    return np.stack([x, z, -y], 1)


basis, *keys = mesh.data.shape_keys.key_blocks
posed = []
for time in times:
    frame = float(time) * rate
    scene.frame_set(int(frame), subframe=frame - int(frame))
    evaluated = mesh.evaluated_get(bpy.context.evaluated_depsgraph_get())
    posed.append(coordinates(evaluated.to_mesh().vertices))
    evaluated.to_mesh_clear()
image = next((i for i in bpy.data.images if i.size[0] > 0 and "albedo" in i.name), None)
moved = mesh.data.shape_keys.animation_data
np.savez(
    out,
    version=bpy.app.version_string,
    names=[key.name for key in keys],
    basis=coordinates(basis.data),
    morphs=np.stack([coordinates(key.data) for key in keys]) - coordinates(basis.data),
    bones=[bone.name for bone in armature.data.bones],
    texture=list(image.size) if image else [0, 0],
    actions=[action.name for action in bpy.data.actions],
    shape_action=moved.action.name if moved and moved.action else "",
    posed=np.array(posed),
)
