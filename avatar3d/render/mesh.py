"""Pictures of meshes: projection, visibility, texture, light and background, differentiable end to end."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d import ops
from avatar3d.geometry.projection import distort
from avatar3d.geometry.surface import vertex_normals
from avatar3d.render.shading import CLAY, shade, studio_light
from avatar3d.types import Camera
from avatar3d.typing import Backend, typed

NEAR = 0.01
"""Near plane, metres."""


@dataclass(frozen=True, kw_only=True)
class RenderedMesh:
    """A batch of pictures of a mesh."""

    rgb: Float[Tensor, "b h w 3"]
    """sRGB over the background; not clipped."""
    alpha: Float[Tensor, "b h w"]
    """Coverage, 0..1."""
    depth: Float[Tensor, "b h w"]
    """Along the optical axis, metres, 0 where there is nothing."""
    normals: Float[Tensor, "b h w 3"]
    """Unit, world space, 0 where there is nothing."""
    triangle: Int[Tensor, "b h w"]
    """Index of the face, -1 where there is nothing."""
    barycentrics: Float[Tensor, "b h w 3"]
    uv: Float[Tensor, "b h w 2"] | None
    """Texture coordinates, where the mesh has them."""


@typed
def render_mesh(
    vertices: Float[Tensor, "n v 3"],
    faces: Int[Tensor, "f 3"],
    cameras: Camera | Sequence[Camera],
    *,
    uvs: Float[Tensor, "u 2"] | None = None,
    uv_faces: Int[Tensor, "f 3"] | None = None,
    texture: Float[Tensor, "m th tw 3"] | None = None,
    vertex_colours: Float[Tensor, "m v 3"] | None = None,
    light: Float[Tensor, "9 3"] | None = None,
    normals: Float[Tensor, "n v 3"] | None = None,
    background: Float[Tensor, "..."] | None = None,
    mipmaps: bool = False,
    cull: bool = False,
    antialias: bool = True,
    neighbours: Int[Tensor, "f 3"] | None = None,
    backend: Backend = "auto",
) -> RenderedMesh:
    """Draws a batch of meshes, each through a camera.

    Differentiable in vertices, texture, colours, light, normals, background and the cameras' matrices.

    Args:
        vertices: World space, metres. One mesh may be drawn through many cameras.
        faces: Corners of every triangle.
        cameras: One for all meshes, or one for each; all of one size. Lens distortion is applied to the vertices.
        uvs: Texture coordinates, 0..1, origin at the lower left.
        uv_faces: Rows of `uvs` for every corner; `faces` when left out.
        texture: sRGB base colour, 0..1, row 0 the top (v = 1); one for all or one for each.
        vertex_colours: sRGB, in place of a texture.
        light: Irradiance in world space, see `shading.shade`. Without one, colours are drawn as they are; a mesh
            without colours is drawn as clay under `studio_light`.
        normals: Per vertex, world space; area-weighted when left out.
        background: sRGB, three numbers or an image of the pictures' size; white when left out.
        mipmaps: Read the texture between two levels of a pyramid, by how much of it a pixel covers: for pictures that
            are much smaller than the texture.
        cull: Leave out triangles that are seen from behind.
        antialias: Smooth the outlines of colour and alpha. Without it no gradient tells the vertices where an outline
            should lie.
        neighbours: `ops.face_neighbours(faces)`, for antialiasing; computed when left out.
        backend: As for the operations.

    Raises:
        ValueError: cameras differ in size or number, or a texture without coordinates.
    """
    cameras = [cameras] if isinstance(cameras, Camera) else list(cameras)
    width, height = check_cameras(cameras, vertices.shape[0])
    if texture is not None and uvs is None:
        raise ValueError("render_mesh: a texture was given without texture coordinates; pass uvs (and uv_faces).")
    points = camera_points(vertices, cameras)
    b = points.shape[0]
    K = torch.stack([c.K.to(points) for c in cameras]).expand(b, -1, -1)
    raster = ops.rasterize(points, faces, K, width, height, near=NEAR, cull=cull, backend=backend)
    triangle, barycentrics, depth = raster

    def spread(attributes: Tensor, corners: Tensor) -> Tensor:
        return ops.interpolate(attributes.to(points), corners, triangle, barycentrics, backend=backend)

    shading_normals = vertex_normals(vertices, faces) if normals is None else normals
    normal_image = torch.nn.functional.normalize(spread(shading_normals, faces), dim=-1)
    uv = None if uvs is None else spread(uvs[None], faces if uv_faces is None else uv_faces)
    if texture is not None and uvs is not None and uv is not None:
        level = None
        if mipmaps:
            steps = ops.screen_derivatives(raster, points, faces, K, backend=backend)
            corners = faces if uv_faces is None else uv_faces
            duv_dx, duv_dy = (
                ops.interpolate(uvs[None].to(points), corners, triangle, step, backend=backend) for step in steps
            )
            level = ops.texture_level(duv_dx, duv_dy, texture.shape[1], texture.shape[2])
        albedo = ops.sample_texture(texture.to(points), uv, level, backend=backend)
    elif vertex_colours is not None:
        albedo = spread(vertex_colours, faces)
    else:
        albedo = points.new_tensor(CLAY).expand(b, height, width, 3)
        light = studio_light().to(points) if light is None else light
    alpha = (triangle >= 0).to(points)
    behind = points.new_ones(3) if background is None else background.to(points)
    rgb = torch.where(triangle[..., None] >= 0, shade(albedo, normal_image, light), behind)
    if antialias:
        image = torch.cat([rgb, alpha[..., None]], -1)
        image = ops.antialias(image, raster, points, faces, K, near=NEAR, neighbours=neighbours, backend=backend)
        rgb, alpha = image[..., :3], image[..., 3]
    return RenderedMesh(
        rgb=rgb, alpha=alpha, depth=depth, normals=normal_image, triangle=triangle, barycentrics=barycentrics, uv=uv
    )


def check_cameras(cameras: Sequence[Camera], meshes: int) -> tuple[int, int]:
    """The cameras' common size (width, height).

    Raises:
        ValueError: sizes differ, or neither one camera nor one for each mesh nor one mesh.
    """
    if not cameras or (len(cameras) != meshes and 1 not in (len(cameras), meshes)):
        raise ValueError(f"render_mesh: {len(cameras)} cameras for {meshes} meshes; pass one, or one for each.")
    sizes = {(c.width, c.height) for c in cameras}
    if len(sizes) > 1:
        raise ValueError(f"render_mesh: cameras of different sizes {sorted(sizes)}; draw them one by one.")
    return sizes.pop()


def camera_points(vertices: Float[Tensor, "n v 3"], cameras: Sequence[Camera]) -> Float[Tensor, "b v 3"]:
    """World to camera space, metres; with lens distortion, moved sideways to where the lens shows them."""
    T = torch.stack([c.T_camera_world.to(vertices) for c in cameras])
    points = vertices @ T[:, :3, :3].transpose(1, 2) + T[:, None, :3, 3]
    if all(c.distortion is None for c in cameras):
        return points
    moved = []
    for i in range(points.shape[0]):
        p, distortion = points[i], cameras[i % len(cameras)].distortion
        if distortion is not None:
            z = p[:, 2:].clamp_min(NEAR)
            bent = torch.cat([distort(p[:, :2] / z, distortion.to(p)) * z, p[:, 2:]], -1)
            p = torch.where(p[:, 2:] > NEAR, bent, p)
        moved.append(p)
    return torch.stack(moved)
