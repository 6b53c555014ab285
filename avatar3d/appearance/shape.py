"""Brings a tracked head's shape to its outline in the frames: cranium, ears, jaw line, neck, profile.

Landmarks fix the face; the outline fixes what they cannot see. First the identity coefficients move, which carries
what is learned to where no outline was seen; a smooth free-form residual takes the rest.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse import coo_matrix, csr_matrix, diags, identity, kron
from scipy.sparse.linalg import splu
from torch import Tensor

from avatar3d.appearance.observe import Picture, posed_vertices
from avatar3d.appearance.regions import faces_in, hairy, region
from avatar3d.appearance.silhouette import contour_points, likely_skin
from avatar3d.geometry.colour import srgb_to_linear
from avatar3d.geometry.projection import project
from avatar3d.geometry.rotation import rotvec_to_matrix
from avatar3d.geometry.surface import averaged, edges, vertex_normals
from avatar3d.models.linear import LinearModel
from avatar3d.models.rig import build_rig
from avatar3d.types import Rig, Track
from avatar3d.typing import typed

ROUNDS = 3
SIGMA = 3e-3  # metres, of an outline point
DISCOUNT = 0.15  # neighbouring points and frames err together
HELD = 0.25e-3  # metres: how far landmarks may move across the line of sight
HELD_DEPTH = 1.5e-3  # and along it
SURE = 0.02  # residual of a landmark's embedding, of the inter-ocular distance, up to which it holds fully
LARGEST = 0.024  # metres, of the free-form residual
VOLUME_SIGMA = (0.015, 0.015)  # metres: of hair all around, and of what it is thicker on top
THICKEST = 0.04  # metres
FADE = 6  # edges over which hair begins
HAIR = 0.88  # of a hairstyle's outline is given to the head: its tips are thin
INWARD = 0.012  # metres: a scalp that seems this much smaller is a hairline


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """Outline points of all frames, as wanted displacements in model space."""

    corners: Tensor  # [n, 3] vertices
    weights: Tensor  # [n, 3]
    direction: Tensor  # [n, 3]
    distance: Tensor  # [n] metres along the direction
    certainty: Tensor  # [n]


@typed
def refine_shape(pictures: list[Picture], track: Track, model: LinearModel, *, rounds: int = ROUNDS) -> Track:
    """The track with identity and offsets changed such that the head's outline is that of the pictures.

    Args:
        pictures: Frames of the footage, of as many head poses as there are.
        track: Its track; poses and expressions stay.
        model: The model.
        rounds: Outlines are drawn, compared and corrected this often.
    """
    identity_now = track.identity.float().clone()
    k = model.identity_basis.shape[0]
    if len(identity_now) < k:
        identity_now = torch.cat([identity_now, torch.zeros(k - len(identity_now))])
    offsets = torch.zeros_like(model.template) if track.offsets is None else track.offsets.float().clone()
    start = identity_now.clone()
    for turn in range(rounds):
        now = replace(track, identity=identity_now, offsets=offsets)
        rig = build_rig(model, identity_now, offsets)
        rows = _observe(pictures, now, model, rig)
        if len(rows.distance) < 60:
            return track
        if turn == 0:
            offsets = offsets + _hair_volume(rows, rig)
            volume = offsets.clone()
            rig = build_rig(model, identity_now, offsets)
            rows = _observe(pictures, replace(track, identity=identity_now, offsets=offsets), model, rig)
        step = _identity_step(rows, model, identity_now, start, rig)
        identity_now = identity_now + step
        moved = torch.einsum("k,kvc->vc", step, model.identity_basis)
        gone = (_at(moved, rows) * rows.direction).sum(1)
        rows = replace(rows, distance=rows.distance - gone)
        free = offsets - volume + _free_step(rows, model, rig, offsets - volume)
        size = free.norm(dim=1, keepdim=True)
        offsets = volume + free * (LARGEST * torch.tanh(size / LARGEST) / size.clamp_min(1e-9))
    return replace(track, identity=identity_now, offsets=offsets)


def _at(values: Tensor, rows: _Rows) -> Tensor:
    return (values[rows.corners] * rows.weights[..., None]).sum(1)


def _observe(pictures: list[Picture], track: Track, model: LinearModel, rig: Rig) -> _Rows:
    frames = torch.tensor([p.frame for p in pictures])
    vertices = posed_vertices(model, track, frames)
    faces = rig.faces.long()
    hair, neck = faces_in(rig, hairy(rig)), faces_in(rig, region(rig, "neck"))
    face_vertices = region(rig, "face") & ~region(rig, "lip", "eyelid", "eyeball")
    R = rotvec_to_matrix(track.rotation[frames].float())
    parts = []
    for i, picture in enumerate(pictures):
        c = contour_points(picture.image, vertices[i], faces, picture.camera)
        if not len(c.face):
            continue
        T = picture.camera.T_camera_world.float()
        corners = faces[c.face]
        z = ((vertices[i][corners] * c.weights[..., None]).sum(1) @ T[2, :3]) + T[2, 3]
        distance = ((c.observed - c.drawn) * c.normal).sum(1) * z / picture.camera.focal
        across = torch.cat([c.normal, torch.zeros(len(c.normal), 1)], 1)
        direction = across @ T[:3, :3] @ R[i]
        tone = _tone(picture, vertices[i], faces, face_vertices)
        certainty = c.confidence * _plausible(c.inside, hair[c.face], tone)
        # from skin to something dark is a hairline, not the end of the head, unless the wall is as dark
        hairline = likely_skin(c.inside, tone) & (c.outside.mean(1) < 0.4 * c.inside.mean(1)) & (distance < INWARD)
        certainty = torch.where(hair[c.face] & (hairline | (distance < -INWARD)), 0.0, certainty)
        distance = torch.where(hair[c.face] & (distance > 0), HAIR * distance, distance)
        # a torso does not turn with the head, and the rim of the neck is no outline
        facing = T[2, :3] @ R[i][:, 2]
        steady = float(facing) < -0.96
        loose = neck[c.face]
        certainty = torch.where(loose & ((direction[:, 1] < -0.5) | (not steady)), 0.0, certainty)
        certainty = torch.where(loose, 0.3 * certainty, certainty)
        keep = certainty > 0.05
        parts.append((corners[keep], c.weights[keep], direction[keep], distance[keep], certainty[keep]))
    joined = [torch.cat(column) for column in zip(*parts, strict=True)] if parts else [torch.zeros(0)] * 5
    return _Rows(corners=joined[0], weights=joined[1], direction=joined[2], distance=joined[3], certainty=joined[4])


def _tone(picture: Picture, vertices: Tensor, faces: Tensor, wanted: Tensor) -> Tensor:
    """Median linear colour of the face where it turns to the camera."""
    T = picture.camera.T_camera_world.float()
    facing = vertex_normals(vertices, faces) @ T[2, :3] < -0.6
    xy = project(vertices[wanted & facing], picture.camera)
    h, w = picture.image.shape[:2]
    xy = xy[((xy > 0) & (xy < torch.tensor([w - 1.0, h - 1.0]))).all(1)].long().numpy()
    if not len(xy):
        return torch.tensor([0.3, 0.2, 0.15])
    return srgb_to_linear(torch.from_numpy(picture.image[xy[:, 1], xy[:, 0]]).float() / 255).median(0).values


def _plausible(inside: Tensor, hair: Tensor, tone: Tensor) -> Tensor:
    """Whether what lies inside an edge may be the head: skin, and on the scalp what most of the scalp looks like."""
    skin = likely_skin(inside, tone)
    if not hair.any():
        return skin.float()
    log = inside.clamp_min(2e-3).log()
    usual = log[hair].median(0).values
    alike = (log - usual).abs().mean(1) < 0.9
    return torch.where(hair, skin | alike, skin).float()


def _hair_volume(rows: _Rows, rig: Rig) -> Tensor:
    """Displacement of the scalp along its normals by what its outline stands off, alike all around and more upwards.

    Hair is about as thick where no outline shows it: without this a head seen from the front grows upwards alone.
    """
    faces, points = rig.faces.long(), rig.neutral.float()
    normal = vertex_normals(points, faces)
    share = averaged(hairy(rig).float()[:, None], faces, FADE)[:, 0]
    share = torch.where(region(rig, "ear") & ~hairy(rig), 0.0, share)
    around = normal * share[:, None]
    upwards = around * normal[:, 1:2].clamp_min(0)
    own = (share[rows.corners] * rows.weights).sum(1)
    if int((own > 0.5).sum()) < 20:
        return torch.zeros_like(points)
    A = torch.stack([(_at(field, rows) * rows.direction).sum(1) for field in (around, upwards)], 1).double()
    wanted, base = rows.distance.double(), (rows.certainty * own).double()
    x = torch.zeros(2, dtype=torch.float64)
    prior = torch.tensor(VOLUME_SIGMA, dtype=torch.float64) ** -2
    for _ in range(8):
        off = wanted - A @ x
        w = DISCOUNT * base / (1 + (off / (3 * SIGMA)).square()) / SIGMA**2
        x = torch.linalg.solve(A.T @ (A * w[:, None]) + prior.diag(), A.T @ (w * wanted))
    thickness = (x[0] + x[1] * normal[:, 1].clamp_min(0)).clamp(0, THICKEST).float()
    return around * thickness[:, None]


def _identity_step(rows: _Rows, model: LinearModel, now: Tensor, start: Tensor, rig: Rig) -> Tensor:
    """Gauss-Newton step of the identity: outline points, landmarks that stay, and the prior."""
    basis = model.identity_basis.float()
    J = torch.einsum("knic,ni,nc->nk", basis[:, rows.corners], rows.weights, rows.direction)
    robust = 1 / (1 + (rows.distance / (2 * SIGMA)).square())
    w = DISCOUNT * rows.certainty * robust / SIGMA**2
    H = J.T @ (J * w[:, None]) + torch.eye(len(now))
    b = J.T @ (w * rows.distance) - now
    if "mediapipe478" in model.landmarks:
        e = model.landmarks["mediapipe478"]
        use = e.residual < 0.05
        corners = model.faces[e.faces[use].long()].long()
        L = torch.einsum("knic,ni->nck", basis[:, corners], e.weights[use].float())
        firm = (SURE / e.residual[use].float()).clamp_max(1).square()
        L2 = L * (torch.tensor([HELD, HELD, HELD_DEPTH]) ** -2)[None, :, None] * firm[:, None, None]
        H += torch.einsum("nck,ncl->kl", L, L2)
        # landmarks are drawn to where tracking left them, everything else to the mean head
        b -= torch.einsum("nck,ncl,l->k", L, L2, now - start)
    return torch.linalg.solve(H.double(), b.double()).float()


def _free_step(rows: _Rows, model: LinearModel, rig: Rig, offsets: Tensor) -> Tensor:
    """Smooth displacement of the skin's vertices that takes what the identity leaves; eyes and mouth stay."""
    count = len(offsets)
    skin = ~region(rig, "eyeball", "iris", "pupil", "teeth", "gum", "tongue", "mouth_cavity", "eye_socket")
    robust = 1 / (1 + (rows.distance / (3 * SIGMA)).square())
    w = (DISCOUNT * rows.certainty * robust).double().numpy()
    n = len(w)
    row = np.repeat(np.arange(n), 9)
    column = (3 * rows.corners[:, :, None] + torch.arange(3)).reshape(n, 9).numpy().ravel()
    value = (rows.weights[:, :, None] * rows.direction[:, None]).reshape(n, 9).double().numpy().ravel()
    A = csr_matrix((value, (row, column)), (n, 3 * count))
    e = edges(rig.faces.long()).numpy()
    ones = np.ones(len(e))
    near = coo_matrix((ones, (e[:, 0], e[:, 1])), (count, count)).tocsr()
    near = near + near.T
    degree = np.asarray(near.sum(1)).ravel().clip(1)
    laplacian = identity(count) - diags(1 / degree) @ near
    # ears move as wholes; a neck bends little
    stiff = 1 + 30.0 * (region(rig, "ear") & ~hairy(rig)).double().numpy() + 4.0 * region(rig, "neck").double().numpy()
    tied = near.multiply(stiff[:, None]).tocsr()
    tied = tied.minimum(tied.T)
    membrane = diags(np.asarray(tied.sum(1)).ravel()) - tied
    smooth = 10.0 * laplacian.T @ diags(stiff) @ laplacian + 0.02 * membrane + 0.008 * identity(count)
    held = torch.stack([_held(rig)] * 3, 1) * torch.tensor([1.0, 1.0, 0.05])
    held = torch.where(skin[:, None], held, torch.tensor(1e4)).double().numpy().ravel()
    lhs = A.T @ diags(w) @ A + kron(smooth, identity(3)) + diags(held)
    rhs = A.T @ (w * rows.distance.double().numpy())
    if rig.landmark_faces is not None and rig.landmark_weights is not None:
        P = _landmark_rows(rig, count)
        firm = np.ones(P.shape[0] // 3)
        if "mediapipe478" in model.landmarks:
            firm = (SURE / model.landmarks["mediapipe478"].residual).clamp_max(1).square().double().numpy()
        lhs = lhs + P.T @ kron(diags(firm), diags([20.0, 20.0, 1.0])) @ P
    if model.mirror is not None:
        lhs, rhs = _with_symmetry(lhs, rhs, model.mirror, offsets, 0.15)
    return torch.from_numpy(splu(lhs.tocsc()).solve(rhs)).float().view(count, 3)


def _landmark_rows(rig: Rig, count: int) -> csr_matrix:
    """Maps displacements of all vertices `[3 v]` to those of the landmarks `[3 n]`."""
    corners = rig.faces.long()[rig.landmark_faces.long()].numpy()
    n = len(corners)
    rows = np.repeat(np.arange(n), 3)
    picks = csr_matrix((rig.landmark_weights.double().numpy().ravel(), (rows, corners.ravel())), (n, count))
    return kron(picks, identity(3)).tocsr()


def _with_symmetry(lhs, rhs, mirror: Tensor, offsets: Tensor, strength: float):
    count = len(offsets)
    swap = coo_matrix((np.ones(count), (np.arange(count), mirror.long().numpy())), (count, count))
    flip = kron(swap, diags([-1.0, 1.0, 1.0]))
    odd = (identity(3 * count) - flip).tocsr()
    lhs = lhs + strength * odd.T @ odd
    return lhs, rhs - strength * (odd.T @ (odd @ offsets.double().numpy().ravel()))


def _held(rig: Rig) -> Tensor:
    """How firmly landmarks hold every vertex: the middle of the face fully, its sides and the rest not at all."""
    points = rig.neutral.float()
    eyes = points[region(rig, "eyeball")] if region(rig, "eyeball").any() else points
    centre = eyes.mean(0)
    back = points[region(rig, "ear")].mean(0)[2] if region(rig, "ear").any() else centre[2] - 0.08
    azimuth = torch.atan2(points[:, 0].abs(), (points[:, 2] - back).clamp_min(1e-3))
    sides = ((1.0 - azimuth) / 0.35).clamp(0, 1)
    top = ((0.075 - (points[:, 1] - centre[1])) / 0.03).clamp(0, 1)
    return 3.0 * sides * top * region(rig, "face")
