// node tangents.cjs FOLDER: positions.f32, normals.f32, uvs.f32 of triangles' corners -> tangents.f32, by MikkTSpace.
const fs = require("fs");
const path = require("path");
const { generateTangents } = require(path.join(process.env.AVATAR3D_ENGINES, "node_modules", "mikktspace"));
const read = (name) => {
  const bytes = fs.readFileSync(path.join(process.argv[2], `${name}.f32`));
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
};
const tangents = generateTangents(read("positions"), read("normals"), read("uvs"));
fs.writeFileSync(path.join(process.argv[2], "tangents.f32"), Buffer.from(tangents.buffer, tangents.byteOffset, tangents.byteLength));
