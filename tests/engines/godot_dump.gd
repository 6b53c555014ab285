# Runs inside Godot 3: writes what it imported from res://avatar.glb to res://out.json and res://out.f32.
extends SceneTree


func find(node, kind):
	if node.is_class(kind):
		return node
	for child in node.get_children():
		var hit = find(child, kind)
		if hit:
			return hit
	return null


func store(file, points):
	for p in points:
		file.store_float(p.x)
		file.store_float(p.y)
		file.store_float(p.z)


func _init():
	var scene = load("res://avatar.glb").instance()
	var mesh = find(scene, "MeshInstance").mesh
	var skeleton = find(scene, "Skeleton")
	var player = find(scene, "AnimationPlayer")
	var names = []
	for i in mesh.get_blend_shape_count():
		names.append(mesh.get_blend_shape_name(i))
	var bones = []
	for i in skeleton.get_bone_count():
		bones.append(skeleton.get_bone_name(i))
	var file = File.new()
	file.open("res://out.f32", File.WRITE)
	store(file, mesh.surface_get_arrays(0)[Mesh.ARRAY_VERTEX])
	for target in mesh.surface_get_blend_shape_arrays(0):
		store(file, target[Mesh.ARRAY_VERTEX])
	file.close()
	file.open("res://out.json", File.WRITE)
	var found = {"version": Engine.get_version_info().string, "names": names, "bones": bones, "actions": []}
	if player:
		found["actions"] = Array(player.get_animation_list())
	var texture = mesh.surface_get_material(0).albedo_texture
	found["texture"] = [texture.get_width(), texture.get_height()] if texture else null
	file.store_string(to_json(found))
	file.close()
	quit()
