// The order in which splats are drawn: farthest first, by the depth of their centres. Runs in a worker.

/**
 * A function of posed vertices (four numbers each), components of the expression, and the camera's row of depth
 * [x, y, z, offset], that returns the splats' order. It stands alone: its source text goes into the worker.
 * @param splats corners [n, 3], weights [n, 2] of the second and third corner, offsets [n, 3] in metres on the neutral
 *   face, where 1 / inverses [n] is the triangle's size; change [n, e, 3] of the offsets in steps
 */
export function makeSorter(splats) {
  const { count, size, corners, weights, offsets, inverses, change, components, step } = splats;
  const depths = new Float32Array(count);
  const bins = new Uint32Array(65537);

  function measure(vertices, values, row) {
    const [rx, ry, rz, r0] = row;
    for (let i = 0; i < count; i++) {
      const a = 4 * corners[3 * i], b = 4 * corners[3 * i + 1], c = 4 * corners[3 * i + 2];
      const ex = vertices[b] - vertices[a], ey = vertices[b + 1] - vertices[a + 1], ez = vertices[b + 2] - vertices[a + 2];
      const fx = vertices[c] - vertices[a], fy = vertices[c + 1] - vertices[a + 1], fz = vertices[c + 2] - vertices[a + 2];
      let ox = offsets[3 * i], oy = offsets[3 * i + 1], oz = offsets[3 * i + 2];
      for (let e = 0, from = 3 * i * components; e < components; e++, from += 3) {
        const factor = values[e] * step;
        ox += factor * change[from];
        oy += factor * change[from + 1];
        oz += factor * change[from + 2];
      }
      // Along the camera's axis: the frame's x is the first edge, z the normal, y = z x x; size sqrt(|normal|).
      const nx = ey * fz - ez * fy, ny = ez * fx - ex * fz, nz = ex * fy - ey * fx;
      const area = Math.sqrt(nx * nx + ny * ny + nz * nz);
      const inverse = area > 1e-20 ? 1 / area : 0;
      const edge = 1 / Math.max(1e-20, Math.sqrt(ex * ex + ey * ey + ez * ez));
      const alongX = (rx * ex + ry * ey + rz * ez) * edge;
      const alongZ = (rx * nx + ry * ny + rz * nz) * inverse;
      const yx = ny * ez - nz * ey, yy = nz * ex - nx * ez, yz = nx * ey - ny * ex;
      const alongY = (rx * yx + ry * yy + rz * yz) * inverse * edge;
      const u = weights[2 * i], v = weights[2 * i + 1];
      depths[i] = r0 +
        rx * (vertices[a] + u * ex + v * fx) + ry * (vertices[a + 1] + u * ey + v * fy) +
        rz * (vertices[a + 2] + u * ez + v * fz) +
        Math.sqrt(area) * inverses[i] * (alongX * ox + alongY * oy + alongZ * oz);
    }
  }

  return function sort(vertices, values, row) {
    measure(vertices, values, row);
    let low = Infinity, high = -Infinity;
    for (let i = 0; i < count; i++) {
      if (depths[i] < low) low = depths[i];
      if (depths[i] > high) high = depths[i];
    }
    const scale = 65535 / Math.max(1e-9, high - low);
    bins.fill(0);
    for (let i = 0; i < count; i++) bins[((high - depths[i]) * scale | 0) + 1]++;
    for (let i = 1; i < bins.length; i++) bins[i] += bins[i - 1];
    const order = new Uint32Array(size); // whole rows of a texture
    for (let i = count - 1; i >= 0; i--) order[bins[(high - depths[i]) * scale | 0]++] = i; // of equals the last first
    return order;
  };
}

/** What the worker runs: the first message is the splats, every further one a pose to sort for. */
function listen() {
  let sort = null;
  self.onmessage = ({ data }) => {
    if (!sort) sort = makeSorter(data);
    else {
      const order = sort(data.vertices, data.values, data.row);
      self.postMessage(order, [order.buffer]);
    }
  };
}

/** A worker that sorts, or null where the browser allows none. */
export function startWorker(splats) {
  try {
    const source = new Blob([`${makeSorter}\n(${listen})();`], { type: "text/javascript" });
    const worker = new Worker(URL.createObjectURL(source));
    worker.postMessage(splats);
    return worker;
  } catch {
    return null;
  }
}
