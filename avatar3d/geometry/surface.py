"""Triangle meshes: normals, areas, adjacency."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.typing import typed


@typed
def face_normals(vertices: Float[Tensor, "*b v 3"], faces: Int[Tensor, "f 3"]) -> Float[Tensor, "*b f 3"]:
    """Outward normals whose length is twice the face's area."""
    a, b, c = (vertices.index_select(-2, faces[:, i].long()) for i in range(3))
    return torch.linalg.cross(b - a, c - a)


@typed
def vertex_normals(vertices: Float[Tensor, "*b v 3"], faces: Int[Tensor, "f 3"]) -> Float[Tensor, "*b v 3"]:
    """Area-weighted unit normals."""
    flat = face_normals(vertices, faces)
    out = torch.zeros_like(vertices)
    for i in range(3):
        out = out.index_add(-2, faces[:, i].long(), flat)
    return torch.nn.functional.normalize(out, dim=-1)


@typed
def edges(faces: Int[Tensor, "f 3"]) -> Int[Tensor, "e 2"]:
    """Unique undirected edges, lower index first."""
    pairs = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(1).values
    return torch.unique(pairs, dim=0)


@typed
def averaged(values: Float[Tensor, "v c"], faces: Int[Tensor, "f 3"], times: int) -> Float[Tensor, "v c"]:
    """Values of vertices drawn half-way to the mean of their neighbours', so many times."""
    e = edges(faces).long()
    both = torch.cat([e, e.flip(1)])
    count = torch.zeros(len(values)).index_add_(0, both[:, 0], torch.ones(len(both)))[:, None].clamp_min(1)
    for _ in range(times):
        mean = torch.zeros_like(values).index_add_(0, both[:, 0], values[both[:, 1]]) / count
        values = 0.5 * values + 0.5 * mean
    return values


@typed
def uniform_laplacian(faces: Int[Tensor, "f 3"], count: int) -> Tensor:
    """Sparse [v, v] umbrella operator: (L x)_i = x_i - mean of its neighbours."""
    e = edges(faces).long()
    i, j = torch.cat([e[:, 0], e[:, 1]]), torch.cat([e[:, 1], e[:, 0]])
    degree = torch.bincount(i, minlength=count).clamp_min(1).double()
    diagonal = torch.arange(count)
    index = torch.stack([torch.cat([i, diagonal]), torch.cat([j, diagonal])])
    values = torch.cat([-1 / degree[i], torch.ones(count, dtype=torch.float64)])
    return torch.sparse_coo_tensor(index, values, (count, count), check_invariants=True).coalesce()


@typed
def points_on_faces(
    vertices: Float[Tensor, "*b v 3"], faces: Int[Tensor, "f 3"], index: Int[Tensor, "n"], weights: Float[Tensor, "n 3"]
) -> Float[Tensor, "*b n 3"]:
    """Positions given by face and barycentric coordinates."""
    corners = faces[index.long()].long()
    return sum(vertices.index_select(-2, corners[:, i]) * weights[:, i, None].to(vertices) for i in range(3))  # type: ignore[return-value]
