"""MediaPipe's points on ICT-FaceKit's mesh: the head model is fitted to ICT's neutral surface, and its points are
projected onto that. So both models mean the same places of a face, and a tracker's error is the tracker's."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from truth_cases import skin

from avatar3d import ops
from avatar3d.geometry.surface import points_on_faces, vertex_normals
from avatar3d.geometry.transform import apply, procrustes
from avatar3d.models.ict import load_ict
from avatar3d.models.linear import LandmarkEmbedding, LinearModel

FACIAL = slice(17, 68)
"""iBUG's points without the jaw line, which the two schemes mark differently."""
REACH = 0.006
"""Points that lie farther than this from ICT's surface are not there, metres."""
ALONG, ACROSS, ANCHOR = 0.003, 0.0005, 0.004
"""Standard deviations of the dense fit: sliding along the surface, off the surface, at the anchors; metres."""
SHARE = 0.05
"""Weight of the dense terms, whose errors are not independent."""


def ict_with_landmarks(folder: Path, head: LinearModel) -> tuple[LinearModel, LinearModel]:
    """ICT with the 478 points (no irises), and the head model without the points that ICT lacks."""
    ict = load_ict(folder)
    anchors = torch.tensor(json.loads((folder / "vertex_indices.json").read_text())["idx_to_landmark_verts"])
    embedding, seen = _transfer(head, ict, ict.template[anchors[FACIAL]].double())
    own = head.landmarks["mediapipe478"]
    fewer = replace(own, residual=torch.where(seen, own.residual, torch.inf))
    return replace(ict, landmarks={"mediapipe478": embedding}), replace(head, landmarks={"mediapipe478": fewer})


def _transfer(head: LinearModel, ict: LinearModel, anchors: Tensor) -> tuple[LandmarkEmbedding, Tensor]:
    all68, points = head.landmarks["ibug68"], head.landmarks["mediapipe478"]
    faces, weights = all68.faces[FACIAL], all68.weights[FACIAL].double()
    kept = torch.nonzero((skin(ict) & ict.regions["face"])[ict.faces].all(1))[:, 0]
    surface = ict.template.double(), ict.faces[kept]
    tree = ops.face_tree(*surface)
    face = torch.nonzero(skin(head) & head.regions["face"])[:, 0]
    basis, template = head.identity_basis.double(), head.template.double()
    dense, sparse = basis[:, face], points_on_faces(basis, head.faces, faces, weights)
    identity = torch.zeros(len(basis), dtype=torch.float64)
    T = procrustes(points_on_faces(template, head.faces, faces, weights), anchors, with_scale=True)
    for _ in range(12):
        v = template + torch.einsum("k,kvc->vc", identity, basis)
        found = ops.nearest_on_mesh(apply(T, v[face]), *surface, tree=tree)
        near, use = found.point, found.distance < 0.02
        T = procrustes(v[face][use], near[use], with_scale=True)
        back = torch.linalg.inv(T)
        normal = vertex_normals(v, head.faces)[face][use]
        off = apply(back, near[use]) - template[face][use]
        rows = [
            (torch.einsum("kvc,vc->vk", dense[:, use], normal), (off * normal).sum(1), SHARE / ACROSS**2),
            (dense[:, use].flatten(1).T, off.flatten(), SHARE / ALONG**2),
            (
                sparse.flatten(1).T,
                (apply(back, anchors) - points_on_faces(template, head.faces, faces, weights)).flatten(),
                1 / ANCHOR**2,
            ),
        ]
        H = torch.eye(len(basis), dtype=torch.float64) + sum(w * J.T @ J for J, _, w in rows)
        identity = torch.linalg.solve(H, sum(w * J.T @ r for J, r, w in rows))
    v = template + torch.einsum("k,kvc->vc", identity, basis)
    places = apply(T, points_on_faces(v, head.faces, points.faces, points.weights.double()))
    found = ops.nearest_on_mesh(places, *surface, tree=tree)
    seen = (found.distance < REACH) & (torch.arange(478) < 468)
    residual = torch.where(seen, points.residual, torch.inf)
    weights = found.barycentrics.float()
    return LandmarkEmbedding(faces=kept[found.face], weights=weights, residual=residual), seen
